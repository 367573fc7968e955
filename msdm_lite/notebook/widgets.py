"""Interactive plots: ipywidgets where a kernel runs, one static plot elsewhere.

`make book` sets MSDM_LITE_STATIC, because a widget in a static page is an empty frame. Chapter:
`book/13-scaling-up.ipynb`.
"""

import os
from collections.abc import Callable
from importlib.util import find_spec

from msdm_lite.errors import InputError


def live(draw: Callable, **controls) -> None:
    """Call draw with the values of the controls, and again whenever the reader changes one.

    If MSDM_LITE_STATIC is set, or without ipywidgets, draw is called once, with the initial values.

    Args:
        draw: creates and shows something; its arguments are the controls.
        controls: each a pair of what `ipywidgets.interact` takes, (low, high, step) or a list of choices, and the
            initial value: `hours=((10, 1000, 10), 100)`.

    Raises:
        InputError: a control without an initial value.
    """
    for name, control in controls.items():
        if not (isinstance(control, tuple) and len(control) == 2 and isinstance(control[0], tuple | list)):
            raise InputError(f"{name} is given as (what ipywidgets.interact takes, the value to begin with)")
    begin = {name: value for name, (_, value) in controls.items()}
    if os.environ.get("MSDM_LITE_STATIC") or find_spec("ipywidgets") is None:
        draw(**begin)
        return
    import ipywidgets

    widgets = {}
    for name, (kind, value) in controls.items():
        if isinstance(kind, list):
            widgets[name] = ipywidgets.Dropdown(options=kind, value=value, description=name)
        else:
            low, high, step = kind
            whole = all(isinstance(part, int) for part in (low, high, step, value))
            slide = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
            widgets[name] = slide(value=value, min=low, max=high, step=step, description=name, continuous_update=False)
    ipywidgets.interact(draw, **widgets)
