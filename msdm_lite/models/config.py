"""Configurations and presets of the models. Chapter: `book/04-joint-unet.ipynb`."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from msdm_lite.audio.io import MIX, SAMPLE_RATE, STEMS
from msdm_lite.audio.levels import MIXTURE_RMS, STEM_RMS
from msdm_lite.audio.sketch import GROUPS
from msdm_lite.errors import InputError
from msdm_lite.models.base import TrainingDefaults
from msdm_lite.models.unet1d import PRESETS as NETS
from msdm_lite.models.unet1d import UNet1dConfig


@dataclass(frozen=True)
class WaveConfig:
    """Everything that determines the shape of a `WaveModel`; stored with its weights."""

    preset: str
    stems: tuple[str, ...] = STEMS
    sample_rate: int = SAMPLE_RATE
    net: UNet1dConfig = field(default_factory=UNet1dConfig)
    sigma_data: float = 0.2  # standard deviation of the stems; the paper's
    levels: tuple[float, float] = (-3.0, 1.0)  # mean and standard deviation of ln sigma in training; the paper's
    stem_rms: float | None = STEM_RMS  # see `Config`
    mixture_rms: float | None = None
    task = "wave"  # not a field: a configuration of another kind

    @property
    def bins(self) -> int:
        """Samples in a block."""
        return self.net.downsampling

    @property
    def frames(self) -> int:
        """Blocks in a segment."""
        return self.net.segment // self.net.downsampling

    def finetuned(self, wanted: "Config | WaveConfig") -> "WaveConfig":
        """The configuration of a model that is fine-tuned from this one: other stems, all else as it is."""
        return replace(self, stems=wanted.stems, net=replace(self.net, stems=len(wanted.stems)))

    def to_dict(self) -> dict[str, Any]:
        """As types of JSON."""
        return {"front": "wave", **asdict(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "WaveConfig":
        """The inverse of `to_dict`."""
        rest = {key: value for key, value in values.items() if key != "front"}
        lists: dict[str, Any] = {key: tuple(rest[key]) for key in ("stems", "levels") if key in rest}
        return cls(**rest | lists | {"net": UNet1dConfig(**rest["net"])})


WAVE_PRESETS = {name: WaveConfig(name, net=net) for name, net in NETS.items()}
# The paper's values are for louder stems and a far larger net; these are those of its twin `tiny`
WAVE_PRESETS["tiny-wave"] = WaveConfig("tiny-wave", net=NETS["tiny-wave"], sigma_data=0.06,
                                      levels=TrainingDefaults.levels)


@dataclass(frozen=True)
class Config:
    """Everything that determines the shape of a model of MDCT spectrograms or sketches; stored with its weights."""

    preset: str
    stems: tuple[str, ...] = STEMS
    sample_rate: int = SAMPLE_RATE
    bins: int = 1024  # of the MDCT, and its hop in samples
    frames: int = 72  # of one segment
    bands: tuple[tuple[int, int], ...] = ((256, 8), (256, 16), (512, 32))  # (bins, bins in a row), low to high
    widths: tuple[int, ...] = (64, 96, 128, 192)
    blocks: tuple[int, ...] = (1, 2, 2, 2)
    embedding_width: int = 256
    heads: int = 4
    task: str = "denoise"  # or "separate" (supervised), "guided" (takes the mixture), "sketch", or one of `TASKS`
    # (bins, bins in a band) of the sketches that it is conditioned on, or generates
    sketch: tuple[tuple[int, int], ...] = ()
    frames_per_column: int = 1  # frames in a column of the net
    beat_phase: bool = False  # of a sketcher: with beat conditioning
    front: str = "mdct"  # the front end, see `msdm_lite.audio.front_end.FRONT_ENDS`
    # Active RMS of a stem in training, which sounds are brought to. None: sounds are used as they are
    stem_rms: float | None = STEM_RMS
    mixture_rms: float | None = None  # the same of a mixture; None: that of stems of `stem_rms` without correlation
    tempi: tuple[float, ...] | None = None  # of training songs, for beat conditioning; None: those of the corpus

    def finetuned(self, wanted: "Config | WaveConfig") -> "Config":
        """The configuration of a model that is fine-tuned from this one: other stems, and the inputs that are wanted.

        Raises:
            InputError: `wanted` is of waveforms.
        """
        if isinstance(wanted, WaveConfig):
            raise InputError(f"a model of {wanted.preset} cannot start from one of {self.preset}: name its preset")
        return replace(self, stems=wanted.stems, sketch=wanted.sketch, beat_phase=wanted.beat_phase)

    def to_dict(self) -> dict[str, Any]:
        """As types of JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Config":
        """The inverse of `to_dict`."""
        lists = {key: tuple(map(tuple, v)) if key in ("bands", "sketch") else tuple(v) for key, v in values.items()
                 if isinstance(v, list)}
        return cls(**(values | lists))


PRESETS = {
    "lite": Config("lite", sketch=GROUPS),
    # lite with twice the width, for a GPU
    "large": Config("large", widths=(128, 192, 256, 384), embedding_width=512, sketch=GROUPS),
    "lite-sketch": Config("lite-sketch", frames=128, bands=((96, 2),), widths=(64, 128, 192), blocks=(2, 2, 2),
                          task="sketch", sketch=GROUPS, frames_per_column=4, beat_phase=True),
    # four of these have the size of one lite
    "lite-single": Config("lite-single", widths=(32, 48, 64, 96), embedding_width=128),
    # of all stems, with the size of one lite-single
    "lite-small": Config("lite-small", widths=(32, 48, 64, 96), embedding_width=128),
    # one channel, the mixture: to compare with joint models
    "lite-mix": Config("lite-mix", stems=(MIX,), mixture_rms=MIXTURE_RMS),
    "lite-supervised": Config("lite-supervised", task="separate"),
    "lite-guided": Config("lite-guided", task="guided"),
    "tiny": Config("tiny", widths=(32, 48, 64), blocks=(1, 1, 1), embedding_width=64, frames=48),
}


def preset(name: str, stems: Sequence[str] | None = None) -> Config | WaveConfig:
    """The configuration of that name, for the corpus's stems or for others.

    Args:
        stems: names of the stems, in order; those of the corpus if None.

    Raises:
        InputError: no such preset, no stems, repeated ones or names that no file can have, or stems for a model of
            mixtures.
    """
    presets = PRESETS | WAVE_PRESETS
    if name not in presets:
        raise InputError(f"there is no preset {name!r}; there are {', '.join(presets)}")
    config = presets[name]
    if config.stems == (MIX,):
        if stems is not None:
            raise InputError(f"{name} is a model of the mixture of all stems: it takes no stems")
        return config
    stems = STEMS if stems is None else tuple(stems)
    if not stems or len(set(stems)) < len(stems) or not all(re.fullmatch(r"[^\W_][\w -]*", stem) for stem in stems):
        raise InputError(f"stems are names such as {', '.join(STEMS)}, each once, not {', '.join(stems) or 'none'}")
    if MIX in stems:
        raise InputError(f"{MIX} is the sum of the stems, and no stem")
    if isinstance(config, WaveConfig):
        return replace(config, stems=stems, net=replace(config.net, stems=len(stems)))
    return replace(config, stems=stems)
