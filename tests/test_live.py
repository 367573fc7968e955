import ipywidgets
import pytest

from msdm_lite.errors import InputError
from msdm_lite.live import live


@pytest.fixture
def drawn():
    calls = []

    def draw(hours, machine):
        calls.append((hours, machine))
    draw.calls = calls
    return draw


CONTROLS = {"hours": ((10, 1000, 10), 100), "machine": (["one", "two"], "two")}


def test_in_a_page_it_is_drawn_once(drawn, monkeypatch):
    monkeypatch.setenv("MSDM_LITE_STATIC", "1")
    monkeypatch.setattr(ipywidgets, "interact", lambda *_, **__: pytest.fail("a widget in a page is an empty frame"))
    assert live(drawn, **CONTROLS) is None and drawn.calls == [(100, "two")]


def test_with_a_kernel_it_answers_to_its_controls(drawn, monkeypatch):
    monkeypatch.delenv("MSDM_LITE_STATIC", raising=False)
    made = {}
    monkeypatch.setattr(ipywidgets, "interact", lambda draw, **widgets: made.update(widgets))
    live(drawn, **CONTROLS, rate=((0.0, 1.0, 0.1), 0.5))
    assert [type(w) for w in made.values()] == [ipywidgets.IntSlider, ipywidgets.Dropdown, ipywidgets.FloatSlider]
    assert (made["hours"].value, made["hours"].max, made["machine"].value) == (100, 1000, "two")


def test_a_control_needs_a_beginning(drawn):
    with pytest.raises(InputError, match="hours is given as"):
        live(drawn, hours=(10, 1000, 10))
