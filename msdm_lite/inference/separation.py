"""Separation of a mixture of any length: what `msdm-lite separate` calls. Chapter: `book/07-separation.ipynb`."""

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from msdm_lite.audio import io as audio_io
from msdm_lite.diffusion import methods, sampling
from msdm_lite.diffusion.conditioning import Denoise, Task
from msdm_lite.diffusion.guidances import AnyGuidance
from msdm_lite.diffusion.methods import METHODS
from msdm_lite.diffusion.samplers import Step
from msdm_lite.diffusion.sampling import Callback, State
from msdm_lite.errors import InputError
from msdm_lite.inference import levels
from msdm_lite.inference.defaults import require_seed, separation_method
from msdm_lite.inference.encoding import (
    check_samples,
    decode,
    encode,
    encode_stems,
    encoded_shape,
    gain_for,
    require_level,
)
from msdm_lite.inference.given import warn_of_misfit
from msdm_lite.inference.windows import Windowed
from msdm_lite.models import weights
from msdm_lite.models.base import StemModel
from msdm_lite.utils.device import large_blocks_returned

LOG = logging.getLogger("msdm_lite")


def separate_encoded(y: Tensor, denoise: Denoise, stems: int, method: str = "mixture-constrained",
                     steps: int | None = None, generator: torch.Generator | None = None,
                     variance: Tensor | None = None, **settings: Any) -> Iterator[State]:
    """The sampler of a separation, a generator of states, for encoded mixtures y (B, ...), the space of `denoise`.

    Args:
        denoise: obeys the denoiser contract.
        method: a name in METHODS; `steps` and other `settings` replace its own.
        variance: as `StemModel.variance`, for the methods that need it.
    """
    task = Task((len(y), stems, *y.shape[1:]), y, variance=variance)
    return methods.sample(task, denoise, methods.by_name(method, METHODS, steps=steps, **settings), generator)


@torch.no_grad()
@large_blocks_returned()
def separate(source: str | Path | Tensor, model: StemModel | str = "lite", method: str | None = None,
             *, steps: int | None = None, seed: int = 0, progress: bool = False, samples: int = 1,
             given: Mapping[str, str | Path | Tensor] | None = None, keep_stereo: bool = False,
             guidance: AnyGuidance | str | None = None, sampler: Step | str | None = None,
             callback: Callback | None = None, overlap: float = 0.25, batch: int | None = None,
             level: str = "training", **settings: Any) -> Tensor:
    """Stems (S, T) of a mixture, at their loudness in it.

    Args:
        source: a sound file of any rate, a tenth of a second or longer, or samples at the model's rate: (T,), or
            (2, T) with `keep_stereo`.
        model: from `msdm_lite.load`, or its name.
        method: a name in `msdm_lite.diffusion.methods.METHODS`. If None, "mixture-constrained" (one evaluation, the
            posterior mean) if the model was trained for it, else "dirac".
        steps: noise levels; the method's own number if None.
        seed: the same seed gives the same stems on the same device.
        samples: number of separations that are averaged. Their mean has a smaller error than each, and a duller sound.
        given: stems of the mixture that are known, by name: files or samples (T,), with `keep_stereo` also (2, T). If
            only one is missing, it is the mixture minus the others, and the model is not evaluated.
        keep_stereo: return (S, 2, T), with the panning of the mixture: left and right are separated as a mixture each,
            equal sides once. A mono stem that is given stands on both sides. Of four ways this scored best
            (`benchmarks/stereo.py`).
        guidance: a name in `msdm_lite.diffusion.guidances.GUIDANCES`, or an object, `guidance(x, sigma, denoise) -> d`.
            Without a method it comes with the noise levels and the churn of `msdm_lite.diffusion.methods.OWN_GUIDANCE`.
        sampler: a name in `msdm_lite.diffusion.samplers.SAMPLERS`, or a step.
        callback: called with each state of the sampler, (x, sigma, x0) with x (1, S, rows, L), at falling noise levels,
            the last of them 0; an exception in it ends the separation.
        overlap: share of a window that it has in common with the next, where the mixture is longer than a segment.
        batch: windows that go through the network together, which changes time and memory only; what suits the device
            if None.
        level: "training": the network gets the mixture at the level that it was trained at; "keep": as it is. The stems
            are as loud as they are in the mixture in both cases.
        settings: any other field of `msdm_lite.diffusion.methods.Method`, as churn, corrections, sigma_max, sigma_min,
            schedule, and the fields of the guidance.

    With every method but "gaussian", "pigdm" and "guided" the stems sum to the mixture; with those nearly.

    Raises:
        InputError: a file that cannot be used, samples that are not finite, shorter than 0.1 s, an unknown model or
            method, settings out of range.
    """
    if isinstance(model, str | Path):
        model = weights.load(model)
    require_level(level)
    require_seed(seed)
    settings |= {"steps": steps, "guidance": guidance, "sampler": sampler}
    chosen = separation_method(model, method, bool(given), **settings)
    if samples < 1:
        raise InputError(f"the mean of {samples} samples cannot be taken: 1 or more")
    wave = audio_io.samples(source, model.sample_rate, mono=not keep_stereo)
    if keep_stereo:
        if wave.ndim != 2 or wave.shape[0] not in (1, 2):
            raise InputError(f"stereo means a mixture (2, T), and not one of shape {tuple(wave.shape)}")
        check_samples(wave, model)
        wave = wave.expand(2, -1)  # a mono file gives both sides
        both = _given_sides(given or {}, model)
        sides = [partial(separate, wave[n], model, method, seed=seed, progress=progress, samples=samples,
                         given=both[n], callback=callback, overlap=overlap, batch=batch, level=level, **settings)
                 for n in range(2)]
        return _both_sides(sides, wave, both, len(model.stems))
    if wave.ndim != 1:
        raise InputError(f"a mixture is mono, (T,), and not of shape {tuple(wave.shape)}")
    check_samples(wave, model)
    S = len(model.stems)
    known = _given(given or {}, model, len(wave))
    for n, one in known.items():
        warn_of_misfit(model.stems[n], one, wave, model.sample_rate)
    if known and len(known) == S - 1:  # the last one is the mixture minus the others, whatever the method
        missing = wave - sum(known.values())
        return torch.stack([known.get(n, missing) for n in range(S)])
    effect = "left in, since stems are given: the others suffer" if known else levels.TAKEN_OUT
    sound, rms = levels.prepared(wave, model.sample_rate, effect=effect)
    wave = wave if known else sound
    if rms < 1e-12:
        LOG.warning("the mixture is silent, and so are its stems")
        return torch.zeros(S, len(wave))
    gain = gain_for(rms, model.mixture_rms, level)
    denoise = Windowed(model, overlap, batch)
    shape = (1, S, *encoded_shape(model, len(wave)))
    total = samples * chosen.nfe * denoise.batch_count(1, shape[-1])

    def start(generator: torch.Generator) -> Generator[State, None, Tensor]:
        y = encode(wave, model, gain)[None]  # (1, bins, L)
        clean = encode_stems(known, model, len(wave), gain) if known else None
        task = Task(shape, y, clean, list(known), variance=model.variance)
        return methods.sample(task, denoise, chosen, generator)

    with tqdm(total=total, desc="separating", unit="batch", disable=not progress, leave=False) as bar:
        denoise.tick = bar.update
        whole = _summed(start, samples, seed, callback)[0]
    stems = decode(whole, model, len(wave), 1 / (gain * samples))
    for n, one in known.items():  # to the last bit
        stems[n] = one
    return stems


def _both_sides(sides: Sequence[Callable[[], Tensor]], wave: Tensor, given: Sequence[Mapping[str, Tensor]],
                stems: int) -> Tensor:
    """Stems (S, 2, T) from the separation of each side of a mixture (2, T).

    A side that is silent, beside one that sounds, has silent stems, and sides that are equal are separated once.
    """
    alike = torch.equal(wave[0], wave[1]) and all(torch.equal(given[0][name], given[1][name]) for name in given[0])
    if alike:
        both = sides[0]()
        return torch.stack([both, both], 1)
    sounding = [bool(side.abs().max() > 1e-12) for side in wave]
    silent = torch.zeros(stems, wave.shape[-1])
    return torch.stack([sides[n]() if sounding[n] or not any(sounding) else silent for n in range(2)], 1)


def _given_sides(given: Mapping[str, str | Path | Tensor], model: StemModel) -> list[dict[str, Tensor]]:
    """Given stems of the left and of the right side, (T,) each; a mono stem stands on both."""
    waves = {name: audio_io.samples(source, model.sample_rate, mono=False) for name, source in given.items()}
    for name, wave in waves.items():
        if wave.ndim == 2 and len(wave) > 2:
            waves[name] = audio_io.mixed_down(wave, name)
        elif wave.ndim not in (1, 2):
            raise InputError(f"{name} is (T,) or (2, T), and not of shape {tuple(wave.shape)}")
    return [{name: wave if wave.ndim == 1 else wave[min(side, len(wave) - 1)] for name, wave in waves.items()}
            for side in range(2)]


def _summed(start: Callable[[torch.Generator], Generator[State, None, Tensor]], samples: int, seed: int,
            callback: Callback | None = None) -> Tensor:
    """The sum of that many samples, with noise of one seed; `start` returns a new sampler and keeps no reference."""
    generator = torch.Generator().manual_seed(seed)
    whole = sampling.final_x(start(generator), callback)
    for _ in range(samples - 1):
        whole.add_(sampling.final_x(start(generator), callback))
    return whole


@torch.no_grad()
@large_blocks_returned()
def separate_batch(mixtures: Tensor, model: StemModel, method: str | None = None, *, steps: int | None = None,
                   seed: int = 0, samples: int = 1, **settings: Any) -> Tensor:
    """Stems (B, S, T) of mixtures (B, T) of one length, equal up to rounding to `separate` of each mixture.

    For GPUs, which one mixture does not fill. All mixtures get the same noise, as they would one by one.
    Arguments and errors are those of `separate`.
    """
    chosen = separation_method(model, method, steps=steps, **settings)
    if samples < 1 or mixtures.ndim != 2:
        raise InputError(f"the mean of {samples} samples of mixtures (B, T) cannot be taken of {tuple(mixtures.shape)}")
    mixtures = mixtures.detach().cpu()
    check_samples(mixtures, model)
    B, T = mixtures.shape
    sounds, loud = zip(*(levels.prepared(wave, model.sample_rate) for wave in mixtures), strict=True)
    audible = [i for i in range(B) if loud[i] >= 1e-12]  # a silent mixture has silent stems
    stems = torch.zeros(B, len(model.stems), T)
    if not audible:
        return stems
    denoise, shape = Windowed(model), (len(audible), len(model.stems), *encoded_shape(model, T))
    gains = {i: gain_for(loud[i], model.mixture_rms) for i in audible}
    y = torch.stack([encode(sounds[i], model, gains[i]) for i in audible])

    def start(generator: torch.Generator) -> Generator[State, None, Tensor]:
        return methods.sample(Task(shape, y, variance=model.variance), denoise, chosen, [generator] * len(audible))

    for i, found in zip(audible, _summed(start, samples, seed), strict=True):
        stems[i] = decode(found, model, T, 1 / (gains[i] * samples))
    return stems


def _given(given: Mapping[str, str | Path | Tensor], model: StemModel, samples: int) -> dict[int, Tensor]:
    """Stems by number, (T,) each, as long as the mixture."""
    waves = {}
    for name, source in given.items():
        model.stem_index(name)
        wave = audio_io.samples(source, model.sample_rate)
        check_samples(wave, model, name)
        if wave.ndim != 1 or abs(len(wave) - samples) > 0.05 * model.sample_rate:
            raise InputError(f"{name} must be as long as the mixture, ({samples},) samples, and is {tuple(wave.shape)}")
        if len(wave) != samples:
            wave = torch.nn.functional.pad(wave[:samples], (0, max(0, samples - len(wave))))
        waves[model.stem_index(name)] = wave
    if len(waves) == len(model.stems):
        raise InputError("all stems are given: there is nothing to separate")
    return waves
