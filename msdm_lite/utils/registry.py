"""Names for objects that a user chooses by name: guidances, samplers, schedules, methods, front ends, models, studies.

A decorator adds an object, from this package or from a user's module. Chapter: `book/11-beyond-the-paper.ipynb`.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from msdm_lite.errors import InputError

T = TypeVar("T")


class Registry(dict[str, T], Generic[T]):
    """Objects of one kind by name. `@registry.register("name")` adds one, `registry.find("name")` returns it."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def register(self, name: str, item: T | None = None) -> Callable[[T], T]:
        """Add `item`, or what the decorator is above, under a name.

        A function or class that a cell or a module defines once more replaces its earlier self.

        Raises:
            InputError: another object has that name.
        """
        def add(item: T) -> T:
            if name in self and self[name] is not item and not _same_definition(self[name], item):
                raise InputError(f"there is a {self.kind} {name!r} already")
            self[name] = item
            return item

        if item is not None:
            add(item)
        return add

    def find(self, name: str) -> T:
        """The object of that name.

        Raises:
            InputError: there is none; the message lists the names.
        """
        if name not in self:
            raise InputError(f"there is no {self.kind} {name!r}; there are {', '.join(self)}")
        return self[name]


def _same_definition(a: object, b: object) -> bool:
    """Whether two functions or classes have one name in one module: one of them was defined anew."""
    names = [(getattr(x, "__module__", None), getattr(x, "__qualname__", None)) for x in (a, b)]
    return names[0] == names[1] and None not in names[0]
