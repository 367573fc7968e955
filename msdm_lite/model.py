"""A model: a denoiser, the front end it works behind, and what it calls its stems.

Chapter: `book/04-joint-unet.ipynb`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from msdm_lite import wave
from msdm_lite.audio import MIX, SAMPLE_RATE, STEMS
from msdm_lite.diffusion import Denoiser, loss
from msdm_lite.errors import InputError
from msdm_lite.face import StemModel
from msdm_lite.known import Known
from msdm_lite.sketch import GROUPS, sketch, spread
from msdm_lite.transform import MDCT
from msdm_lite.unet import UNet2d


@dataclass(frozen=True)
class Config:
    """Everything that decides a model's shape; stored with its weights."""

    preset: str
    stems: tuple[str, ...] = STEMS
    sample_rate: int = SAMPLE_RATE
    bins: int = 1024  # of the MDCT; also its hop
    frames: int = 72  # of one segment
    bands: tuple[tuple[int, int], ...] = ((256, 8), (256, 16), (512, 32))  # (bins, how many make a row), low to high
    widths: tuple[int, ...] = (64, 96, 128, 192)
    blocks: tuple[int, ...] = (1, 2, 2, 2)
    told: int = 256
    heads: int = 4
    task: str = "denoise"  # or "separate" (supervised), "guided" (can be told the mixture), "sketch"
    sketch: tuple[tuple[int, int], ...] = ()  # (bins, how many make a band) of sketches that it can be told, or makes
    fold_frames: int = 1  # how many frames make a column of the net
    click: bool = False  # a sketcher that can hear one

    def to_dict(self) -> dict:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "Config":
        """What `to_dict` gave, back from JSON."""
        lists = {key: tuple(map(tuple, v)) if key in ("bands", "sketch") else tuple(v) for key, v in values.items()
                 if isinstance(v, list)}
        return cls(**(values | lists))


PRESETS = {
    "lite": Config("lite", sketch=GROUPS),
    "large": Config("large", widths=(128, 192, 256, 384), told=512, sketch=GROUPS),  # lite, twice as wide: for a GPU
    "lite-sketch": Config("lite-sketch", frames=128, bands=((96, 2),), widths=(64, 128, 192), blocks=(2, 2, 2),
                          task="sketch", sketch=GROUPS, fold_frames=4, click=True),
    "lite-single": Config("lite-single", widths=(32, 48, 64, 96), told=128),  # four of these are as large as one lite
    "lite-small": Config("lite-small", widths=(32, 48, 64, 96), told=128),  # of all stems, as large as one of them
    "lite-mix": Config("lite-mix", stems=(MIX,)),  # one channel, the sum: what a joint model is held to
    "lite-supervised": Config("lite-supervised", task="separate"),
    "lite-guided": Config("lite-guided", task="guided"),
    "tiny": Config("tiny", widths=(32, 48, 64), blocks=(1, 1, 1), told=64, frames=48),
}


class Model(StemModel):
    """A model of MDCT pictures."""

    takes_known = True
    shares = (0.4, 0.3, 0.2, 0.1)

    def __init__(self, config: Config, deviation: Tensor | None = None):
        S, sketched = len(config.stems), bool(config.sketch)
        if deviation is None:
            deviation = torch.full((S, config.bins), 0.05)
        net = UNet2d(list(config.bands), Denoiser.inputs_for(S, sketched), 3 * S, list(config.widths),
                     list(config.blocks), config.told, config.heads, config.fold_frames)
        super().__init__(config, Denoiser(net, deviation, config.told, sketched), MDCT(config.bins))
        self.sketched = 1 / 3 if sketched else 0.0

    def denoise(self, x: Tensor, sigma: Tensor, known: Known | None = None, sketch: Tensor | None = None) -> Tensor:
        """The denoiser contract, (B, S, bins, L) at level sigma (B,), perhaps told a sketch (B, S, bands, L).

        Raises:
            InputError: a sketch is given that the model cannot be told.
        """
        if sketch is None:
            return self.denoiser(x, sigma, known)
        if not self.denoiser.sketched:
            raise InputError("this model cannot be told a sketch")
        return self.denoiser(x, sigma, known, drawn=spread(sketch, self.config.sketch))

    def loss(self, x: Tensor, sigma: Tensor, known: Known, noise: Tensor, sketched: Tensor | None = None) -> Tensor:
        """The training loss of clean (B, S, bins, L) and white noise of that shape, one value an item: (B,).

        `sketched` (B,) says which items come with their sketch; none if not given.
        """
        drawn = None
        if sketched is not None and self.denoiser.sketched and sketched.any():
            drawn = spread(sketch(x, self.config.sketch), self.config.sketch)
        return loss(self.denoiser, x, sigma, known, n=noise, drawn=drawn, told=sketched if drawn is not None else None)


def preset(name: str, stems: Sequence[str] | None = None) -> Config | wave.WaveConfig:
    """The configuration of that name, for all stems or for these alone.

    Raises:
        InputError: no such preset, a stem that is none or is named twice, or stems of a model of mixes.
    """
    known = PRESETS | wave.PRESETS
    if name not in known:
        raise InputError(f"there is no preset {name!r}; there are {', '.join(known)}")
    config = known[name]
    if config.stems == (MIX,):
        if stems is not None:
            raise InputError(f"{name} learns what all stems sum to: it has none to choose from")
        return config
    stems = STEMS if stems is None else tuple(stems)
    if not stems or not set(stems) <= set(STEMS) or len(set(stems)) < len(stems):
        raise InputError(f"stems are some of {', '.join(STEMS)}, each once, and not {', '.join(stems) or 'none'}")
    stems = tuple(stem for stem in STEMS if stem in stems)
    if isinstance(config, wave.WaveConfig):
        return replace(config, stems=stems, net=replace(config.net, stems=len(stems)))
    return replace(config, stems=stems)


def build(config: Config | wave.WaveConfig) -> Model | wave.WaveModel:
    """An untrained model of that configuration.

    Raises:
        InputError: a task that no model of this version has.
    """
    if not isinstance(config, Config):
        return wave.WaveModel(config)
    from msdm_lite.guided import Guided
    from msdm_lite.sketcher import Sketcher
    from msdm_lite.supervised import Supervised

    tasks = {"denoise": Model, "separate": Supervised, "guided": Guided, "sketch": Sketcher}
    if config.task not in tasks:
        raise InputError(f"there is no task {config.task!r}; there are {', '.join(tasks)}")
    return tasks[config.task](config)
