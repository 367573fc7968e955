"""Separation of a mixture of any length: what `msdm-lite separate` calls. Chapter: `book/07-separation.ipynb`."""

import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from msdm_lite.audio import io as audio_io
from msdm_lite.audio.levels import MIXTURE_RMS, mixture_rms
from msdm_lite.diffusion import methods, sampling
from msdm_lite.diffusion.methods import METHODS
from msdm_lite.errors import InputError
from msdm_lite.inference.defaults import separation_method
from msdm_lite.inference.encoding import check_samples, decode, encode, encode_stems, encoded_shape
from msdm_lite.inference.windows import Windowed
from msdm_lite.models import weights
from msdm_lite.models.base import StemModel
from msdm_lite.utils.device import large_blocks_returned

LOG = logging.getLogger("msdm_lite")



def separate_encoded(y: Tensor, denoise, stems: int, method: str = "mixture-constrained", steps: int | None = None,
                      generator: torch.Generator | None = None, variance: Tensor | None = None,
                      **settings) -> Iterator[sampling.State]:
    """The sampler of a separation, a generator of states, for mixtures y (B, ...) in the space where `denoise` works.

    Args:
        denoise: obeys the denoiser contract.
        method: a name in METHODS; `steps` and other `settings` replace its own.
        variance: as `StemModel.variance`, for the methods that need it.
    """
    m = methods.by_name(method, METHODS, steps=steps, **settings)
    return methods.conditional(denoise, (len(y), stems, *y.shape[1:]), m, y, variance=variance, generator=generator)


@torch.no_grad()
@large_blocks_returned()
def separate(source: str | Path | Tensor, model: StemModel | str = "lite", method: str | None = None,
             steps: int | None = None, seed: int = 0, progress: bool = False, samples: int = 1,
             given: Mapping[str, str | Path | Tensor] | None = None, keep_stereo: bool = False, **settings) -> Tensor:
    """Stems (S, T) of a mixture, as loud as they are in it.

    Args:
        source: a sound file of any rate, a tenth of a second or longer, or samples at the model's rate: (T,), or
            (2, T) with `keep_stereo`.
        model: from `msdm_lite.load`, or its name.
        method: a name in `msdm_lite.diffusion.methods.METHODS`. If None, "mixture-constrained" (one evaluation, the
            posterior mean) where the model was trained for it, and "dirac" where not.
        steps: noise levels; the method's own number if None.
        seed: the same seed gives the same stems on the same device.
        samples: how many separations are averaged. The mean is nearer to the truth than each of them, and duller.
        given: stems of the mixture that are known already, by name: files or samples (T,). If all but one are, that
            one is what they leave of the mixture, and no model is asked.
        keep_stereo: return (S, 2, T), each stem where it stood: left and right are separated as a mixture each. Of
            four ways this scored best (`benchmarks/stereo.py`), since where a stem is louder it is easier to find.
        settings: any other field of `msdm_lite.diffusion.methods.Method`: churn, corrections, sigma_max, sigma_min,
        sampler, ...

    The stems sum to the mixture with every method but "gaussian", "pigdm" and "guided", which only come near.

    Raises:
        InputError: a file that cannot be used, samples that are not finite, shorter than 0.1 s, an unknown model or
            method, settings that make no sense.
    """
    if isinstance(model, str | Path):
        model = weights.load(model)
    chosen = separation_method(model, method, bool(given), steps=steps, **settings)
    if samples < 1:
        raise InputError(f"the mean of {samples} samples cannot be taken: 1 or more")
    wave = audio_io.samples(source, model.sample_rate, mono=not keep_stereo)
    if keep_stereo:
        if wave.ndim != 2 or wave.shape[0] > 2 or given:
            raise InputError("stereo means a mixture (2, T), of which no stem is given"
                             f"{'' if given else f', and not one of shape {tuple(wave.shape)}'}")
        sides = [separate(side, model, method, steps, seed, progress, samples, **settings) for side in wave]
        return torch.stack([sides[0], sides[-1]], 1)  # a mono file is both sides
    if wave.ndim != 1:
        raise InputError(f"a mixture is mono, (T,), and not of shape {tuple(wave.shape)}")
    check_samples(wave, model)
    S = len(model.stems)
    known = _given(given or {}, model, len(wave))
    if known and len(known) == S - 1:  # the last one is what those leave, whatever the method
        rest = wave - sum(known.values())
        return torch.stack([known.get(n, rest) for n in range(S)])
    level = mixture_rms(wave, model.sample_rate // 4)
    if level < 1e-12:
        LOG.warning("the mixture is silent, and so are its stems")
        return torch.zeros(S, len(wave))
    gain = MIXTURE_RMS / level
    denoise = Windowed(model)
    shape = (1, S, *encoded_shape(model, len(wave)))
    total = samples * chosen.nfe * denoise.batch_count(1, shape[-1])

    def start(generator: torch.Generator) -> Generator[sampling.State, None, Tensor]:
        y = encode(wave, model, gain)[None]  # (1, bins, L)
        clean = encode_stems(known, model, len(wave), gain) if known else None
        return methods.conditional(denoise, shape, chosen, y, clean, list(known), variance=model.variance,
                                   generator=generator)

    with tqdm(total=total, desc="separating", unit="batch", disable=not progress, leave=False) as bar:
        denoise.tick = bar.update
        whole = _summed(start, samples, seed)[0]
    stems = decode(whole, model, len(wave), 1 / (gain * samples))
    for n, one in known.items():  # to the last bit
        stems[n] = one
    return stems


def _summed(start: Callable[[torch.Generator], Generator[sampling.State, None, Tensor]], samples: int, seed: int
            ) -> Tensor:
    """The sum of so many samples, whose noise comes from one seed; `start` makes a sampler and holds none of it."""
    generator = torch.Generator().manual_seed(seed)
    whole = sampling.final_x(start(generator))
    for _ in range(samples - 1):
        whole.add_(sampling.final_x(start(generator)))
    return whole


@torch.no_grad()
@large_blocks_returned()
def separate_batch(mixtures: Tensor, model: StemModel, method: str | None = None, steps: int | None = None,
                      seed: int = 0, samples: int = 1, **settings) -> Tensor:
    """Stems (B, S, T) of mixtures (B, T) of one length, to rounding what `separate` finds for each of them alone.

    For GPUs, which one mixture leaves idle. All get the same noise, as each would by itself. Arguments and errors are
    those of `separate`.
    """
    chosen = separation_method(model, method, steps=steps, **settings)
    if samples < 1 or mixtures.ndim != 2:
        raise InputError(f"the mean of {samples} samples of mixtures (B, T) cannot be taken of {tuple(mixtures.shape)}")
    check_samples(mixtures, model)
    B, T = mixtures.shape
    levels = [mixture_rms(wave, model.sample_rate // 4) for wave in mixtures]
    heard = [i for i in range(B) if levels[i] >= 1e-12]  # what is silent has silent stems
    stems = torch.zeros(B, len(model.stems), T)
    if not heard:
        return stems
    denoise, shape = Windowed(model), (len(heard), len(model.stems), *encoded_shape(model, T))
    y = torch.stack([encode(mixtures[i], model, MIXTURE_RMS / levels[i]) for i in heard])

    def start(generator: torch.Generator) -> Generator[sampling.State, None, Tensor]:
        return methods.conditional(denoise, shape, chosen, y, variance=model.variance,
                                   generator=[generator] * len(heard))

    for i, found in zip(heard, _summed(start, samples, seed), strict=True):
        stems[i] = decode(found, model, T, levels[i] / (MIXTURE_RMS * samples))
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
        raise InputError("all stems are given: there is nothing to find")
    return waves
