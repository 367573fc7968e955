import torch

from msdm_lite.diffusion import Denoiser, add_noise, draw_sigma, loss
from msdm_lite.known import Known
from msdm_lite.oracle import GaussianMixture


class Silent(torch.nn.Module):
    """A net that says nothing."""

    def forward(self, seen, told):
        return torch.zeros(len(seen), 12, *seen.shape[2:])


def untrained(F=5) -> Denoiser:
    return Denoiser(Silent(), 0.02 + torch.rand(4, F), told=16)


def test_a_silent_net_is_the_exact_wiener_filter():
    """For every shape of noise: against the oracle of independent Gaussians, coefficient by coefficient."""
    denoiser = untrained()
    x = torch.randn(5, 4, 5, 3)
    sigma = torch.tensor([0.05, 0.3, 2.0, 0.3, 0.3])
    known = Known(torch.tensor([False, False, True, True, False]),
                  torch.tensor([[0, 0, 0, 0]] * 3 + [[1, 0, 0, 0], [0, 1, 1, 0]], dtype=torch.bool))
    got = denoiser(x, sigma, known)
    for f in range(5):
        oracle = GaussianMixture(torch.ones(1).double(), torch.zeros(1, 4).double(),
                                 torch.diag(denoiser.deviation[:, f].double() ** 2)[None])
        for t in range(3):
            exact = oracle.denoise(x[:, :, f, t].double(), sigma.double(), known)
            assert torch.allclose(got[:, :, f, t].double(), exact, atol=1e-4, rtol=1e-4)


def test_known_stems_come_back_untouched_and_stems_sum_to_a_known_mixture(tiny):
    x = 0.05 * torch.randn(2, 4, 1024, 9)
    known = Known(torch.tensor([True, True]), torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.bool))
    got = tiny.denoise(x, torch.tensor([0.5, 0.5]), known)
    assert torch.equal(got[1, 1], x[1, 1])
    assert (got.sum(1) - x.sum(1)).abs().max() < 1e-5


def test_the_net_is_heard(tiny):
    """The random last layers of the fixture change the result: the net is connected, for both shapes."""
    silent = Denoiser(Silent(), tiny.denoiser.deviation, tiny.config.told)
    x, sigma = 0.05 * torch.randn(1, 4, 1024, 8), torch.tensor([0.3])
    for known in (None, Known.the_mixture(x)):
        assert (tiny.denoise(x, sigma, known) - silent(x, sigma, known)).abs().max() > 1e-3


def test_noise_has_the_level_and_the_shape_asked_for(generator):
    x = torch.zeros(2, 4, 64, 200)
    noisy = add_noise(x, torch.tensor([0.5, 2.0]), Known(torch.tensor([False, True]), torch.zeros(2, 4).bool()),
                      generator)
    # 51200 values: relative error of a standard deviation 0.3 %
    assert abs(noisy[0].std().item() / 0.5 - 1) < 0.02
    assert abs(noisy[1].std().item() / (2 * (3 / 4) ** 0.5) - 1) < 0.02  # zero-sum noise of four has 3/4 the variance
    assert noisy[1].sum(0).abs().max() < 1e-4


def test_levels_follow_their_two_distributions(generator):
    known = Known(torch.arange(20_000) % 2 == 0, torch.zeros(20_000, 4).bool())
    logs = draw_sigma(20_000, known, (-1.6, 1.2), (0.2, 1.5), generator).log()
    for where, mean, deviation in ((~known.mixture, -1.6, 1.2), (known.mixture, 0.2, 1.5)):
        assert abs(logs[where].mean().item() - mean) < 0.06 and abs(logs[where].std().item() - deviation) < 0.05


def test_loss_of_the_wiener_filter_on_its_own_gaussians_is_one(generator):
    """With nothing known: the error of the exact filter, in units of its uncertainty. The tilt does not change this."""
    denoiser = untrained(40)
    x = torch.randn(8, 4, 40, 300, generator=generator) * denoiser.deviation[:, :, None]
    for tilt in (0.0, 0.5, 1.0):
        each = loss(denoiser, x, torch.full((8,), 0.3), Known.nothing(x), generator, tilt)
        assert each.shape == (8,)
        assert abs(each.mean().item() - 1) < 0.02


def test_a_small_net_learns_the_oracles_denoiser(generator):
    """The minimiser of denoising score matching is the conditional mean: learned where the answer is known."""
    oracle = GaussianMixture(torch.tensor([0.5, 0.5]), torch.tensor([[1.0, 0.5], [-1.0, 0.0]]),
                             0.1 * torch.eye(2).expand(2, 2, 2))
    net = torch.nn.Sequential(torch.nn.Linear(2, 64), torch.nn.SiLU(), torch.nn.Linear(64, 64), torch.nn.SiLU(),
                              torch.nn.Linear(64, 2))
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    sigma = torch.full((1024,), 0.5)
    for _ in range(400):
        clean = oracle.sample(1024, generator)
        error = (net(add_noise(clean, sigma, generator=generator)) - clean).square().mean()
        error.backward()
        optimizer.step()
        optimizer.zero_grad()
    x = add_noise(oracle.sample(2000, generator), sigma[:1].expand(2000), generator=generator)
    exact = oracle.denoise(x, torch.full((2000,), 0.5))
    # the denoiser's own spread is about 1; a net that ignores x would be off by that
    assert (net(x) - exact).square().mean().sqrt() < 0.1
