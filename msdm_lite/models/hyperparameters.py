"""The hyper-parameters in a checkpoint of the official code: what the shapes of its tensors do not say.

They are the arguments of a network of audio-diffusion-pytorch 0.0.43 and of its diffusion. An option that the network
here has not is refused by name, and so is a value that contradicts the tensors. Chapter: `book/13-scaling-up.ipynb`.
"""

import math
from dataclasses import replace
from typing import Any

from msdm_lite.errors import InputError
from msdm_lite.models.unet1d import PRESETS, UNet1dConfig
from msdm_lite.models.unpickle import Node

MOST_VALUES, DEEPEST = 10_000, 16  # of containers in containers, which a file can nest without end
LARGEST = 2**31  # whole number
HEADS, GROUPS, SIGMA_DATA = "attention_heads", "resnet_groups", "diffusion_sigma_data"
PAPER = {HEADS: PRESETS["paper"].heads, GROUPS: PRESETS["paper"].groups, SIGMA_DATA: 0.2}  # arXiv 2302.02257
SIGMA_DATA_RANGE = (1e-4, 100.0)  # in full scale

# Options of the library that have one value in this network
FIXED: dict[str, Any] = {
    "patch_blocks": 1, "kernel_multiplier_downsample": 2, "use_nearest_upsample": False, "use_skip_scale": True,
    "use_attention_bottleneck": True, "use_context_time": True, "diffusion_dynamic_threshold": 0,
}
# Names that begin like this change the network, in this version of the library or another. What is off may stand there
FAMILIES = ("attention", "channels", "context", "diffusion", "embedding", "encoder", "factors", "in_channels", "kernel",
            "multipliers", "num_", "out_", "patch", "resnet", "stft", "unet", "use_")
# Of training alone, and one that the library takes and does not use
WITHOUT_EFFECT = ("diffusion_sigma_distribution", "kernel_sizes_init")


def read(found: Any) -> dict[str, Any]:
    """The hyper-parameters as plain values, {} of None. Objects of other libraries stay `Inert`.

    Raises:
        InputError: they are no dictionary, nested without end, or have a number that is not finite or far too large.
    """
    left = MOST_VALUES

    def plain(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > DEEPEST:
            raise InputError("the checkpoint's hyper-parameters are far too many, or nested far too deep")
        if isinstance(value, Node):
            return plain(value.content, depth + 1)
        if isinstance(value, dict):
            return {key: plain(part, depth + 1) for key, part in value.items() if isinstance(key, str)}
        if isinstance(value, list | tuple):
            return [plain(part, depth + 1) for part in value]
        if (isinstance(value, float) and not math.isfinite(value)) or (
                isinstance(value, int) and not -LARGEST < value < LARGEST):
            raise InputError("the checkpoint's hyper-parameters have a number that is not finite, or far too large")
        return value

    if found is None:
        return {}
    settings = plain(found, 0)
    if not isinstance(settings, dict):
        raise InputError("the checkpoint's hyper-parameters are no dictionary")
    return settings


def number(settings: dict[str, Any], name: str, whole: bool = True) -> int | float:
    """A setting above 0.

    Raises:
        InputError: it is of another kind.
    """
    value = settings[name]
    if type(value) not in ((int,) if whole else (int, float)) or value <= 0:
        raise InputError(f"the checkpoint's {name} is {said(value)}, not a {'whole ' * whole}number above 0")
    if name == SIGMA_DATA and not SIGMA_DATA_RANGE[0] <= value <= SIGMA_DATA_RANGE[1]:
        raise InputError(f"the checkpoint's {name} is {said(value)}, out of reason")
    return value


def complete(settings: dict[str, Any], shape: UNet1dConfig | None) -> tuple[dict[str, Any], list[str]]:
    """The settings with what the paper says of those that the file lacks, and the names of these.

    Args:
        shape: what the tensors say, with the paper's heads and groups; None if they fit no such network.

    Raises:
        InputError: some are lacking, and the tensors do not show that it is the paper's network.
    """
    missing = [name for name in PAPER if name not in settings]
    if not missing:
        return settings, []
    is_paper = shape is not None and shape == replace(PRESETS["paper"], stems=shape.stems)
    if not is_paper or any(name.startswith(FAMILIES) for name in settings if name not in PAPER):
        raise InputError(f"the checkpoint does not say {', '.join(missing)}, which no shape of its tensors shows; "
                         "msdm_lite.models.official.load_official takes them as arguments")
    return settings | {name: PAPER[name] for name in missing}, missing


def require_supported(settings: dict[str, Any], shape: UNet1dConfig) -> None:
    """Check that every option is one of this network, and none contradicts the tensors.

    Raises:
        InputError: the message names the option and its value.
    """
    shown = {"in_channels": shape.stems, "channels": shape.channels, "patch_factor": shape.patch,
             "multipliers": list(shape.multipliers), "factors": list(shape.factors), "num_blocks": list(shape.blocks),
             "attentions": [bool(there) for there in shape.attention], "attention_features": shape.head_width,
             "attention_multiplier": shape.feed_forward}
    if not any(shape.attention):  # then no tensor shows it, and nothing depends on it
        del shown["attention_multiplier"]
    for name, value in settings.items():
        if name in shown and value != shown[name]:
            raise InputError(f"the checkpoint says {name} {said(value)}, and its tensors say {said(shown[name])}")
        if name in FIXED and value != FIXED[name]:
            raise InputError(f"the checkpoint has {name} {said(value)}; supported is {said(FIXED[name])}")
        known = name in shown or name in FIXED or name in PAPER or name in WITHOUT_EFFECT or (
            name == "attention_multiplier" or (name == "out_channels" and value == shape.stems))
        if name.startswith(FAMILIES) and not known and value not in (None, False, 0, [], {}):
            raise InputError(f"the checkpoint has {name} {said(value)}, an option that is not supported")


def said(value: Any) -> str:
    """A value in a message: short, and no code of an object of another library."""
    plain = value is None or isinstance(value, bool | int | float | str | list)
    return str(value)[:60] if plain else "an object"
