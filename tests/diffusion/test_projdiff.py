import pytest
import torch

from msdm_lite.diffusion.oracle import gaussian
from msdm_lite.diffusion.projdiff import projdiff
from msdm_lite.diffusion.sampling import final_state
from msdm_lite.diffusion.schedules import karras
from msdm_lite.errors import InputError

Y = torch.tensor([1.5, -0.2], dtype=torch.float64)


@pytest.fixture
def oracle():
    return gaussian(torch.zeros(3).double(), torch.diag(torch.tensor([1.0, 0.25, 0.5]).double()))


def test_as_published_step_by_step(oracle):
    """Rate 0.1, five inner steps, momentum 0.5, projection by equal shares: written out, same noise, same estimates."""
    noise = torch.Generator().manual_seed(0)
    x0 = (Y / 3)[:, None].repeat(1, 3)
    m = torch.zeros_like(x0)
    sigmas = karras(6, 0.05, 2.0)
    for s, state in zip(sigmas, projdiff(Y, 3, sigmas, oracle.denoise, generator=torch.Generator().manual_seed(0)),
                        strict=False):
        for _ in range(5):
            x = x0 + s * torch.randn(x0.shape, generator=noise, dtype=x0.dtype)
            m = 0.5 * m + 0.5 * (oracle.denoise(x, torch.full((2,), s, dtype=x0.dtype)) - x0)
            x0 = x0 + 0.1 * m
            x0 = x0 + (Y - x0.sum(1))[:, None] / 3
        assert torch.allclose(state.x, x0) and state.x is state.x0 and state.sigma == s


def test_it_finds_the_mode_of_gaussians(oracle):
    """One mode: with many levels every run ends near the posterior's mean, which is also its most likely point."""
    y = torch.full((200,), 1.5).double()
    got = final_state(projdiff(y, 3, karras(300, 0.05, 2.0), oracle.denoise,
                               generator=torch.Generator().manual_seed(0))).x
    exact = oracle.posterior(1.5)
    assert torch.allclose(got.sum(1), y)
    assert (got[:, :2].mean(0) - exact.means[0]).abs().max() < 0.1  # of 0.86: it has not converged
    assert got[:, 0].var() < 0.1 * exact.covariances[0, 0, 0]


def test_refused_settings(oracle):
    for settings, values in (({"inner_steps": 0}, r"0, 0\.5 and 0\.5"), ({"rate": -1.0}, r"5, -1\.0 and 0\.5"),
                             ({"momentum": 1.0}, r"5, 0\.1 and 1\.0")):
        with pytest.raises(InputError, match=f"a momentum in .*, not {values}"):
            next(projdiff(Y, 3, [1.0, 0.0], oracle.denoise, **settings))
    with pytest.raises(FloatingPointError, match=r"sigma = 0\.5"):
        final_state(projdiff(Y, 3, [1.0, 0.5], lambda x, s: x * (torch.nan if s[0] < 0.6 else 1)))
