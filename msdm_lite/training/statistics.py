"""What a model keeps of its training data beside its weights: standard deviations, levels and tempi.

They are measured before the first step and stored in the configuration and the weights, so that a sound is brought to
the level of training whatever the songs were. Chapter: `book/05-training.ipynb`.
"""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from msdm_lite.audio.levels import mixture_rms
from msdm_lite.data.dataset import Crops, crops_enough
from msdm_lite.data.tracks import Track
from msdm_lite.models.base import StemModel
from msdm_lite.training.batches import crop_samples, encode_crops, own_stems


def measure(model: StemModel, songs: Sequence[Track]) -> None:
    """Measure on training songs what the model keeps of them: levels and tempi first, then `fit_statistics`."""
    settings: dict[str, object] = {}
    stated = {getattr(song, "stem_rms", None) for song in songs}
    if len(stated) == 1 and None not in stated:  # the corpus is rendered at one level
        settings["stem_rms"] = stated.pop()
    else:
        settings |= levels(model, songs)
    if model.training_defaults.beat_share:
        settings["tempi"] = tuple(sorted(tempo for song in songs if (tempo := getattr(song, "tempo", None))))
    model.configure(**settings)
    fit_standard_deviations(model, songs)


def gain_to_level(model: StemModel, songs: Sequence[Track]) -> float:
    """The gain that brings songs to the level that a model was trained at, for fine-tuning; 1 if all is silent."""
    if model.stem_rms is None:
        return 1.0
    stated = {getattr(song, "stem_rms", None) for song in songs}
    found = stated.pop() if len(stated) == 1 and None not in stated else levels(model, songs).get("stem_rms")
    return model.stem_rms / found if found else 1.0


def levels(model: StemModel, songs: Sequence[Track], count: int = 100) -> dict[str, float]:
    """Active RMS of stems and mixtures over random crops: {"stem_rms": ..., "mixture_rms": ...}.

    They are geometric means over what is not silent, so that a few loud songs do not count more than the others. Both
    are left out if all is silent.
    """
    count = crops_enough(songs, crop_samples(model), count, 1)
    crops = Crops(songs, crop_samples(model), count, seed=4)
    found: dict[str, list[float]] = {"stem_rms": [], "mixture_rms": []}
    for i in range(count):
        stems = own_stems(model, crops[i]["stems"][None], crops.stems)[0]
        for name, waves in (("stem_rms", stems), ("mixture_rms", stems.sum(0, keepdim=True))):
            found[name] += [level for wave in waves if (level := mixture_rms(wave, model.sample_rate // 4)) > 1e-6]
    return {name: math.exp(sum(map(math.log, values)) / len(values)) for name, values in found.items() if values}


def fit_standard_deviations(model: StemModel, songs: Sequence[Track], count: int = 400, gain: float = 1.0) -> None:
    """Let the model measure the coefficients of random crops with a gain, see `StemModel.fit_statistics`.

    `count` is the largest number of crops; short songs get fewer.
    """
    count = crops_enough(songs, crop_samples(model), count, 4)
    crops = Crops(songs, crop_samples(model), count, seed=1)
    with torch.no_grad():
        model.fit_statistics(encode_crops(model, gain * crops[i]["stems"][None], crops.stems) for i in range(count))


def standard_deviations(model: StemModel, songs: Sequence[Track], gain: float = 1.0) -> Tensor:
    """Standard deviation of each stem and bin over random crops, (S, rows). The model stays as it is."""
    measured = copy.deepcopy(model)
    fit_standard_deviations(measured, songs, gain=gain)
    return measured.denoiser.std
