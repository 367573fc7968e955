import os

import ipywidgets
import pytest

from msdm_lite.errors import InputError
from msdm_lite.notebook.widgets import live


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


@pytest.fixture(scope="module")
def kernel():
    """A kernel of this environment, asked without nbclient: run(code) -> texts that it showed."""
    from jupyter_client.manager import start_new_kernel

    alive = {key: value for key, value in os.environ.items() if key != "MSDM_LITE_STATIC"}
    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=60, env=alive)

    def run(code):
        shown = []

        def hook(message):
            if message["msg_type"] in ("stream", "display_data", "error"):
                content = message["content"]
                shown.append(content.get("text") or content.get("evalue") or "".join(content["data"]))

        reply = client.execute_interactive(code, output_hook=hook, timeout=60)
        assert reply["content"]["status"] == "ok", shown
        return shown

    yield run
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_in_a_real_kernel_widgets_are_shown_and_answer(kernel):
    shown = kernel("calls = []\n"
                   "from msdm_lite.notebook.widgets import live\n"
                   "live(lambda hours, machine: calls.append((hours, machine)), "
                   "hours=((10, 1000, 10), 100), machine=(['one', 'two'], 'two'))\n"
                   "print(calls)")
    assert any("application/vnd.jupyter.widget-view+json" in one for one in shown), shown
    assert "[(100, 'two')]\n" in shown
    moved = kernel("import ipywidgets\n"
                   "from ipywidgets.widgets import widget\n"
                   "alive = getattr(widget, '_instances', None) or ipywidgets.Widget.widgets  # of 8, and of 7\n"
                   "slider = next(w for w in alive.values() if isinstance(w, ipywidgets.IntSlider))\n"
                   "slider.value = 500\n"
                   "print(calls)")
    assert "[(100, 'two'), (500, 'two')]\n" in moved
