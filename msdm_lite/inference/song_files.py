"""A song as a file has it, to its stems as they are written: stereo, at the rate of the file, with given stems.

Chapter: `book/12-longer-and-stranger.ipynb`.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from msdm_lite.audio import faults
from msdm_lite.audio.decode import Sound
from msdm_lite.audio.io import mixed_down, resample
from msdm_lite.errors import InputError
from msdm_lite.inference import separation
from msdm_lite.inference.band_above import extended, fitted
from msdm_lite.models.base import StemModel

LOG = logging.getLogger("msdm_lite")
LEAST_RATE, MOST_RATE = 8000, 384000  # Hz, of what is written


@dataclass(frozen=True)
class Wanted:
    """Which waves are wanted of a separation.

    Args:
        mono: separate the mean of the channels; else a sound of two channels is separated in stereo.
        rate: "input", "model", or a number of Hz.
        two_stems: a stem: that one and the rest of the mix, in place of all stems.

    Raises:
        InputError: another rate.
    """

    mono: bool = False
    rate: str = "input"
    two_stems: str | None = None

    def __post_init__(self) -> None:
        known = self.rate in ("input", "model")
        if not known and not (self.rate.isascii() and self.rate.isdigit()
                              and LEAST_RATE <= int(self.rate) <= MOST_RATE):
            raise InputError(f"a rate is input, model, or {LEAST_RATE} to {MOST_RATE} Hz, not {self.rate!r}")

    def names(self, model: StemModel) -> list[str]:
        """The names of the waves.

        Raises:
            InputError: the model does not have the stem of `two_stems`.
        """
        if self.two_stems is None:
            return list(model.stems)
        return [model.stems[model.stem_index(self.two_stems)], "rest"]

    def sample_rate(self, sound: Sound, model: StemModel) -> int:
        """The rate of the waves, in Hz."""
        return {"input": sound.sample_rate, "model": model.sample_rate}.get(self.rate) or int(self.rate)


def sides_of(sound: Sound, mono: bool, name: str = "the mixture") -> Tensor:
    """The samples (1, T) or (2, T) of a sound: one side if `mono`; more than two channels are mixed down to one."""
    samples = sound.samples
    return samples if len(samples) == 1 or (len(samples) == 2 and not mono) else mixed_down(samples, name)[None]


def separated(sound: Sound, model: StemModel, given: Mapping[str, Sound], wanted: Wanted, **settings: Any
              ) -> dict[str, Tensor]:
    """The waves (C, T) of a song by name, at `wanted.sample_rate`; C is 2 in stereo. They sum to the song.

    What lies above the model's band is shared out, see `msdm_lite.inference.band_above`.

    Args:
        given: stems of the song that are known; in stereo, a mono stem stands on both sides.
        settings: of `msdm_lite.inference.separation.separate`.

    Raises:
        InputError: as `separate`.
    """
    names, rate = wanted.names(model), wanted.sample_rate(sound, model)
    samples = sides_of(sound, wanted.mono)
    stereo = len(samples) == 2
    if sound.sample_rate != model.sample_rate and (share := faults.clipped(samples)):  # resampled, it does not show
        LOG.warning("the mixture: %s", faults.about_clipping(share))
    mix = resample(samples, sound.sample_rate, model.sample_rate)
    stems_given = {name: (sides_of(one, not stereo, name), one.sample_rate) for name, one in given.items()}
    known = {}
    for name, (wave, own) in stems_given.items():
        known[name] = resample(wave, own, model.sample_rate)[... if stereo else 0]
    stems = separation.separate(mix if stereo else mix[0], model, keep_stereo=stereo, given=known, **settings)
    whole = resample(samples, sound.sample_rate, rate) if rate != model.sample_rate else mix
    if stems.ndim == 2:
        stems = stems[:, None]  # (S, 1, T)
    if rate != model.sample_rate:
        kept = {model.stem_index(name): fitted(resample(wave, own, rate), whole.shape[-1]).expand_as(whole)
                for name, (wave, own) in stems_given.items()}
        stems = extended(stems, mix, whole, model.sample_rate, rate, kept)
    if wanted.two_stems is not None:
        one = stems[model.stem_index(names[0])]
        return {names[0]: one, names[1]: whole - one}
    return dict(zip(names, stems, strict=True))
