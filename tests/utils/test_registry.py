import pytest

from msdm_lite.errors import InputError
from msdm_lite.utils.registry import Registry


def test_a_decorator_or_a_call_adds_an_object():
    shapes = Registry("shape")

    @shapes.register("circle")
    class Circle:
        pass

    shapes.register("number", 7)
    assert shapes.find("circle") is Circle and shapes.find("number") == 7 and list(shapes) == ["circle", "number"]
    shapes.register("circle", Circle)  # a module that is imported twice changes nothing
    with pytest.raises(InputError, match="there is a shape 'circle' already"):
        shapes.register("circle", 8)
    with pytest.raises(InputError, match="no shape 'square'; there are circle, number"):
        shapes.find("square")


def test_what_a_cell_defines_anew_replaces_its_earlier_self():
    shapes = Registry("shape")

    def define(size):
        @shapes.register("square")
        class Square:
            side = size

        return Square

    define(1)
    second = define(2)
    assert shapes.find("square") is second and second.side == 2
    with pytest.raises(InputError, match="there is a shape 'square' already"):
        shapes.register("square", define)
    shapes.register("number", 7)
    with pytest.raises(InputError, match="there is a shape 'number' already"):
        shapes.register("number", 8)
