"""Bands from noise, and players for an unfinished one: what `msdm-lite generate` and `accompany` call.

Chapter: `book/06-total-generation.ipynb`.
Source: Mariani et al., arXiv 2302.02257, total generation and partial generation.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from msdm_lite import audio, click, corpus, folders, methods, sampling, weights
from msdm_lite.device import large_blocks_returned
from msdm_lite.errors import InputError
from msdm_lite.face import StemModel
from msdm_lite.guidance import Denoise
from msdm_lite.known import Noise
from msdm_lite.methods import GENERATIONS, IMPUTATIONS, SKETCHES, Method
from msdm_lite.seeds import seed_of
from msdm_lite.sketch import sketch
from msdm_lite.song import check, from_picture, loudness, picture_shape, to_pictures
from msdm_lite.windows import Windowed

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
        method: a name in `msdm_lite.methods.GENERATIONS`.
        steps: noise levels; the method's own number if None.
        sketcher: a model, or its name, that makes a sketch of each band first; the model then paints it.
        tempo: beats per minute of the click that a sketcher hears, if it hears one; that of a training song, another
            for each band, if None; 0 if nobody is to count. The first beat of a bar is at the start.
        metre: beats in a bar of that click; four if None.
        batch: how many go through the model together, which changes nothing but the time; what suits the device if
            None.
        settings: any other field of `msdm_lite.methods.Method`.

    Raises:
        InputError: no time or no bands, an unknown model or method, settings that make no sense, a tempo or a metre
            for a model that hears no click, or a metre where nobody is to count.
    """
    made = generated(model, seconds, n, seed, method, steps, progress, sketcher, tempo, metre, batch, **settings)
    first = next(made)
    bands = torch.empty(n, *first.shape)
    bands[0] = first
    for i, band in enumerate(made, 1):
        bands[i] = band
    return bands


def generated(model: StemModel | str = "lite", seconds: float = 6.0, n: int = 1, seed: int = 0, method: str = "ode",
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
    model.must_sound()
    chosen = methods.named(method, GENERATIONS, steps=steps, **settings)
    chosen.check()
    sketcher = pair(sketcher, model)
    if (tempo, metre) != (None, None) and not (sketcher and sketcher.takes_click):
        raise InputError("nobody would hear the tempo and the metre: they are for a sketcher that was trained with a "
                         "click")
    if tempo == 0 and metre is not None:
        raise InputError("a tempo of 0 means that nobody counts: then there is no metre")
    S, T = len(model.stems), round(seconds * model.sample_rate)
    bins, L = picture_shape(model, T)
    denoise, sketching = Windowed(model), Windowed(sketcher) if sketcher else None
    most = batch or (1 if model.device.type == "cpu" else 16)
    parts = [range(first, min(first + most, n)) for first in range(0, n, most)]
    total = sum(chosen.evaluations * denoise.evaluations(len(part), L) + _evaluations(sketching, L, items=len(part))
                for part in parts)
    with tqdm(total=total, desc="generating", unit="batch", disable=not progress, leave=False) as bar:
        denoise.tick = bar.update
        if sketching:
            sketching.tick = bar.update
        for part in parts:
            generators = [torch.Generator().manual_seed(seed_of(seed, i)) for i in part]
            told: Denoise = denoise
            if sketching:
                counts = [counted(sketching.model, L, generator, tempo, metre) for generator in generators]
                heard = [count for count in counts if count is not None]
                told = partial(denoise, sketch=draw(sketching, L, generators, torch.cat(heard) if heard else None))
            states = methods.conditional(told, (len(part), S, bins, L), chosen, generator=generators,
                                         device=model.device)
            for band in sampling.end(states):
                yield from_picture(band, model, T)


def pair(sketcher: StemModel | str | None, model: StemModel) -> StemModel | None:
    """The model that sketches for another that paints, loaded if it is named.

    Raises:
        InputError: it makes no sketches, the model cannot be told any, or their sketches are not alike.
    """
    if sketcher is None:
        return None
    if isinstance(sketcher, str | Path):
        sketcher = weights.load(sketcher, str(model.device))
    if sketcher.makes_sound:
        raise InputError("a model of sound is no sketcher: its preset must be one of sketches, as lite-sketch")
    model.must_paint()
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


def counted(sketcher: StemModel, frames: int, generator: torch.Generator, tempo: float | None = None,
            metre: int | None = None) -> Tensor | None:
    """The click (1, 4, frames) that a band plays to, four beats to a bar if no metre is said.

    None if its sketcher hears none, or the tempo is 0.

    At the tempo of a training song if none is said: the model's first draw.
    """
    if not sketcher.takes_click or tempo == 0:
        return None
    if tempo is None:
        tempo = _tempi()[int(torch.randint(len(_tempi()), (), generator=generator))]
    hop = sketcher.config.bins / sketcher.sample_rate  # a picture begins a hop before the sound does
    return click.steady(frames, hop, tempo, 4 if metre is None else metre, hop)[None].to(sketcher.device)


def draw(sketching: Windowed, frames: int, generator: Noise, count: Tensor | None = None,
         given: Tensor | None = None, stems: Sequence[int] = (), weight: float = 1.0) -> Tensor:
    """Sketches (B, S, bands, frames) from noise, or around the stems that are given, by number, and how strictly.

    One of each generator, or of the only one, to clicks (B, 4, frames), or to none.
    """
    model = sketching.model
    denoise: Denoise = sketching if count is None else partial(sketching, click=count)
    items = len(generator) if isinstance(generator, Sequence) else 1
    shape = (items, len(model.stems), *model.denoiser.deviation.shape[1:], frames)
    states = methods.conditional(denoise, shape, SKETCHES["ode"].but(weight=weight), given=given, stems=stems,
                                 generator=generator, device=model.device)
    return sampling.end(states)


def _evaluations(sketching: Windowed | None, frames: int, weight: float = 1.0, items: int = 1) -> int:
    return SKETCHES["ode"].but(weight=weight).evaluations * sketching.evaluations(items, frames) if sketching else 0


def method_for(model: StemModel, name: str | None = None, **settings) -> Method:
    """A method of imputation by name, or the one that suits the model, with other settings where they are not None.

    Raises:
        InputError: an unknown name or setting, or a method that the model was not trained for.
    """
    model.must_sound()
    learned = model.learned(stems=True)
    if name is None:
        name = "stems-known" if learned else "replacement"
    method = methods.named(name, IMPUTATIONS, **settings)
    if method.needs_shapes and not learned:
        raise InputError(f"this model was not trained with stems that are known: {name} is not for it; use replacement")
    method.check()  # whatever is wrong is said first
    return method


def collect(given: Mapping[str, str | Path | Tensor], model: StemModel) -> dict[str, Tensor]:
    """Stems by name, (T,) each, equally long: shorter ones are filled up with silence, and that is said.

    Raises:
        InputError: a file that cannot be used, a stem that the model does not have, none, or all of them.
    """
    for name in given:
        model.number(name)
    if not given:
        raise InputError("no stem is given: name at least one, or generate a whole band")
    if len(given) == len(model.stems):
        raise InputError("all stems are given: there is no player to add")
    waves = {}
    for name, source in given.items():
        waves[name] = audio.samples(source, model.sample_rate)
        if waves[name].ndim != 1:
            raise InputError(f"{name} is mono, (T,), and not of shape {tuple(waves[name].shape)}")
        check(waves[name], model, name)
    longest = max(map(len, waves.values()))
    for name, wave in list(waves.items()):
        if len(wave) < longest:
            LOG.warning("%s is %.2f s shorter than the longest stem: silence follows it", name,
                        (longest - len(wave)) / model.sample_rate)
            waves[name] = torch.nn.functional.pad(wave, (0, longest - len(wave)))
    return waves


@torch.no_grad()
@large_blocks_returned()
def accompany(given: Mapping[str, str | Path | Tensor], model: StemModel | str = "lite", seed: int = 0,
              method: str | None = None, steps: int | None = None, progress: bool = False,
              sketcher: StemModel | str | None = None, **settings) -> Tensor:
    """A whole band (S, T) around the stems that are given, which come back as they were.

    Args:
        given: some of the model's stems, by name: files of any rate, or samples (T,) at the model's rate.
        model: from `msdm_lite.load`, or its name.
        seed: the same seed gives the same band on the same device.
        method: a name in `msdm_lite.methods.IMPUTATIONS`. If None, "stems-known" where the model was trained for it
            (`StemModel.learned`), and "replacement" where not.
        steps: noise levels; the method's own number if None.
        sketcher: a model, or its name, that first sketches what the new players do; the model then paints it.
        settings: any other field of `msdm_lite.methods.Method`.

    New players are as loud beside the given ones as the model learned that they are.

    Raises:
        InputError: no stem, all stems or others than the model's; files or settings that cannot be used.
    """
    if isinstance(model, str | Path):
        model = weights.load(model)
    chosen = method_for(model, method, steps=steps, **settings)
    sketcher = pair(sketcher, model)
    waves = collect(given, model)
    T = len(next(iter(waves.values())))
    numbers = [model.stems.index(name) for name in waves]
    levels = [level for wave in waves.values() if (level := loudness(wave, model.sample_rate // 4)) > 1e-12]
    if not levels:
        LOG.warning("the given stems are silent: the players have nothing to follow")
    # One gain for all, so that their balance stays: on average they are as loud as the model's stems
    gain = audio.STEM_RMS / (sum(level**2 for level in levels) / len(levels)) ** 0.5 if levels else 1.0
    clean = to_pictures(dict(zip(numbers, waves.values(), strict=True)), model, T, gain)
    denoise, sketching = Windowed(model), Windowed(sketcher) if sketcher else None
    total = chosen.evaluations * denoise.evaluations(1, clean.shape[-1])
    total += _evaluations(sketching, clean.shape[-1], chosen.weight)
    generator = torch.Generator().manual_seed(seed)
    told: Denoise = denoise
    with tqdm(total=total, desc="accompanying", unit="batch", disable=not progress, leave=False) as bar:
        denoise.tick = bar.update
        if sketching:
            sketching.tick = bar.update
            heard = sketch(clean, model.config.sketch)
            drawn = draw(sketching, clean.shape[-1], generator, None, heard, numbers, chosen.weight)
            told = partial(denoise, sketch=drawn)
        states = methods.conditional(told, clean.shape, chosen, given=clean, stems=numbers, generator=generator)
        del clean  # the sampler has what it needs of it
        made = from_picture(sampling.end(states)[0], model, T, 1 / gain)
    for n, wave in zip(numbers, waves.values(), strict=True):  # to the last bit
        made[n] = wave
    return made


def save_band(folder: str | Path, band: Tensor, model: StemModel) -> list[Path]:
    """The stems (S, T) and their mix into a folder, all or none; the paths of the files.

    Raises:
        InputError: they cannot be written there.
    """
    folder = folders.writable_folder(folder)
    waves = {folder / f"{name}.wav": stem for name, stem in zip(model.stems, band, strict=True)}
    return audio.save_all(waves | {folder / "mix.wav": band.sum(0)}, model.sample_rate)
