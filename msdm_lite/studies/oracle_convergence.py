"""Distance of each method's samples to the exact posterior, by network evaluations (NFE).

`python -m msdm_lite.studies oracle-convergence --out FILE` writes the record. The sources have analytic distributions,
Gaussians and mixtures of Gaussians, so the posterior is known exactly. The distance that remains as the NFE grow is the
bias of the method. Chapter: `book/07-separation.ipynb`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from msdm_lite.diffusion import guidance, methods, sampling, schedules
from msdm_lite.diffusion.conditioning import Conditioning, Task
from msdm_lite.diffusion.guidances import GUIDANCES
from msdm_lite.diffusion.methods import Method
from msdm_lite.diffusion.noise import project
from msdm_lite.diffusion.oracle import GaussianMixture, gaussian
from msdm_lite.diffusion.samplers import SAMPLERS
from msdm_lite.studies.runner import Run, study
from msdm_lite.utils.imports import library

DOUBLE: Any = {"dtype": torch.float64}
POINT = torch.tensor([0.9, -0.4, 0.6], **DOUBLE)  # the true sources: their sum is the mixture


def independent() -> GaussianMixture:
    """Three independent Gaussian sources with variances 1, 0.25 and 0.5."""
    return gaussian(torch.zeros(3, **DOUBLE), torch.diag(torch.tensor([1.0, 0.25, 0.5], **DOUBLE)))


def correlated() -> GaussianMixture:
    """Gaussian sources of the same variances with context: correlations 0.6, -0.3 and -0.2."""
    r = torch.tensor([[1.0, 0.6, -0.3], [0.6, 1.0, -0.2], [-0.3, -0.2, 1.0]], **DOUBLE)
    s = torch.tensor([1.0, 0.5, 0.5**0.5], **DOUBLE)
    return gaussian(torch.zeros(3, **DOUBLE), r * s * s[:, None])


def two_modes() -> GaussianMixture:
    """Three sources with two modes of equal weight: a mixture of two Gaussians."""
    return GaussianMixture(torch.tensor([0.5, 0.5], **DOUBLE),
                           torch.tensor([[0.8, -0.6, 0.5], [-0.7, 0.6, -0.4]], **DOUBLE),
                           torch.stack([torch.diag(torch.tensor([0.3, 0.1, 0.15], **DOUBLE))] * 2))


SOURCES = {"independent Gaussians": independent, "correlated Gaussians": correlated, "two tunes": two_modes}


@dataclass(frozen=True)
class Arm:
    """A method on a task: whether the mixture is given, which stems are given, and churn as a share of the steps."""

    method: Method
    mixture: bool = True
    stems: tuple[int, ...] = ()
    churn: float = 0.0
    conditional: bool = False  # classifier-free guidance, with the exact denoiser given the mixture


def _method(kind: str, sigma_max: float = 10.0, **settings) -> Method:
    return Method("", GUIDANCES.find(kind)(), 1, sigma_max, 1e-3).replace(**settings)


ARMS = {
    "prior: unconditional": Arm(_method("prior"), mixture=False),
    "mixture: zero-sum noise": Arm(_method("conditioned")),
    "mixture: zero-sum noise from sigma 160, Heun": Arm(_method("conditioned", sigma_max=160.0, sampler="heun")),
    "mixture: zero-sum noise, Heun": Arm(_method("conditioned", sampler="heun")),
    "mixture: zero-sum noise, DPM-Solver++": Arm(_method("conditioned", sampler="dpm-solver")),
    "mixture: Dirac": Arm(_method("dirac")),
    "mixture: Dirac, churn": Arm(_method("dirac"), churn=0.2),
    "mixture: Dirac, churn, R = 2": Arm(_method("dirac", corrections=2), churn=0.2),
    "mixture: Dirac, rotating, churn": Arm(_method("dirac", constrained_stem=(0, 1, 2)), churn=0.2),
    "mixture: Gaussian": Arm(_method("gaussian")),
    "mixture: Gaussian, churn": Arm(_method("gaussian"), churn=0.2),
    "mixture: Wiener shares": Arm(_method("wiener")),
    "mixture: Wiener shares, churn": Arm(_method("wiener"), churn=0.2),
    "mixture: PiGDM": Arm(_method("pigdm")),
    "mixture: PiGDM, churn": Arm(_method("pigdm"), churn=0.2),
    "mixture: ProjDiff": Arm(_method("projdiff", sigma_max=3.0)),
    "mixture: conditional denoiser, weight 1": Arm(_method("guided"), conditional=True),
    "mixture: conditional denoiser, weight 2": Arm(_method("guided", weight=2.0), conditional=True),
    "stem: noise on the others": Arm(_method("conditioned"), mixture=False, stems=(0,)),
    "stem: replacement": Arm(_method("prior"), mixture=False, stems=(0,)),
    "stem: replacement, churn": Arm(_method("prior"), mixture=False, stems=(0,), churn=0.2),
    "stem: replacement, R = 4": Arm(_method("prior", corrections=4), mixture=False, stems=(0,)),
    "stem: replacement, R = 16": Arm(_method("prior", corrections=16), mixture=False, stems=(0,)),
    "both: constrained noise": Arm(_method("conditioned"), stems=(0,)),
    "both: replacement and Dirac": Arm(_method("dirac"), stems=(0,), churn=0.2),
    "both: replacement and Gaussian": Arm(_method("gaussian"), stems=(0,), churn=0.2),
}


def budget(method: Method, evaluations: int) -> int | None:
    """The largest number of steps, two or more, whose NFE do not exceed `evaluations`; None if two steps exceed it."""
    first = method.replace(steps=2).nfe
    each = method.replace(steps=3).nfe - first
    return 2 + (evaluations - first) // each if first <= evaluations else None


def sample(oracle: GaussianMixture, arm: Arm, steps: int, count: int, seed: int = 0) -> Tensor:
    """Samples (count, S) that the arm's method draws with the denoiser of an analytic distribution in `steps` steps."""
    S = oracle.means.shape[1]
    point = POINT[:S].expand(count, S)
    method = arm.method.replace(steps=steps, churn=arm.churn * steps, limit=float("inf"))  # divergence is a result
    y = point.sum(1) if arm.mixture else None
    generator = torch.Generator().manual_seed(seed)
    if arm.conditional:  # the denoiser given the mixture is that of the exact posterior
        exact = oracle.given(POINT[:S], Conditioning(torch.tensor([True]), torch.zeros(1, S).bool()))
        x = method.sigma_max * torch.randn(count, S, generator=generator, **DOUBLE)
        settings: Any = method.guidance
        guide = guidance.classifier_free(exact.denoise, settings.weight)
        return sampling.final_state(sampling.sample(x, method.sigmas, guide, oracle.denoise)).x
    variance = oracle.sample(20000, torch.Generator().manual_seed(1)).var(0)
    task = Task((count, S), y, point if arm.stems else None, arm.stems, variance=variance)
    return sampling.final_state(methods.sample(task, oracle.denoise, method, generator)).x.detach().double()


def target(oracle: GaussianMixture, arm: Arm) -> GaussianMixture:
    """The exact density of the sources, given what the arm is conditioned on."""
    S = oracle.means.shape[1]
    stems = torch.zeros(1, S).bool()
    stems[:, list(arm.stems)] = True
    return oracle.given(POINT[:S], Conditioning(torch.tensor([arm.mixture]), stems))


def distances(samples: Tensor, exact: GaussianMixture, directions: int = 32) -> dict[str, float]:
    """Distances of samples (n, S) to an exact density. C is its covariance, and sqrt(tr C) the unit of length.

    mean: distance of the means. covariance: Frobenius distance of the covariances, divided by the norm of C.
    sliced_wasserstein: Wasserstein-1 distance to n exact samples, mean over random directions.
    """
    others = exact.sample(len(samples), torch.Generator().manual_seed(2)).to(samples)
    means = (exact.weights[:, None] * exact.means).sum(0)
    off = exact.means - means
    C = (exact.weights[:, None, None] * (exact.covariances + off[:, :, None] * off[:, None])).sum(0)
    scale = C.trace().sqrt()
    along = torch.randn(directions, samples.shape[1], generator=torch.Generator().manual_seed(3), **DOUBLE)
    along = along / along.norm(dim=1, keepdim=True)
    wasserstein = library("scipy.stats").wasserstein_distance
    apart = [wasserstein((samples @ d).numpy(), (others @ d).numpy()) for d in along]
    return {"mean": ((samples.mean(0) - means).norm() / scale).item(),
            "covariance": ((samples.T.cov() - C).norm() / C.norm()).item(),
            "sliced_wasserstein": (np.mean(apart) / scale).item()}


def curve(oracle: GaussianMixture, arm: Arm, evaluations: list[int], count: int,
          tick: Callable[[], object] = lambda: None) -> list[dict[str, float] | None]:
    """`distances` at each NFE of `evaluations`; None where two steps exceed it. `tick` is called after each."""
    rows: list[dict[str, float] | None] = []
    for number in evaluations:
        steps = budget(arm.method, number)
        apart = distances(sample(oracle, arm, steps, count), target(oracle, arm)) if steps else None
        rows.append(apart and {measure: round(value, 4) for measure, value in apart.items()})
        tick()
    return rows


def path_errors(sampler: str, stems: tuple[int, ...], mixture: bool, steps: list[int]) -> list[float]:
    """RMS distance of a sampler's end state to that of the exact ODE trajectory, for each number of noise levels.

    Both start from the same noise, on the correlated Gaussians, in the subspace of what is unknown. The exact
    trajectory is Heun's with 3000 noise levels. The last step, to noise level 0, is left out, because all samplers take
    it alike.
    """
    exact = path_end("heun", stems, mixture, 3000)
    return [(path_end(sampler, stems, mixture, count) - exact).square().mean().sqrt().item() for count in steps]


@cache
def path_end(sampler: str, stems: tuple[int, ...], mixture: bool, count: int) -> Tensor:
    """The state (500, 3) that a sampler reaches with `count` noise levels from 5 to 0.01, from fixed noise."""
    x = POINT.expand(500, 3)
    shape = Conditioning.on_stems(x, stems, mixture)
    start = x + 5.0 * project(torch.randn(500, 3, generator=torch.Generator().manual_seed(0), **DOUBLE), shape)
    levels = schedules.exponential(count, 0.01, 5.0)[:-1]
    return sampling.final_state(sampling.sample(start, levels, guidance.conditioned(shape), correlated().denoise,
                                                SAMPLERS.find(sampler))).x


def orders() -> dict:
    """Order of convergence of each sampler for every conditioning: errors, and their slope on logarithmic axes."""
    steps, found = [20, 40, 80, 160], {}
    for sampler in ("euler", "heun", "dpm-solver"):
        for task, stems, mixture in (("mixture", (), True), ("stem", (0,), False),
                                     ("both", (0,), True)):
            errors = path_errors(sampler, stems, mixture, steps)
            slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
            found[f"{task}: {sampler}"] = {"errors": [float(f"{e:.3g}") for e in errors],
                                           "slope": round(float(slope), 2)}
    return {"steps": steps, "errors": found}


@study("oracle-convergence", records=("oracle-convergence",),
       measures="every method's distance to the exact posterior, by NFE", tolerance=0.001)
def main(run: Run, count: int = 20000) -> dict:
    """Measure all methods on all sources and write one JSON file.

    Args:
        count: samples of each arm.
    """
    run.precision = "float64"
    evaluations = [10, 20, 40, 80, 160, 320]
    found: dict = {"what": "distance of samples to the exact posterior, in units of its deviation, as evaluations grow",
                   "n": count, "seed": 0, "evaluations": evaluations, "orders": run.keep("orders", orders),
                   "sources": {}}
    with tqdm(total=len(SOURCES) * len(ARMS) * len(evaluations), unit="run") as bar:
        for name, make in SOURCES.items():
            found["sources"][name] = run.keep(name, partial(curves, make(), evaluations, count, bar.update))
    return found


def curves(oracle: GaussianMixture, evaluations: list[int], count: int, tick: Callable[[], object]) -> dict:
    """`curve` of every arm by name, and before them the distances of exact samples, which are due to chance alone."""
    exact = target(oracle, ARMS["mixture: Dirac"])
    chance = distances(exact.sample(count, torch.Generator().manual_seed(4)), exact)
    return {"exact samples: chance alone": [chance] * len(evaluations)} | {
        name: curve(oracle, arm, evaluations, count, tick) for name, arm in ARMS.items()}
