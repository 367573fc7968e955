"""Fine-tuning: training that starts from the weights of another model, of the same stems or of others.

Chapter: `book/05-training.ipynb`; other stems: `book/13-scaling-up.ipynb`.
"""

import logging
import math
import re
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from msdm_lite.audio import beats
from msdm_lite.audio.io import MIX
from msdm_lite.errors import InputError
from msdm_lite.models.base import StemModel
from msdm_lite.training.recipe import Recipe

LOG = logging.getLogger("msdm_lite")

Label = tuple[str, Hashable]  # what a channel carries, and the stem that it is of (or MIX, or a number)
Axes = dict[int, list[Label]]  # axis of a tensor -> labels of its equal parts, in order


def start_from(start: StemModel, model: StemModel, recipe: Recipe, stems: tuple[str, ...],
               measure: Callable[[], Tensor] | None = None) -> None:
    """Copy into `model` the weights of `start` that fit, and say in a message what was reused if the stems differ.

    Channels of stems that both have are copied, also in another order; those of new stems keep their initial values.
    Other inputs that only `model` has (the sketch, the beat) get weights of zero, so that they have no influence at
    first.

    Args:
        stems: the stems of `model`, which the recipe names or its preset has.
        measure: returns the standard deviations of the stems of `model`, (S, bins); called only for new stems.

    Raises:
        InputError: `start` has another preset or sizes, or other stems that the recipe does not name, or has been
            trained as long already as the recipe says in all.
    """
    given, own = start.state_dict(), model.state_dict()
    if start.config.preset != recipe.preset or given.keys() != own.keys():
        raise InputError(f"{recipe.start} is no {recipe.preset} of {', '.join(stems)}: name its preset, or another "
                         "model to start with")
    if recipe.stems is None and start.stems != stems:
        raise InputError(f"{recipe.start} is no {recipe.preset} of {', '.join(stems)} but of {', '.join(start.stems)}: "
                         "name the stems with --stems, its own or others")
    done, wanted = (start.record.get("steps", 0), recipe.steps) if recipe.steps else (
        start.record.get("minutes", 0), recipe.minutes)
    if done >= wanted:
        raise InputError(f"{recipe.start} has {done:g} {'steps' if recipe.steps else 'minutes'} behind it, and they "
                         f"count: ask for more than that, not for {wanted:g}")
    reused = 0
    for name in own:
        value, count = _taken(given[name], own[name], stem_axes(start, name, given[name]),
                              stem_axes(model, name, own[name]), set(stems) - set(start.stems),
                              f"{recipe.start} is a {recipe.preset} of other sizes than this version's, from {name} on")
        own[name], reused = value, reused + count
    model.load_state_dict(own)
    if start.stems == stems:
        return
    kept, new = [s for s in stems if s in start.stems], [s for s in stems if s not in start.stems]
    std = getattr(model.denoiser, "std", None)
    if new and measure and std is not None:
        rows = [stems.index(stem) for stem in new]
        std[rows] = measure()[rows].to(std)
    parts = {"new": new, "kept": kept, "left out": [s for s in start.stems if s not in stems]}
    LOG.warning("%s: %.1f %% of the weights are reused; %s", recipe.start,
                100 * reused / sum(value.numel() for value in own.values()),
                "; ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names))


def stem_axes(model: StemModel, name: str, tensor: Tensor) -> Axes:
    """Which axes of a tensor of the model's state are divided by stems, and the label of each part; {} if none is.

    The parts of an axis have equal sizes: a convolution after space to depth has several channels for each input.
    """
    part = name.removeprefix("denoiser.")
    stems = model.stems
    x: list[Label] = [("x", stem) for stem in stems]
    if "std" not in dict(model.denoiser.named_buffers()):
        return _wave_axes(part, x, 0 if model.config.net.learned_patch else len(tensor))
    if part == "std":
        return {0: x}
    inputs, outputs, flags = x, x, [("known", MIX), *(("known", stem) for stem in stems)]
    if model.makes_sound:  # see `Denoiser`
        heard = [*stems, MIX]
        sketched = getattr(model.denoiser, "sketched", False)
        inputs = [(kind, stem) for kind in ("x", "log energy") for stem in heard]
        inputs += [("sketch", stem) for stem in stems if sketched]
        flags += [("sketch", MIX)] * sketched
        outputs = [(kind, stem) for kind in ("a", "g", "w") for stem in stems]
    elif model.config.beat_phase:  # see `SketchDenoiser`
        inputs = [*x, *(("beat", row) for row in range(beats.ROWS))]
    if part == "embed.layers.0.weight":
        level: list[Label] = [("level", i) for i in range(tensor.shape[1] - len(flags))]
        return {1: [*level, *flags]}
    if re.fullmatch(r"net\.space_to_depth\.project_in\.\d+\.weight", part):
        return {1: inputs}
    if re.fullmatch(r"net\.space_to_depth\.project_out\.\d+\.(weight|bias)", part):
        return {0: outputs}
    return {}


def _wave_axes(part: str, x: list[Label], rows: int) -> Axes:
    """`stem_axes` of the network of waveforms; `rows` of the tensor, or 0 for a learned patch."""
    if rows and part in ("net.film.weight", "net.film.bias"):  # its last parts are of the last block, of the stems
        film: list[Label] = [("film", i) for i in range(rows - 2 * len(x))]
        return {0: [*film, *((kind, stem) for kind in ("scale", "shift") for _, stem in x)]}
    if part == "net.project_in.weight" or re.fullmatch(r"net\.project_in\.(conv1|shortcut)\.weight", part):
        return {1: x}
    if part.startswith("net.project_in.norm1."):
        return {0: x}
    if part == "net.project_out.weight":  # of a transposed convolution: (inputs, outputs, taps)
        return {1: x}
    if part == "net.project_out.conv2.weight":
        return {0: x, 1: x}
    if part == "net.project_out.bias" or re.fullmatch(
            r"net\.project_out\.((conv1|shortcut)\.weight|(conv1|conv2|shortcut)\.bias|norm2\..*)", part):
        return {0: x}
    return {}


def _taken(given: Tensor, own: Tensor, theirs: Axes, ours: Axes, new: set[str], problem: str) -> tuple[Tensor, int]:
    """The values of `own` with those of `given` that have the same labels, and the number of values copied."""
    value = own.clone()
    if given.ndim != own.ndim:
        raise InputError(problem)
    to, of = [], []
    for axis, (here, there) in enumerate(zip(own.shape, given.shape, strict=True)):
        mine, other = ours.get(axis), theirs.get(axis)
        if mine is None or other is None:
            if here != there:
                raise InputError(problem)
            rows = sources = torch.arange(here)
        else:
            if here % len(mine) or there % len(other) or here // len(mine) != there // len(other):
                raise InputError(problem)
            both = [(i, other.index(label)) for i, label in enumerate(mine) if label in other]
            rows = _places([i for i, _ in both], here // len(mine))
            sources = _places([i for _, i in both], here // len(mine))
            absent = [i for i, label in enumerate(mine) if label not in other and label[1] not in new]
            value.index_fill_(axis, _places(absent, here // len(mine)), 0)
        shape = [-1 if i == axis else 1 for i in range(own.ndim)]
        to.append(rows.view(shape))
        of.append(sources.view(shape))
    value[tuple(to)] = given[tuple(of)].to(value)
    return value, math.prod(index.numel() for index in to)


def _places(parts: Sequence[int], size: int) -> Tensor:
    """Indices of parts of an axis, each of `size` places."""
    return (torch.tensor(parts, dtype=torch.long)[:, None] * size + torch.arange(size)).flatten()
