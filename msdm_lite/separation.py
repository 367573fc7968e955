"""Separation of a mixture of any length: what `msdm-lite separate` calls. Chapter: `book/07-separation.ipynb`."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from msdm_lite import audio, guidance, sampling, weights
from msdm_lite.errors import InputError
from msdm_lite.known import Known, project
from msdm_lite.model import Model
from msdm_lite.windows import Windowed

LEVEL = 0.12  # active RMS of a mixture of four stems as the models know it
LOG = logging.getLogger("msdm_lite")


@dataclass(frozen=True)
class Method:
    """How to separate: the settings of a sampler. The published ones are the paper's, with fewer steps."""

    summary: str
    steps: int
    high: float
    low: float = 1e-3
    churn: float = 0.0
    corrections: int = 1


METHODS = {
    "mixture-known": Method("noise that leaves the mixture clean; one step is the posterior mean", 1, 10.0, 1e-2),
    "dirac": Method("the paper's Dirac likelihood: one stem is the mixture minus the others", 150, 1.0, 1e-4, 20.0, 2),
    "gaussian": Method("the paper's Gaussian likelihood: the sum of the stems is near the mixture", 150, 1.0, 1e-4,
                       40.0, 2),
}


def method_named(name: str) -> Method:
    """Raises InputError for an unknown name."""
    if name not in METHODS:
        raise InputError(f"there is no method {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name]


def separate_pictures(y: Tensor, denoise, stems: int, method: str = "mixture-known", steps: int | None = None,
                      generator: torch.Generator | None = None, constrained: int = 0, **settings):
    """The sampler of a separation, a generator of states, for mixtures y (B, ...) in the space where `denoise` works.

    Args:
        denoise: obeys the denoiser contract.
        method: a name in METHODS; `steps` and other `settings` (high, low, churn, corrections, c) replace its own.
        constrained: the stem that the Dirac method computes as the rest.
    """
    m = method_named(method)
    high, low = settings.get("high", m.high), settings.get("low", m.low)
    steps = m.steps if steps is None else steps
    shape = (len(y), stems, *y.shape[1:])
    n = torch.randn(shape, generator=generator, device=generator.device if generator else y.device).to(y)
    known = None
    if method == "mixture-known":
        known = Known.the_mixture(n)
        guide = guidance.mixture_known()
        x = (y / stems).unsqueeze(1) + high * project(n, known)  # the sum over stems is y
    elif method == "dirac":
        guide = guidance.dirac(y, constrained)
        x = high * n
    else:
        guide = guidance.gaussian(y, *([settings["c"]] if "c" in settings else []))
        x = high * n
    return sampling.euler(x, sampling.karras(steps, low, high), guide, denoise, settings.get("churn", m.churn),
                          settings.get("corrections", m.corrections), known, generator)


def loudness(wave: Tensor, window: int) -> float:
    """Root mean square of (T,) over the windows within 40 dB of the loudest; 0 for silence."""
    padded = F.pad(wave.double(), (0, -len(wave) % window)).reshape(-1, window)
    power = padded.square().sum(1) / torch.full((len(padded),), window).index_fill_(
        0, torch.tensor([len(padded) - 1]), (len(wave) - 1) % window + 1)
    return float(power[power >= 1e-4 * power.max()].mean().sqrt())


@torch.no_grad()
def separate(source: str | Path | Tensor, model: Model | str = "lite", method: str = "mixture-known",
             steps: int | None = None, seed: int = 0, progress: bool = False, **settings) -> Tensor:
    """Stems (S, T) of a mixture, as loud as they are in it.

    Args:
        source: a sound file of any rate, a tenth of a second or longer, or mono samples (T,) at the model's rate.
        model: from `msdm_lite.load`, or its name.
        method: "mixture-known" (the default: one evaluation, the posterior mean), "dirac" or "gaussian".
        steps: noise levels; the method's own number if None.
        seed: the same seed gives the same stems on the same device.

    The stems sum to the mixture with every method but the Gaussian: its likelihood only asks them to come near.

    Raises:
        InputError: a file that cannot be used, samples that are not finite, shorter than 0.1 s, an unknown model or
            method, settings that make no sense.
    """
    m = method_named(method)
    if isinstance(model, str | Path):
        model = weights.load(model)
    wave = source if isinstance(source, Tensor) else audio.load(source, model.sample_rate)
    if wave.ndim != 1:
        raise InputError(f"a mixture is mono, (T,), and not of shape {tuple(wave.shape)}")
    if len(wave) < 0.1 * model.sample_rate:
        raise InputError(f"{len(wave) / model.sample_rate:.3f} s is too short: a tenth of a second is the least")
    if not torch.isfinite(wave).all():
        raise InputError("the mixture has samples that are not finite")
    S, N = len(model.stems), model.config.bins
    level = loudness(wave, model.sample_rate // 4)
    if level < 1e-12:
        LOG.warning("the mixture is silent, and so are its stems")
        return torch.zeros(S, len(wave))
    # A hop of silence on each side: the picture is a loop, and its end must not sound in its beginning
    padded = F.pad(wave.float() * (LEVEL / level), (N, N + -len(wave) % N))
    y = model.transform.forward(padded).to(model.device)[None]  # (1, bins, L)
    evaluations = (m.steps if steps is None else steps) * settings.get("corrections", m.corrections)
    denoise = Windowed(model)
    total = evaluations * denoise.evaluations(1, y.shape[-1])
    with tqdm(total=total, desc="separating", unit="batch", disable=not progress, leave=False) as bar:
        denoise.tick = bar.update
        states = separate_pictures(y, denoise, S, method, steps, torch.Generator().manual_seed(seed), **settings)
        state = sampling.last(states)
    stems = model.transform.inverse(state.x[0].cpu())[:, N : N + len(wave)]
    return stems * (level / LEVEL)
