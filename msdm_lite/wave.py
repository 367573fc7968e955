"""A model of waveforms: the paper's own kind, behind the same face as the models of MDCT pictures.

A waveform is cut into blocks of as many samples as the network needs at the least, and the blocks stand side by side
like the frames of a picture, (bins, L). Nothing is computed by that, so everything written for pictures serves
waveforms: windows, samplers, guidances, separation. Sources: arXiv 2302.02257; chapter `book/04-joint-unet.ipynb`.
"""

from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from msdm_lite.audio import SAMPLE_RATE, STEMS
from msdm_lite.edm import Denoiser1d, edm_loss
from msdm_lite.face import StemModel
from msdm_lite.known import Known
from msdm_lite.transform import Blocks
from msdm_lite.unet1d import PRESETS as NETS
from msdm_lite.unet1d import UNet1d, UNet1dConfig


@dataclass(frozen=True)
class WaveConfig:
    """Everything that decides a model's shape; stored with its weights."""

    preset: str
    stems: tuple[str, ...] = STEMS
    sample_rate: int = SAMPLE_RATE
    net: UNet1dConfig = field(default_factory=UNet1dConfig)
    sigma_data: float = 0.2  # the paper's, and
    levels: tuple[float, float] = (-3.0, 1.0)  # mean and deviation of ln sigma in training

    @property
    def bins(self) -> int:
        """Samples in a block."""
        return self.net.downsampling

    @property
    def frames(self) -> int:
        """Blocks in a segment."""
        return self.net.segment // self.net.downsampling

    def to_dict(self) -> dict:
        """As JSON can hold it."""
        return {"front": "wave", **asdict(self)}

    @classmethod
    def from_dict(cls, values: dict) -> "WaveConfig":
        """What `to_dict` gave, back from JSON."""
        rest = {key: value for key, value in values.items() if key != "front"}
        lists = {key: tuple(rest[key]) for key in ("stems", "levels") if key in rest}
        return cls(**rest | lists | {"net": UNet1dConfig(**rest["net"])})


PRESETS = {name: WaveConfig(name, net=net) for name, net in NETS.items()}
# The paper's values are for louder stems and a far larger net; these are those of its twin `tiny`
PRESETS["tiny-wave"] = WaveConfig("tiny-wave", net=NETS["tiny-wave"], sigma_data=0.06, levels=StemModel.levels)


class WaveModel(StemModel):
    """A model of waveforms. It knows noise on all stems only: separate by Dirac or Gaussian."""

    takes_known = False

    def __init__(self, config: WaveConfig, denoiser: Denoiser1d | None = None):
        super().__init__(config, denoiser or Denoiser1d(UNet1d(config.net), config.sigma_data), Blocks(config.bins))
        self.levels = config.levels

    @property
    def variance(self) -> Tensor:
        return torch.full((len(self.stems), 1, 1), self.config.sigma_data**2, device=self.device)

    def denoise(self, x: Tensor, sigma: Tensor, known: Known | None = None) -> Tensor:
        """The denoiser contract, (B, S, bins, L) at level sigma (B,).

        Raises:
            InputError: something is known; the network was not trained on that.
        """
        wave = self.transform.inverse(x)
        return self.transform.forward(self.denoiser(wave, sigma, known))

    def loss(self, x: Tensor, sigma: Tensor, known: Known, noise: Tensor, sketched: Tensor | None = None) -> Tensor:
        """The paper's loss of clean (B, S, bins, L) and white noise of that shape, one value an item: (B,)."""
        del known, sketched  # nothing ever is
        return edm_loss(self.denoiser, self.transform.inverse(x), sigma, n=self.transform.inverse(noise))
