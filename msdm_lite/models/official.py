"""Reader of the authors' published checkpoints: a .ckpt of the official code (arXiv 2302.02257) becomes a `UNet1d`.

The weights have the names of audio-diffusion-pytorch 0.0.43; `official_names` maps them to the names of `UNet1d`.
`msdm_lite.models.unpickle` reads the file without running anything in it. Chapter: `book/13-scaling-up.ipynb`.
"""

import logging
import math
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from msdm_lite.diffusion.denoiser import Denoiser1d
from msdm_lite.errors import InputError
from msdm_lite.models import hyperparameters
from msdm_lite.models.archive import Archive
from msdm_lite.models.unet1d import ResBlock, UNet1d, UNet1dConfig
from msdm_lite.models.unpickle import Note, one_line

LOG = logging.getLogger("msdm_lite")

MOST_TENSORS, MOST_LEVELS = 2000, 32  # to build larger networks would take hours; the paper's has 434 and 6
# What a damaged zip or an impossible network can raise
DAMAGE = (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError, ValueError, TypeError, LookupError,
          ArithmeticError, struct.error, MemoryError)
PREFIXES = ("model.unet.", "model.diffusion.net.")  # files have the same tensors under both; the first is read

# Names of our parameters in the old library. For those that join several of its tensors see `official_names`.
RULES = [(re.compile(pattern), name) for pattern, name in (
    (r"^time\.frequencies$", "to_time.0.0.weights"),
    (r"^time\.layers\.0\.", "to_time.0.1."),
    (r"^time\.layers\.2\.", "to_mapping.0."),
    (r"^time\.layers\.4\.", "to_mapping.2."),
    (r"^project_in\b", "to_in.module_list.0.block"),
    (r"^project_out\b", "to_out.module_list.0.block"),
    (r"^bottom\.0\b", "bottleneck.pre_block"),
    (r"^bottom\.1\b", "bottleneck.attention.fn"),
    (r"^bottom\.2\b", "bottleneck.post_block"),
    (r"^down\.(\d+)\.downsample\b", r"downsamples.\1.downsample"),
    (r"^down\b", "downsamples"),
    (r"^up\.(\d+)\.upsample\b", r"upsamples.\1.upsample"),
    (r"^up\b", "upsamples"),
    (r"\.norm([12])\.", r".block\1.groupnorm."),
    (r"\.conv([12])\.", r".block\1.project."),
    (r"\.shortcut\.", ".to_out."),
    (r"\.transformer\.attention\.", ".transformer.attention.fn."),
    (r"\.fn\.norm\.weight$", ".fn.norm.g"),
    (r"\.fn\.out\.weight$", ".fn.attention.to_out.0.weight"),
    (r"\.fn\.out_norm\.weight$", ".fn.attention.to_out.1.g"),
    (r"\.feed_forward\.([03])\.weight$", r".feed_forward.\1.g"),
)]


def official_names(net: UNet1d) -> dict[str, list[tuple[str, tuple[int, ...]]]]:
    """For each parameter of the net, (name, shape) of the old library's tensors that it joins along axis 0.

    Raises:
        InputError: the network has a learned patch layer, which the old library does not have.
    """
    if net.config.learned_patch:
        raise InputError("the official network has no learned patch layer")

    def old(name: str) -> str:
        for pattern, replacement in RULES:
            name = pattern.sub(replacement, name)
        return name

    table: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    blocks = [old(f"{name}.") for name, module in net.named_modules() if isinstance(module, ResBlock)]
    for name, value in net.state_dict().items():
        shape, translated = tuple(value.shape), old(name)
        if name.startswith("film."):
            part = f"to_scale_shift.to_scale_shift.1.{name.removeprefix('film.')}"
            table[name] = [(block + part, (width, *shape[1:]))
                           for block, width in zip(blocks, net.film_widths, strict=True)]
        elif name.endswith(".qkv.weight"):
            stem, third = translated.removesuffix("qkv.weight"), shape[0] // 3
            table[name] = [(f"{stem}to_q.weight", (third, shape[1])), (f"{stem}to_kv.weight", (2 * third, shape[1]))]
        elif ".feed_forward." in name:  # convolutions and norms over (B, C, T) there
            table[name] = [(translated, (1, *shape, 1) if len(shape) == 1 else (*shape, 1))]
        else:
            table[name] = [(translated, shape)]
    return table


def translate(tensors: Mapping[str, Tensor], net: UNet1d) -> dict[str, Tensor]:
    """A state dict for the net from all its tensors under the old library's names, with the right shapes."""
    own = net.state_dict()
    return {name: torch.cat([tensors[old] for old, _ in parts]).reshape(own[name].shape)
            for name, parts in official_names(net).items()}


def infer(found: dict[str, tuple[int, ...]], heads: int = 8, groups: int = 8) -> UNet1dConfig:
    """The configuration of a network with tensors of these (old) names and shapes; no shape depends on heads, groups.

    Raises:
        InputError: no network of the paper's kind has such tensors.
    """
    down: list[tuple[int, ...]] = []
    while (key := f"downsamples.{len(down)}.downsample.weight") in found and len(down) < MOST_LEVELS:
        down.append(found[key])
    levels = range(len(down))
    try:
        channels = found["to_mapping.0.weight"][0] // 4
        full_rate, stems, _ = found["to_in.module_list.0.block.block1.project.weight"]
        feeds = [found[key][0] // width for level, (width, *_) in enumerate(down)
                 if (key := f"downsamples.{level}.transformer.feed_forward.1.weight") in found]
        attended = found["bottleneck.attention.fn.to_q.weight"][0]
        if attended % heads:
            raise InputError(f"attention of width {attended} cannot be divided into {heads} heads")
        return UNet1dConfig(
            stems=stems, channels=channels, patch=channels // full_rate,
            multipliers=(1, *(width // channels for width, *_ in down)),
            factors=tuple(kernel // 2 for *_, kernel in down),
            blocks=tuple(sum(bool(re.fullmatch(rf"downsamples\.{level}\.blocks\.\d+\.block1\.project\.weight", key))
                             for key in found) for level in levels),
            attention=tuple(int(any(key.startswith(f"downsamples.{level}.transformer.") for key in found))
                            for level in levels),
            heads=heads, head_width=attended // heads, feed_forward=feeds[0] if feeds else 2,
            groups=groups,
        )
    except KeyError as missing:
        raise InputError(f"the checkpoint lacks the tensor {missing.args[0]}") from None
    except (ValueError, IndexError, ZeroDivisionError) as problem:  # an InputError is a ValueError
        raise InputError(f"the checkpoint's tensors fit no network of the paper ({problem})") from None


def compare(found: dict[str, tuple[int, ...]], net: UNet1d) -> None:
    """Check that these (old) names and shapes are exactly those that the net needs.

    Raises:
        InputError: tensors are missing, additional or of another shape; the message names one.
    """
    needed = dict(part for parts in official_names(net).values() for part in parts)
    for what, names in (("lacks", needed.keys() - found.keys()),
                        ("has, and the network has not,", found.keys() - needed.keys())):
        if names:
            raise InputError(f"the checkpoint {what} {len(names)} tensors, for example {min(names)}")
    for name, shape in needed.items():
        if found[name] != shape:
            raise InputError(f"the checkpoint's {name} has the shape {found[name]}, where the network has {shape}")


def load_official(path: str | Path, heads: int | None = None, groups: int | None = None,
                  sigma_data: float | None = None) -> Denoiser1d:
    """The denoiser of a checkpoint of the official code (arXiv 2302.02257), on the CPU. Nothing in the file is run.

    The published network takes (B, 4, T): bass, drums, guitar, piano, at 22 050 Hz, in [-1, 1]; T a multiple of 8192.
    Every part of the file is compared with its checksum. A file without hyper-parameters is read, with a warning, if
    its tensors have the shapes of the paper's network.

    Args:
        heads: attention heads, on which no tensor's shape depends. Default: the file's hyper-parameter.
        groups: of the GroupNorms, likewise.
        sigma_data: standard deviation of the training data, likewise.

    Raises:
        InputError: no such file, no such checkpoint, a damaged one, one that refers to code, one with options that are
            not supported, or one that does not say what no shape shows.
    """
    path = Path(path)
    own = {hyperparameters.HEADS: heads, hyperparameters.GROUPS: groups, hyperparameters.SIGMA_DATA: sigma_data}
    try:
        with open(path, "rb") as raw:
            return load_archive(Archive(raw), {name: value for name, value in own.items() if value is not None})
    except InputError as problem:
        # Names may come from the file
        message = "".join(letter if letter.isprintable() else "?" for letter in str(problem))
        raise InputError(f"{path}: {message[:300]}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except DAMAGE as problem:
        raise InputError(f"{path}: not a checkpoint that PyTorch wrote, or not whole ({one_line(problem)})") from None


def load_archive(archive: Archive, own: dict[str, int | float]) -> Denoiser1d:
    """`load_official` of an open file, with hyper-parameters that replace the file's."""
    content = archive.content()
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise InputError("the checkpoint has no state_dict: it is not one of PyTorch Lightning")
    prefix = next((prefix for prefix in PREFIXES if any(name.startswith(prefix) for name in state)), None)
    if prefix is None:
        raise InputError(f"the checkpoint has no tensors named {PREFIXES[0]}...: it holds another model")
    for name in state:
        if not name.startswith(PREFIXES):
            raise InputError(f"the checkpoint has a tensor that the network has not: {name}")
    notes = {name.removeprefix(prefix): note for name, note in state.items() if name.startswith(prefix)}
    if len(notes) > MOST_TENSORS:
        raise InputError(f"the checkpoint has {len(notes)} tensors, more than any network of the paper's kind")
    found = {name: archive.check(name, note) for name, note in notes.items()}
    if sum(map(math.prod, found.values())) > archive.size // 2:  # at least two bytes for each value
        raise InputError("the checkpoint's tensors overlap: they are more than the file can hold")
    settings = hyperparameters.read(content.get("hyper_parameters")) | own
    if any(name not in settings for name in hyperparameters.PAPER):
        settings, assumed = hyperparameters.complete(settings, _if_papers(found))
        LOG.warning("the checkpoint does not say %s; its tensors are of the paper's network, so the paper's %s taken",
                    ", ".join(assumed), " and ".join(f"{settings[name]}" for name in assumed)
                    + (" is" if len(assumed) == 1 else " are"))
    heads, groups = (int(hyperparameters.number(settings, name)) for name in (
        hyperparameters.HEADS, hyperparameters.GROUPS))
    sigma_data = float(hyperparameters.number(settings, hyperparameters.SIGMA_DATA, whole=False))
    config = infer(found, heads, groups)
    hyperparameters.require_supported(settings, config)
    with torch.device("meta"):
        net = UNet1d(config)
    compare(found, net)
    net.load_state_dict(translate(_Tensors(archive, notes), net), assign=True)
    return Denoiser1d(net, sigma_data).eval().requires_grad_(False)


def _if_papers(found: dict[str, tuple[int, ...]]) -> UNet1dConfig | None:
    try:
        return infer(found)
    except InputError:
        return None


class _Tensors(Mapping[str, Tensor]):
    """The tensors of a file, each read when it is asked for, so that no two copies of all are in memory."""

    def __init__(self, archive: Archive, notes: dict[str, Note]):
        self.archive, self.notes = archive, notes

    def __getitem__(self, name: str) -> Tensor:
        value = self.archive.tensor(self.notes[name])
        if not value.isfinite().all():
            raise InputError("the checkpoint's weights are not all finite: it is damaged, or its training went wrong")
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self.notes)

    def __len__(self) -> int:
        return len(self.notes)
