"""Bands from noise: what `msdm-lite generate` calls.

Source: Mariani et al., arXiv 2302.02257, total generation. Chapter: `book/06-total-generation.ipynb`.
"""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from msdm_lite.diffusion import methods, sampling
from msdm_lite.diffusion.guidance import Denoise
from msdm_lite.diffusion.methods import GENERATIONS
from msdm_lite.diffusion.noise import seed_of
from msdm_lite.errors import InputError
from msdm_lite.inference.cascade import beat_conditioning, load_sketcher, sample_sketch, sketch_evaluations
from msdm_lite.inference.encoding import decode, encoded_shape
from msdm_lite.inference.windows import Windowed
from msdm_lite.models import weights
from msdm_lite.models.base import StemModel
from msdm_lite.utils.device import large_blocks_returned

LOG = logging.getLogger("msdm_lite")



@torch.no_grad()
@large_blocks_returned()
def generate(model: StemModel | str = "lite", seconds: float = 6.0, n: int = 1, seed: int = 0, method: str = "ode",
             steps: int | None = None, progress: bool = False, sketcher: StemModel | str | None = None,
             tempo: float | None = None, metre: int | None = None, batch: int | None = None, **settings) -> Tensor:
    """n bands from noise: (n, S, T).

    Args:
        model: from `msdm_lite.load`, or its name.
        seconds: of each; longer than the model's segment is made of windows that agree.
        seed: the same seed gives the same bands on the same device; band i does not depend on n.
        method: a name in `msdm_lite.diffusion.methods.GENERATIONS`.
        steps: noise levels; the method's own number if None.
        sketcher: a model, or its name, that makes a sketch of each band first; the model then decodes it.
        tempo: beats per minute of the click that a sketcher hears, if it hears one; that of a training song, another
            for each band, if None; 0 if nobody is to count. The first beat of a bar is at the start.
        metre: beats in a bar of that click; four if None.
        batch: how many go through the model together, which changes nothing but the time; what suits the device if
            None.
        settings: any other field of `msdm_lite.diffusion.methods.Method`.

    Raises:
        InputError: no time or no bands, an unknown model or method, settings that make no sense, a tempo or a metre
            for a model that hears no click, or a metre where nobody is to count.
    """
    made = generate_each(model, seconds, n, seed, method, steps, progress, sketcher, tempo, metre, batch, **settings)
    first = next(made)
    bands = torch.empty(n, *first.shape)
    bands[0] = first
    for i, band in enumerate(made, 1):
        bands[i] = band
    return bands


def generate_each(model: StemModel | str = "lite", seconds: float = 6.0, n: int = 1, seed: int = 0, method: str = "ode",
              steps: int | None = None, progress: bool = False, sketcher: StemModel | str | None = None,
              tempo: float | None = None, metre: int | None = None, batch: int | None = None, **settings
              ) -> Iterator[Tensor]:
    """The bands of `generate` one by one, as they are made: (S, T) each. Arguments and errors are the same."""
    if batch is not None and batch < 1:
        raise InputError(f"{batch} bands cannot go through a model together: one or more")
    if n < 1 or seed < 0 or not 0.1 <= seconds < float("inf"):
        raise InputError(f"{n} bands of {seconds} s with seed {seed} cannot be made: at least one, of a tenth of a "
                         "second or longer, and a seed of 0 or more")
    if isinstance(model, str | Path):
        model = weights.load(model)
    model.require_sound()
    chosen = methods.by_name(method, GENERATIONS, steps=steps, **settings)
    chosen.check()
    sketcher = load_sketcher(sketcher, model)
    if (tempo, metre) != (None, None) and not (sketcher and sketcher.takes_beat_phase):
        raise InputError("nobody would hear the tempo and the metre: they are for a sketcher that was trained with "
                         "beat conditioning")
    if tempo == 0 and metre is not None:
        raise InputError("a tempo of 0 means that nobody counts: then there is no metre")
    S, T = len(model.stems), round(seconds * model.sample_rate)
    bins, L = encoded_shape(model, T)
    denoise, sketching = Windowed(model), Windowed(sketcher) if sketcher else None
    most = batch or (1 if model.device.type == "cpu" else 16)
    parts = [range(first, min(first + most, n)) for first in range(0, n, most)]
    total = sum(chosen.nfe * denoise.batch_count(len(part), L) + sketch_evaluations(sketching, L, items=len(part))
                for part in parts)
    with tqdm(total=total, desc="generating", unit="batch", disable=not progress, leave=False) as bar:
        denoise.tick = bar.update
        if sketching:
            sketching.tick = bar.update
        for part in parts:
            generators = [torch.Generator().manual_seed(seed_of(seed, i)) for i in part]
            conditional: Denoise = denoise
            if sketching:
                counts = [beat_conditioning(sketching.model, L, generator, tempo, metre) for generator in generators]
                beats_given = [count for count in counts if count is not None]
                conditional = partial(denoise,
                                      sketch=sample_sketch(sketching, L, generators,
                                                           torch.cat(beats_given) if beats_given else None))
            states = methods.conditional(conditional, (len(part), S, bins, L), chosen, generator=generators,
                                         device=model.device)
            for band in sampling.final_x(states):
                yield decode(band, model, T)
