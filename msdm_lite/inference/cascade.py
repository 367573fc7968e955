"""The cascade: a model of sketches (coarse spectrograms) first, then the model that decodes a sketch into sound.

Source: Ho et al., arXiv 2106.15282. Chapter: `book/06-total-generation.ipynb`.
"""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from msdm_lite.audio import beats
from msdm_lite.data import corpus
from msdm_lite.diffusion import methods, sampling
from msdm_lite.diffusion.guidance import Denoise
from msdm_lite.diffusion.methods import SKETCHES
from msdm_lite.diffusion.noise import Noise
from msdm_lite.errors import InputError
from msdm_lite.inference.windows import Windowed
from msdm_lite.models import weights
from msdm_lite.models.base import StemModel


def load_sketcher(sketcher: StemModel | str | None, model: StemModel) -> StemModel | None:
    """The model that generates sketches for another that decodes them, loaded if it is named.

    Raises:
        InputError: it makes no sketches, the model cannot be conditioned on any, or their sketches are not alike.
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
    """Beats per minute of every training song by the program."""
    return [float(row["tempo"]) for row in corpus.table("band") if row["split"] == "train"]


def beat_conditioning(sketcher: StemModel, frames: int, generator: torch.Generator, tempo: float | None = None,
            metre: int | None = None) -> Tensor | None:
    """The click (1, 4, frames) that a band plays to, four beats to a bar if no metre is said.

    None if its sketcher hears none, or the tempo is 0.

    At the tempo of a training song if none is said: the model's first draw.
    """
    if not sketcher.takes_beat_phase or tempo == 0:
        return None
    if tempo is None:
        tempo = _tempi()[int(torch.randint(len(_tempi()), (), generator=generator))]
    hop = sketcher.config.bins / sketcher.sample_rate  # a picture begins a hop before the sound does
    return beats.steady(frames, hop, tempo, 4 if metre is None else metre, hop)[None].to(sketcher.device)


def sample_sketch(sketching: Windowed, frames: int, generator: Noise, count: Tensor | None = None,
         given: Tensor | None = None, stems: Sequence[int] = (), weight: float = 1.0) -> Tensor:
    """Sketches (B, S, bands, frames) from noise, or around the stems that are given, by number, and how strictly.

    One of each generator, or of the only one, to clicks (B, 4, frames), or to none.
    """
    model = sketching.model
    denoise: Denoise = sketching if count is None else partial(sketching, beat_phase=count)
    items = len(generator) if isinstance(generator, Sequence) else 1
    shape = (items, len(model.stems), *model.denoiser.std.shape[1:], frames)
    states = methods.conditional(denoise, shape, SKETCHES["ode"].replace(weight=weight), given=given, stems=stems,
                                 generator=generator, device=model.device)
    return sampling.final_x(states)


def sketch_evaluations(sketching: Windowed | None, frames: int, weight: float = 1.0, items: int = 1) -> int:
    return SKETCHES["ode"].replace(weight=weight).nfe * sketching.batch_count(items, frames) if sketching else 0
