"""Which way back to two channels keeps stems best: `python benchmarks/stereo.py`. Quality, not speed.

The stems of the shipped clips are panned at random (constant power), mixed, and separated in stereo. The figure is the
SI-SDR improvement of both channels together, against the panned stems. Paired: all ways see the same mixes.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

import msdm_lite
from msdm_lite.audio.transforms import pseudo_energy
from msdm_lite.data import example_clips
from msdm_lite.evaluation import metrics
from msdm_lite.inference.encoding import decode, encode
from msdm_lite.models.base import StemModel


def pan(stems: Tensor, width: float, generator: torch.Generator) -> Tensor:
    """(S, T) -> (S, 2, T): each stem at a random angle, at most `width` of the way to one side."""
    angle = math.pi / 4 * (1 + width * (2 * torch.rand(len(stems), 1, generator=generator) - 1))
    return torch.stack([angle.cos() * stems, angle.sin() * stems], 1)


def by_sides(wave: Tensor, separate: Callable[[Tensor], Tensor]) -> Tensor:
    """Mid and side are separated as if each were a mixture of its own: (2, T) -> (S, 2, T)."""
    mid, side = separate(wave.mean(0)), separate((wave[0] - wave[1]) / 2)
    return torch.stack([mid + side, mid - side], 1)


def by_masks(wave: Tensor, model: StemModel, mono: Tensor) -> Tensor:
    """Stems mono (S, T) of the mid say which share of each coefficient is whose, left and right: -> (S, 2, T)."""
    T = wave.shape[-1]
    energy = pseudo_energy(encode(mono, model))  # (S, bins, L)
    shares = (energy + 1e-12) / (energy + 1e-12).sum(0)
    sides = encode(wave, model)  # (2, bins, L)
    return decode(shares[:, None] * sides, model, T)


def main() -> None:
    model = msdm_lite.load("lite")
    print("width  way       SI-SDR improvement, dB [95 %]")
    for width in (0.0, 0.5, 1.0):
        generator = torch.Generator().manual_seed(0)
        found: dict[str, list[float]] = {}
        for entry in example_clips.clips("band"):
            true = pan(example_clips.clip(entry["name"]), width, generator)  # (S, 2, T)
            mix = true.sum(0)

            def separate(wave: Tensor) -> Tensor:
                return msdm_lite.separate(wave, model)

            mono = separate(mix.mean(0))
            ways = {"channels": msdm_lite.separate(mix, model, keep_stereo=True), "sides": by_sides(mix, separate),
                    "masks": by_masks(mix, model, mono), "mono": mono[:, None].expand(-1, 2, -1)}
            for name, got in ways.items():
                gain = metrics.si_sdr_improvement(got.flatten(1), true.flatten(1))
                found.setdefault(name, []).append(gain.nanmean().item())
        for name, gains in found.items():
            mean, low, high = metrics.bootstrap(gains)
            print(f"{width:5.1f}  {name:9s} {mean:6.2f} [{low:.2f}, {high:.2f}]", flush=True)


if __name__ == "__main__":
    main()
