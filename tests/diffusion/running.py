"""A sampler run with all its settings in one call, for tests."""

from msdm_lite.diffusion import sampling
from msdm_lite.diffusion.sampling import Sampler


def run(step, x, sigmas, guidance, denoise, churn=0.0, corrections=1, constraint=None, generator=None):
    """The states of `sampling.sample` with this step, churn and R."""
    return sampling.sample(x, sigmas, guidance, denoise, Sampler(step, churn, corrections), constraint, generator)
