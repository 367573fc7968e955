"""Every front end behind `fit`, `load` and `separate`: those that ship, and a Fourier transform of the test's own."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from msdm_lite import separate
from msdm_lite.audio.front_end import FRONT_ENDS
from msdm_lite.audio.transforms import MDCT, Compressed
from msdm_lite.cli import main
from msdm_lite.models import config, weights
from msdm_lite.models.config import PRESETS
from msdm_lite.models.joint import Model
from msdm_lite.training import loop
from tests.conftest import losses
from tests.training.test_statistics import Noise


class Stft:
    """Real and imaginary parts of frames of 254 samples, half overlapped: 256 rows, and a hop of 127."""

    hop, rows = 127, 256

    def __init__(self, bins=1024):
        self.window = torch.hann_window(2 * self.hop).sqrt()  # its squares sum to 1

    def length(self, samples):
        return -(-samples // self.hop) + 1

    def encode(self, wave):
        padded = pad(wave.float(), (self.hop, self.hop + -wave.shape[-1] % self.hop))
        spectra = torch.fft.rfft(padded.unfold(-1, 2 * self.hop, self.hop) * self.window, norm="ortho")
        return torch.cat([spectra.real, spectra.imag], -1).mT.contiguous()

    def decode(self, coefficients, samples):
        real, imaginary = coefficients.mT.chunk(2, -1)
        frames = torch.fft.irfft(torch.complex(real.contiguous(), imaginary.contiguous()), norm="ortho",
                                 n=2 * self.hop) * self.window
        first, second = frames.split(self.hop, -1)
        wave = pad(first, (0, 0, 0, 1)) + pad(second, (0, 0, 1, 0))  # overlap and add
        return wave.flatten(-2)[..., self.hop : self.hop + samples]


def compressed(bins):
    """The lower half of the MDCT's bins: rows are not the hop."""
    return Compressed(MDCT(bins), torch.eye(bins)[: bins // 2])


BEHIND = {"mdct": (256, 256), "blocks": (256, 256), "half": (512, 256), "stft": (127, 256)}  # name: (bins, rows)


@dataclass
class Tones(Noise):
    """A track whose stems are three tones and white noise, each at its own level."""

    def read(self, start=0, count=None):
        found = super().read(start, count)
        time = start + np.arange(found.shape[1])
        for stem, (level, step) in enumerate(zip(self.levels, (0.1, 0.5, 1.1), strict=False)):
            found[stem] = 2**0.5 * level * np.sin(step * time)
        return found


TRACKS = [Tones((0.06, 0.05, 0.04, 0.03), name=f"tones{i}") for i in range(3)]


@pytest.fixture
def behind(monkeypatch):
    """behind(name): a small preset with that front end."""
    monkeypatch.setitem(FRONT_ENDS, "half", compressed)
    monkeypatch.setitem(FRONT_ENDS, "stft", Stft)

    def configured(name: str):
        bins, rows = BEHIND[name]
        return replace(PRESETS["tiny"], preset=f"small-{name}", front=name, bins=bins, frames=64, bands=((rows, 8),),
                       widths=(16, 24, 32))

    return configured


@pytest.mark.parametrize("name", BEHIND)
def test_a_model_behind_it_trains_loads_and_separates(behind, recipe, tmp_path, name):
    model = Model(behind(name))
    assert (model.transform.hop, model.transform.rows) == BEHIND[name]
    path = loop.fit(model, TRACKS, replace(recipe, steps=50, lr=3e-3), tmp_path / "run", progress=False)
    errors = list(losses(tmp_path / "run").values())
    assert sum(errors[-10:]) < 0.9 * sum(errors[:10])
    made = weights.load(path)
    assert made.config == model.config and type(made.transform) is type(model.transform)
    stems = torch.from_numpy(TRACKS[0].read(0, 40_001))
    found = separate(stems.sum(0), made)
    assert found.shape == stems.shape and found.isfinite().all()
    # mixture-constrained: what the front end keeps of the mixture is what the stems sum to
    kept = made.transform.decode(made.transform.encode(stems.sum(0)), 40_001)
    torch.testing.assert_close(found.sum(0), kept, rtol=0, atol=1e-4)
    assert (found - stems)[0].square().sum() < stems[0].square().sum()  # the bass is not lost


def test_the_command_trains_behind_it(behind, recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(config.PRESETS, "small-stft", behind("stft"))
    words = ["train", "--preset", "small-stft", "--data", recipe.data, "--steps", "1", "--batch", "2",
             "--device", "cpu", "--out", str(tmp_path / "run")]
    assert main.main(words) == 0
    assert weights.load(capsys.readouterr().out.strip()).transform.hop == 127
    assert main.main(["methods"]) == 0
    assert "stft" in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("front ends"))


def test_bands_that_do_not_fit_the_rows_are_refused(behind):
    with pytest.raises(ValueError, match="small-stft have 200 bins in all, and a frame of its front end 256"):
        Model(replace(behind("stft"), bands=((200, 8),)))
    with pytest.raises(ValueError, match="no front end 'wavelets'; there are mdct, blocks"):
        Model(replace(behind("mdct"), front="wavelets"))
