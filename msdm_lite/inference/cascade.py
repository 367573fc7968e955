"""The cascade: a model of sketches (coarse spectrograms) first, then the model that decodes a sketch into sound.

Source: Ho et al., arXiv 2106.15282. Chapter: `book/06-total-generation.ipynb`.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from msdm_lite.audio import beats
from msdm_lite.audio.front_end import lead
from msdm_lite.data import corpus
from msdm_lite.diffusion import methods, sampling
from msdm_lite.diffusion.conditioning import Task
from msdm_lite.diffusion.methods import SKETCHES
from msdm_lite.diffusion.noise import Noise
from msdm_lite.errors import InputError
from msdm_lite.inference.windows import Windowed
from msdm_lite.models import weights
from msdm_lite.models.base import StemModel


def load_sketcher(sketcher: StemModel | str | None, model: StemModel) -> StemModel | None:
    """The model that generates sketches for another that decodes them, loaded if it is named.

    Raises:
        InputError: it does not generate sketches, the model does not decode any, or their sketches differ in format.
    """
    if sketcher is None:
        return None
    if isinstance(sketcher, str | Path):
        sketcher = weights.load(sketcher, str(model.device))
    if sketcher.makes_sound:
        raise InputError("a model of sound is no sketcher: its preset must be one of sketches, as lite-sketch")
    model.require_decoder()
    if sketcher.device != model.device:
        raise InputError(f"the sketcher is on {sketcher.device} and the model on {model.device}: load both to one")
    alike = ("stems", "sample_rate", "bins", "sketch")
    if any(getattr(sketcher.config, name) != getattr(model.config, name) for name in alike):
        raise InputError("the sketcher and the model do not agree on stems, rate, or bands of the sketch")
    return sketcher


@cache
def _tempi() -> list[float]:
    """Beats per minute of every training song of the corpus that a program wrote."""
    return [float(row["tempo"]) for row in corpus.table("band") if row["split"] == "train"]


def beat_conditioning(sketcher: StemModel, frames: int, generator: torch.Generator, tempo: float | None = None,
                      metre: int | None = None) -> Tensor | None:
    """The beat conditioning (1, 4, frames) of one band; None if its sketcher takes none, or the tempo is 0.

    Args:
        tempo: beats per minute; if None, that of a training song, the first draw from the generator.
        metre: beats a bar; four if None.
    """
    if not sketcher.takes_beat_phase or tempo == 0:
        return None
    if tempo is None:
        tempi = _tempi() if sketcher.config.tempi is None else sketcher.config.tempi
        if not tempi:
            return None  # no training song has a tempo
        tempo = tempi[int(torch.randint(len(tempi), (), generator=generator))]
    hop = sketcher.transform.hop / sketcher.sample_rate
    before = lead(sketcher.transform) * hop  # of the sound, in seconds
    return beats.steady(frames, hop, tempo, 4 if metre is None else metre, before)[None].to(sketcher.device)


def sample_sketch(sketching: Windowed, frames: int, generator: Noise, beat_phase: Tensor | None = None,
                  given: Tensor | None = None, stems: Sequence[int] = (), weight: float = 1.0) -> Tensor:
    """Sketches (B, S, bands, frames) from noise, or around given stems; one for each generator.

    Args:
        beat_phase: beat conditioning (B, 4, frames), or None.
        given: the sketch (B, S, bands, frames) of the given stems, whose numbers are `stems`.
        weight: of classifier-free guidance; 1 is none.
    """
    model = sketching.model
    conditions = {} if beat_phase is None else {"beat_phase": beat_phase}
    items = len(generator) if isinstance(generator, Sequence) else 1
    shape = (items, len(model.stems), *model.denoiser.std.shape[1:], frames)
    task = Task(shape, given=given, stems=stems, conditions=conditions)
    method = SKETCHES["ode"].replace(weight=weight)
    return sampling.final_x(methods.sample(task, sketching, method, generator, model.device))


def sketch_evaluations(sketching: Windowed | None, frames: int, weight: float = 1.0, items: int = 1) -> int:
    """Batches of network evaluations for sketches of `items` bands of so many frames; 0 without a sketcher."""
    return SKETCHES["ode"].replace(weight=weight).nfe * sketching.batch_count(items, frames) if sketching else 0
