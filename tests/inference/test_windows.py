import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import msdm_lite
from msdm_lite.audio.transforms import MDCT, Blocks
from msdm_lite.data import example_clips
from msdm_lite.diffusion import methods, sampling
from msdm_lite.diffusion.conditioning import Conditioning, Task
from msdm_lite.errors import InputError
from msdm_lite.inference.encoding import encode
from msdm_lite.inference.windows import Windowed
from msdm_lite.models.config import WaveConfig, preset
from msdm_lite.models.joint import WaveModel
from msdm_lite.models.unet1d import UNet1dConfig


@pytest.mark.parametrize("steps", [1, 4])
def test_window_boundaries_are_inaudible(steps):
    """The error within 50 ms of where a window begins or ends is at most 0.5 dB above what it is elsewhere.

    Music's own ups and downs are far larger than that. So the windows are shifted over the song, and every frame is
    compared with itself: when a seam is near, and when none is.
    """
    model = msdm_lite.load("lite", "cpu")
    stems = torch.cat([example_clips.clip(entry["name"]) for entry in example_clips.clips("band")[:3]], 1)
    windowed, N = Windowed(model), model.config.bins
    hop = windowed.span - windowed.shared
    frames = stems.shape[1] // N
    error, near = torch.zeros(8, frames), torch.zeros(8, frames, dtype=torch.bool)
    for turn in range(8):
        shift = turn * hop // 8
        clean = encode(F.pad(stems, (shift * N, 0)), model)[None]  # (1, S, bins, L)
        task, method = Task(tuple(clean.shape), clean.sum(1)), methods.by_name("mixture-constrained", steps=steps)
        states = methods.sample(task, windowed, method, torch.Generator().manual_seed(0))
        with torch.no_grad():
            found = sampling.final_state(states).x
        error[turn] = (found - clean).square().sum((0, 1, 2))[1 + shift :][:frames]
        for start in windowed.starts(clean.shape[-1])[1:]:
            for edge in (start, start + windowed.shared):  # a frame is 46 ms, and overlaps with the next
                near[turn, max(0, edge - 2 - shift) : max(0, edge + 1 - shift)] = True
    both = near.any(0) & ~near.all(0)
    seam = ((error * near).sum(0) / near.sum(0))[both].sum()
    other = ((error * ~near).sum(0) / (~near).sum(0))[both].sum()
    assert both.sum() > 0.1 * frames and 10 * torch.log10(seam / other) < 0.5


def test_gradients_through_windows_are_those_of_the_whole(tiny):
    """PiGDM asks for the Jacobian; windows give it with the memory of one batch."""
    windowed = Windowed(tiny, batch=2)
    x, sigma = 0.05 * torch.randn(1, 4, 1024, 110), torch.tensor([0.5])
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    n = torch.randn_like(x)
    (windowed(one, sigma) * n).sum().backward()
    total, weight = 0, torch.zeros(1, 110)
    for start in windowed.starts(110):
        fade = windowed.fade(x, 48)
        guess = tiny.denoise(other[..., start : start + 48], sigma) * fade
        total = total + torch.nn.functional.pad(guess, (start, 110 - start - 48))
        weight[:, start : start + 48] += fade
    (total / weight * n).sum().backward()
    assert torch.allclose(one.grad, other.grad, atol=1e-5)


def test_windows_cut_other_conditions_alike(tiny):
    """Those with the time axis of x are cut like x, and a span of frames too; others are of the whole item."""
    class Conditional:
        config = tiny.config

        @staticmethod
        def denoise(x, sigma, conditioning):
            style = conditioning.given("style")[:, :, None, None]
            return (x + conditioning.given("mixture")[:, None] + style) * conditioning.unknown(x)

    x, y, style = torch.randn(2, 4, 8, 130), torch.randn(2, 8, 130), torch.randn(2, 4)
    span = torch.zeros(1, 1, 1, 130, dtype=torch.bool)
    span[..., 30:50] = True
    known = replace(Conditioning.none(x, mixture=y, style=style), span=span)
    expected = (x + y[:, None] + style[:, :, None, None]) * ~span
    assert torch.allclose(Windowed(Conditional)(x, torch.ones(2), known), expected, atol=1e-6)


def test_windows_agree_with_the_whole_where_they_can(tiny):
    """A denoiser that looks at single coefficients gives the same with windows and without."""

    class Local:
        config = tiny.config

        @staticmethod
        def denoise(x, sigma, conditioning):
            return x / (1 + sigma[:, None, None, None] ** 2) * conditioning.flags()[:, :1, None, None]

    x, sigma = torch.randn(2, 4, 8, 161), torch.tensor([0.5, 2.0])
    conditioning = Conditioning(torch.tensor([True, True]), torch.zeros(2, 4).bool())
    ticks = []
    windowed = Windowed(Local, batch=3, tick=lambda: ticks.append(1))
    assert torch.allclose(windowed(x, sigma, conditioning), Local.denoise(x, sigma, conditioning), atol=1e-6)
    assert len(ticks) == windowed.batch_count(2, 161)


def test_samples_over_several_windows_follow_the_joint_posterior():
    """Gaussian stems, independent from frame to frame: mean and covariance at every frame, near a seam and not.

    Of 3000 samples a mean is off by 0.018 deviations, a variance by 0.026 of itself, a correlation of two frames by
    0.018; the largest of 40 frames are about three times that.
    """
    variances = torch.tensor([1.0, 0.25, 0.5])
    share = variances / variances.sum()
    exact = torch.diag(variances) - torch.outer(variances, variances) / variances.sum()
    zero_sum = torch.eye(3) - 1 / 3

    class Frames:
        """The exact denoiser given the mixture: of N(share y, exact) with zero-sum noise."""

        config = SimpleNamespace(frames=16)

        @staticmethod
        def denoise(x, sigma, conditioning):
            assert conditioning.mixture.all()
            middle = share[:, None, None] * x.sum(1, keepdim=True)
            filtered = exact @ torch.linalg.pinv(exact + sigma[0] ** 2 * zero_sum, hermitian=True)
            return middle + torch.einsum("st,ntfl->nsfl", filtered, x - middle)

    windowed, frames, count = Windowed(Frames, 0.5), 40, 3000  # samples are rows
    assert len(windowed.starts(frames)) >= 4
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(1, 1, frames, generator=generator)
    method = methods.by_name("mixture-constrained", steps=120)
    task = Task((1, 3, count, frames), y.expand(-1, count, -1))
    x = sampling.final_state(methods.sample(task, windowed, method, generator)).x[0].movedim(1, 0)  # (n, 3, L)
    assert torch.allclose(x.sum(1), y[:, 0].expand(count, -1), atol=5e-3)
    deviation = exact.diagonal().sqrt()
    mean = x.mean(0)
    assert ((mean - share[:, None] * y[0]) / deviation[:, None]).abs().max() < 0.09
    off = x - mean
    covariance = torch.einsum("nsl,ntl->lst", off, off) / (count - 1)
    assert (covariance - exact).abs().max() < 0.13 * exact.diagonal().max()
    of_one = off[:, 0] / off[:, 0].std(0)
    between = of_one.T @ of_one / count - torch.eye(frames)
    assert between.abs().max() < 0.09  # frames do not depend on each other, also across a seam


@pytest.mark.parametrize("frames", [1, 47, 48, 49, 100, 1000])
def test_windows_cover_every_frame(tiny, frames):
    windowed = Windowed(tiny)
    covered = np.zeros(frames)
    for start in windowed.starts(frames):
        covered[start : start + windowed.span] += 1
    assert (covered >= 1).all() and windowed.starts(frames)[-1] + min(48, frames) == frames


@pytest.mark.parametrize("overlap", [0.0, 0.999])
def test_windows_go_on_however_much_they_overlap(tiny, overlap):
    starts = Windowed(tiny, overlap).starts(60)
    assert starts[0] == 0 and starts[-1] == 60 - 48 and all(a < b for a, b in pairwise(starts))
    with pytest.raises(InputError, match="overlap by a share"):
        Windowed(tiny, 1.0)


LONG = """
import re, torch, msdm_lite
from msdm_lite.models.config import preset
from msdm_lite.models.joint import Model
model = Model(preset("tiny")).eval().requires_grad_(False)
stems = msdm_lite.separate(0.1 * torch.randn(600 * 22050), model)
assert stems.shape == (4, 600 * 22050)
# Not ru_maxrss: a child begins with that of the process that started it
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_ten_minutes_within_two_gigabytes():
    done = subprocess.run([sys.executable, "-c", LONG], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 2 * 2**30


def test_the_networks_memory_does_not_depend_on_the_length(tiny):
    """Whatever the length, the network never sees more than a batch of its own span."""
    seen = []

    class Spy:
        config = tiny.config

        @staticmethod
        def denoise(x, sigma, conditioning=None):
            seen.append(tuple(x.shape))
            return x

    for frames in (100, 1000):
        Windowed(Spy, batch=3)(torch.zeros(1, 4, 8, frames), torch.ones(1))
    assert max(shape[0] for shape in seen) == 3 and {shape[-1] for shape in seen} == {48}


class Steps:
    """A model behind blocks of 16 samples that answers each window with the next whole number."""

    def __init__(self, transform, frames=8):
        self.transform, self.config, self.calls = transform, SimpleNamespace(frames=frames), 0

    def denoise(self, x, sigma, conditioning=None):
        self.calls += len(x)
        return torch.ones_like(x) * torch.arange(self.calls - len(x), self.calls).view(-1, 1, 1, 1)


@pytest.mark.parametrize("overlap", [0.25, 0.5])
def test_waveforms_fade_by_sample(overlap):
    """From one window to the next a waveform rises by equal small steps, not by one step a block."""
    blocks = Blocks(16)
    windowed = Windowed(Steps(blocks), overlap, batch=1)
    x = torch.zeros(1, 2, 16, 32)
    wave = blocks.inverse(windowed(x, torch.ones(1)))[0, 0]
    samples = windowed.shared * 16  # of the overlap
    assert wave.diff().min() >= 0 and wave.diff().max() <= 1 / samples * (1 + 1e-4)
    windows = len(windowed.starts(32))
    assert wave[0] == 0 and wave[-1] == windows - 1
    by_frame = Windowed(Steps(MDCT(16)), overlap, batch=1)(x, torch.ones(1))[0, 0]
    assert torch.equal(by_frame, by_frame[:1].expand(16, -1))  # frames of a transform have one weight


def test_a_segment_of_the_network_is_one_window():
    """The paper's 262 144 samples are its network's span: an evaluation is one call, not two."""
    paper = preset("paper")
    assert Blocks(paper.bins).length(262_144) == paper.frames
    net = UNet1dConfig(channels=16, patch=4, multipliers=(1, 2), factors=(4,), blocks=(1,), attention=(0,), heads=1,
                       head_width=8, groups=4, learned_patch=True, segment=4096)
    model, calls = WaveModel(WaveConfig("small", net=net)), []
    real = model.denoiser.forward
    model.denoiser.forward = lambda wave, *rest: calls.append(wave.shape) or real(wave, *rest)
    separated = msdm_lite.separate(0.1 * torch.randn(4096), model, "dirac", steps=5, corrections=2,
                                   limit=float("inf"))  # five levels diverge
    assert calls == [(1, 4, 4096)] * 10 and separated.shape == (4, 4096)


def test_the_papers_separation_of_a_segment_takes_300_calls(monkeypatch):
    """150 levels, each twice, and one window in each; its network is replaced, and its segment kept."""
    paper = preset("paper")
    net = UNet1dConfig(channels=16, patch=4, multipliers=(1, 2), factors=(4,), blocks=(1,), attention=(0,), heads=1,
                       head_width=8, groups=4, learned_patch=True, segment=4096)
    model, lengths = WaveModel(WaveConfig("small", net=net)), []
    model.config = replace(paper, stem_rms=None)
    model.transform = Blocks(paper.bins)
    monkeypatch.setattr(model, "denoise", lambda x, *_: lengths.append(x.shape) or torch.zeros_like(x))
    stems = msdm_lite.separate(0.1 * torch.randn(262_144), model, "dirac")
    assert lengths == [(1, 4, 8192, 32)] * 300 and stems.shape == (4, 262_144)
