"""A model: a denoiser, the front end it works behind, and what it calls its stems."""

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from msdm_lite import wave
from msdm_lite.audio import SAMPLE_RATE, STEMS
from msdm_lite.diffusion import Denoiser, loss
from msdm_lite.errors import InputError
from msdm_lite.known import Known
from msdm_lite.transform import MDCT
from msdm_lite.unet import UNet2d


@dataclass(frozen=True)
class Config:
    """Everything that decides a model's shape; stored with its weights."""

    preset: str
    stems: tuple[str, ...] = STEMS
    sample_rate: int = SAMPLE_RATE
    bins: int = 1024  # of the MDCT; also its hop
    frames: int = 96  # of one segment
    bands: tuple[tuple[int, int], ...] = ((256, 4), (256, 8), (512, 16))  # (bins, how many make a row), low to high
    widths: tuple[int, ...] = (64, 96, 160, 224)
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    told: int = 256
    heads: int = 4

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "Config":
        lists = {key: tuple(map(tuple, v)) if key == "bands" else tuple(v) for key, v in values.items()
                 if isinstance(v, list)}
        return cls(**(values | lists))


PRESETS = {
    "lite": Config("lite"),
    "tiny": Config("tiny", bands=((256, 8), (256, 16), (512, 32)), widths=(32, 48, 64), blocks=(1, 1, 1), told=64,
                   frames=48),
}


class Model(nn.Module):
    """What `msdm_lite.load` returns. Samplers and guidances use `denoise` alone; `separate` also the front end."""

    takes_known = True  # trained on every shape of noise

    def __init__(self, config: Config, deviation: Tensor | None = None):
        super().__init__()
        self.config = config
        S = len(config.stems)
        if deviation is None:
            deviation = torch.full((S, config.bins), 0.05)
        net = UNet2d(list(config.bands), Denoiser.inputs_for(S), 3 * S, list(config.widths), list(config.blocks),
                     config.told, config.heads)
        self.denoiser = Denoiser(net, deviation, config.told)
        self.transform = MDCT(config.bins)
        self.record: dict = {}  # how the weights came to be

    @property
    def stems(self) -> tuple[str, ...]:
        return self.config.stems

    @property
    def sample_rate(self) -> int:
        return self.config.sample_rate

    @property
    def segment(self) -> float:
        """Length in seconds of the pictures it was trained on."""
        return self.config.frames * self.config.bins / self.config.sample_rate

    @property
    def device(self) -> torch.device:
        return self.denoiser.deviation.device

    def loss(self, x: Tensor, sigma: Tensor, known: Known, noise: Tensor) -> Tensor:
        """The training loss of clean (B, S, bins, L) and white noise of that shape, one value an item: (B,)."""
        return loss(self.denoiser, x, sigma, known, n=noise)

    def denoise(self, x: Tensor, sigma: Tensor, known: Known | None = None) -> Tensor:
        """The denoiser contract: MDCT pictures (B, S, bins, L) at level sigma (B,) to clean ones."""
        return self.denoiser(x, sigma, known)


def preset(name: str) -> Config | wave.WaveConfig:
    """The configuration of that name.

    Raises:
        InputError: no such preset.
    """
    known = PRESETS | wave.PRESETS
    if name not in known:
        raise InputError(f"there is no preset {name!r}; there are {', '.join(known)}")
    return replace(known[name])


def build(config: Config | wave.WaveConfig) -> Model | wave.WaveModel:
    """An untrained model of that configuration."""
    return Model(config) if isinstance(config, Config) else wave.WaveModel(config)
