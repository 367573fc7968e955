import math

import pytest
import torch
import torch.nn.functional as F

from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.diffusion.denoiser import Denoiser, Denoiser1d, NoiseEmbedding, edm_loss, error, loss
from msdm_lite.diffusion.noise import add_noise
from msdm_lite.diffusion.oracle import GaussianMixture
from msdm_lite.errors import InputError
from msdm_lite.models.unet1d import UNet1d
from tests.models.test_unet1d import LENGTH, TINY, relative


class Silent(torch.nn.Module):
    """A net whose output is zero."""

    def forward(self, seen, embedding):
        return torch.zeros(len(seen), 12, *seen.shape[2:])


def untrained(F=5) -> Denoiser:
    return Denoiser(Silent(), 0.02 + torch.rand(4, F), embedding_width=16)


class Spy(Silent):
    """A silent net that records its inputs."""

    def forward(self, seen, embedding):
        self.seen, self.embedding = seen, embedding
        return super().forward(seen, embedding)


def test_the_embedding_has_sines_of_the_level_and_two_layers():
    embed = NoiseEmbedding(2, 7)
    assert not [name for name in embed.state_dict() if "frequencies" in name]  # no parameters
    sigma, flags = torch.tensor([0.01, 3.0]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    rows = []
    for one, said in zip(sigma.tolist(), flags.tolist(), strict=True):
        level = math.log(one) / 4
        waves = [math.pi * level * (0.25 + 0.25 * i) for i in range(16)]  # frequencies 0.25 to 4
        rows.append([level, *map(math.sin, waves), *map(math.cos, waves), *said])
    first, _, second, _ = embed.layers
    by_hand = F.silu(second(F.silu(first(torch.tensor(rows)))))
    torch.testing.assert_close(embed(sigma, flags), by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sketched", [False, True])
def test_the_inputs_of_the_net(sketched):
    """Stems and mixture, each over its standard deviation; their energies; and the sketches of items that have them."""
    net, S = Spy(), 4
    denoiser = Denoiser(net, 0.02 + torch.rand(S, 5), 16, sketched)
    x, sigma = torch.randn(2, S, 5, 3), torch.tensor([0.5, 0.2])
    conditioning = Conditioning(torch.tensor([True, False]),
                                torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0]], dtype=torch.bool))
    drawn = torch.randn(2, S, 5, 3)
    denoiser(x, sigma, conditioning, **({"sketch": drawn, "sketch_given": torch.tensor([True, False])}
                                        if sketched else {}))
    assert net.seen.shape[1] == Denoiser.inputs_for(S, sketched) == (14 if sketched else 10)
    v = denoiser.std.square()[:, :, None]
    noisy = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1]])[:, :, None, None]  # a known stem carries no noise
    s2 = sigma.square()[:, None, None, None]
    torch.testing.assert_close(net.seen[:, :S], x / (v + s2 * noisy).sqrt())
    spread = v.sum(0) + torch.stack([0 * s2[0], 3 * s2[1]])[:, 0]  # a known mixture has none; else its noises add up
    torch.testing.assert_close(net.seen[:, S], x.sum(1) / spread.sqrt())
    if sketched:
        assert torch.equal(net.seen[0, -S:], drawn[0]) and not net.seen[1, -S:].any()
    flags = torch.cat([conditioning.flags(), torch.tensor([[1.0], [0.0]])], 1) if sketched else conditioning.flags()
    torch.testing.assert_close(net.embedding, denoiser.embed(sigma, flags))


def test_a_given_mixture_is_the_sum_where_it_is_known():
    """It replaces the sum of x, which is noisy if all stems are; in the other item it has no effect."""
    denoiser, net = untrained(), Spy()
    denoiser.net = net
    x, y, sigma = torch.randn(2, 4, 5, 3), torch.randn(2, 5, 3), torch.tensor([0.5, 0.5])
    conditioning = Conditioning(torch.tensor([True, False]), torch.zeros(2, 4, dtype=torch.bool))
    got, seen = denoiser(x, sigma, conditioning, y), net.seen
    torch.testing.assert_close(got[0].sum(0), y[0])
    torch.testing.assert_close(seen[0, 4], y[0] / denoiser.std.square().sum(0)[:, None].sqrt())
    assert torch.equal(got[1], denoiser(x, sigma, conditioning)[1]) and torch.equal(seen[1], net.seen[1])


def test_a_silent_net_is_the_exact_wiener_filter():
    """For every conditioning: compared with the analytic distribution of independent Gaussians at each coefficient."""
    denoiser = untrained()
    x = torch.randn(5, 4, 5, 3)
    sigma = torch.tensor([0.05, 0.3, 2.0, 0.3, 0.3])
    conditioning = Conditioning(torch.tensor([False, False, True, True, False]),
                  torch.tensor([[0, 0, 0, 0]] * 3 + [[1, 0, 0, 0], [0, 1, 1, 0]], dtype=torch.bool))
    got = denoiser(x, sigma, conditioning)
    for f in range(5):
        oracle = GaussianMixture(torch.ones(1).double(), torch.zeros(1, 4).double(),
                                 torch.diag(denoiser.std[:, f].double() ** 2)[None])
        for t in range(3):
            exact = oracle.denoise(x[:, :, f, t].double(), sigma.double(), conditioning)
            assert torch.allclose(got[:, :, f, t].double(), exact, atol=1e-4, rtol=1e-4)


def test_known_stems_come_back_untouched_and_stems_sum_to_a_known_mixture(tiny):
    x = 0.05 * torch.randn(2, 4, 1024, 9)
    conditioning = Conditioning(torch.tensor([True, True]),
                                torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.bool))
    got = tiny.denoise(x, torch.tensor([0.5, 0.5]), conditioning)
    assert torch.equal(got[1, 1], x[1, 1])
    assert (got.sum(1) - x.sum(1)).abs().max() < 1e-5


def test_the_net_has_an_effect(tiny):
    """The random last layers of the fixture change the result: the net is connected, with and without conditioning."""
    silent = Denoiser(Silent(), tiny.denoiser.std, tiny.config.embedding_width)
    x, sigma = 0.05 * torch.randn(1, 4, 1024, 8), torch.tensor([0.3])
    for conditioning in (None, Conditioning.on_mixture(x)):
        assert (tiny.denoise(x, sigma, conditioning) - silent(x, sigma, conditioning)).abs().max() > 1e-3


def test_errors_are_weighted_as_they_say():
    """Computed by hand: over the posterior variance of a Wiener filter, times std ** (2 tilt), a mean for each item."""
    x, estimate, sigma = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5), torch.tensor([0.3, 2.0])
    std = 0.1 + torch.rand(3, 4)
    for tilt in (0.0, 0.5, 1.0):
        for item, s in enumerate(sigma.tolist()):
            top = bottom = 0.0
            for stem in range(3):
                for row in range(4):
                    v = std[stem, row].item() ** 2
                    off = (estimate - x)[item, stem, row].square().mean().item()
                    top += v**tilt * off * (v + s**2) / (v * s**2)
                    bottom += v**tilt
            found = error(estimate, x, sigma, std, tilt)
            assert found.shape == (2,) and found[item].item() == pytest.approx(top / bottom, rel=1e-4)
    assert torch.equal(error(estimate, x, sigma, std), error(estimate, x, sigma, std, 0.5))


def test_a_loss_is_the_error_for_each_unknown_stem(generator):
    denoiser = untrained()
    x, sigma, n = torch.randn(2, 4, 5, 3), torch.tensor([0.3, 0.6]), torch.randn(2, 4, 5, 3)
    conditioning = Conditioning(torch.tensor([False, False]),
                                torch.tensor([[0, 0, 0, 0], [1, 1, 1, 0]], dtype=torch.bool))
    estimate = denoiser(add_noise(x, sigma, conditioning, n=n), sigma, conditioning)
    wanted = error(estimate, x, sigma, denoiser.std) / torch.tensor([1.0, 0.25])
    torch.testing.assert_close(loss(denoiser, x, sigma, conditioning, n=n), wanted)
    one, again = (loss(denoiser, x, sigma, conditioning, torch.Generator().manual_seed(s)) for s in (1, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, loss(denoiser, x, sigma, conditioning, torch.Generator().manual_seed(2)))
    other = loss(denoiser, x, sigma, Conditioning.on_mixture(x), n=n, mixture=x.sum(1) + 1)  # passed on unchanged
    assert not torch.allclose(other, loss(denoiser, x, sigma, Conditioning.on_mixture(x), n=n))


def test_a_small_net_learns_the_oracles_denoiser(generator):
    """The minimiser of denoising score matching is the conditional mean: here that of an analytic distribution."""
    oracle = GaussianMixture(torch.tensor([0.5, 0.5]), torch.tensor([[1.0, 0.5], [-1.0, 0.0]]),
                             0.1 * torch.eye(2).expand(2, 2, 2))
    net = torch.nn.Sequential(torch.nn.Linear(2, 64), torch.nn.SiLU(), torch.nn.Linear(64, 64), torch.nn.SiLU(),
                              torch.nn.Linear(64, 2))
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    sigma = torch.full((1024,), 0.5)
    for _ in range(400):
        clean = oracle.sample(1024, generator)
        off = (net(add_noise(clean, sigma, generator=generator)) - clean).square().mean()
        off.backward()
        optimizer.step()
        optimizer.zero_grad()
    x = add_noise(oracle.sample(2000, generator), sigma[:1].expand(2000), generator=generator)
    exact = oracle.denoise(x, torch.full((2000,), 0.5))
    # the denoiser's own spread is about 1; a net that ignores x would be off by that
    assert (net(x) - exact).square().mean().sqrt() < 0.1


class Says(torch.nn.Module):
    """A net with the same 3 S outputs for every coefficient."""

    def __init__(self, numbers):
        super().__init__()
        self.numbers = numbers

    def forward(self, seen, embedding):
        return self.numbers[None, :, None, None].expand(len(seen), -1, *seen.shape[2:])


def hears(**settings):
    """A denoiser, and its net, a spy."""
    net = Spy()
    return Denoiser(net, 0.02 + torch.rand(4, 5), 16, **settings), net


def test_there_is_no_room_for_a_sketch_unless_asked_for():
    denoiser, net = hears()
    denoiser(torch.randn(2, 4, 5, 3), torch.tensor([0.5, 0.2]))
    assert net.seen.shape[1] == Denoiser.inputs_for(4) == 10


def test_the_net_sees_the_log_energy_of_all_that_it_sees():
    """The square, plus that of the difference of the neighbours in frequency; for silence the floor, 1e-4."""
    denoiser, net = hears()
    x = torch.randn(2, 4, 5, 3)
    x[1] = 0
    denoiser(x, torch.tensor([0.5, 0.2]))
    seen, loud = net.seen.split(5, 1)
    beside = F.pad(seen, (0, 0, 1, 1))
    energy = seen**2 + (beside[:, :, 2:] - beside[:, :, :-2]) ** 2
    torch.testing.assert_close(loud, (energy + 1e-4).log() / 4)
    torch.testing.assert_close(loud[1], torch.full_like(loud[1], math.log(1e-4) / 4))


@pytest.mark.parametrize("given", [True, False])
def test_a_sketch_is_given_to_all_items_by_default(given):
    denoiser, net = hears(sketched=True)
    x, sigma, drawn = torch.randn(2, 4, 5, 3), torch.tensor([0.5, 0.2]), torch.randn(2, 4, 5, 3)
    denoiser(x, sigma, sketch=drawn if given else None)
    assert torch.equal(net.seen[:, -4:], drawn if given else torch.zeros_like(drawn))
    flags = torch.cat([Conditioning.none(x).flags(), torch.full((2, 1), float(given))], 1)
    torch.testing.assert_close(net.embedding, denoiser.embed(sigma, flags))


def test_each_output_of_the_net_has_its_own_effect():
    """`a` adds, in units of the posterior standard deviation; `g` is the logit of the gain; `w` scales the share."""
    a, g, w = (torch.tensor(numbers) for numbers in ([0.5, -1.0, 0.3, 2.0], [1.0, -0.5, 0.2, -2.0],
                                                     [-1.0, 0.7, 2.0, 0.1]))
    denoiser = Denoiser(Says(torch.cat([a, g, w])), 0.1 + torch.rand(4, 5), 16)
    x, sigma = torch.randn(2, 4, 5, 3), torch.tensor([0.5, 0.2])
    v, s2 = denoiser.std.square()[:, :, None], sigma.square()[:, None, None, None]
    left = v * s2 / (v + s2)
    x0 = x / (1 + s2 / v * (-g[:, None, None]).exp()) + a[:, None, None] * left.sqrt()
    # numbers of about one in single precision
    torch.testing.assert_close(denoiser(x, sigma), x0, rtol=1e-4, atol=1e-5)
    part = left * w.exp()[:, None, None]
    met = x0 + part / part.sum(1, keepdim=True) * (x - x0).sum(1, keepdim=True)
    torch.testing.assert_close(denoiser(x, sigma, Conditioning.on_mixture(x)), met, rtol=1e-4, atol=1e-5)


@pytest.fixture
def net() -> UNet1d:
    return UNet1d(TINY).eval()


def test_a_silent_net_is_the_wiener_filter(net):
    """And its loss on white noise of standard deviation sigma_data is one."""
    silent = Denoiser1d(net, sigma_data=0.2, clamp=False)
    torch.nn.init.zeros_(net.project_out.conv2.weight)
    torch.nn.init.zeros_(net.project_out.conv2.bias)
    net.project_out.shortcut = torch.nn.Conv1d(4, 4, 1)
    for p in net.project_out.shortcut.parameters():
        torch.nn.init.zeros_(p)
    x, sigma = 0.2 * torch.randn(2, 4, 64 * TINY.downsampling), torch.tensor([0.05, 2.0])
    expected = x * 0.04 / (0.04 + sigma.square())[:, None, None]
    assert torch.allclose(silent(x, sigma), expected, atol=1e-6)
    loss = edm_loss(silent, x, sigma, torch.Generator().manual_seed(0))
    assert loss.shape == (2,) and (loss - 1).abs().max() < 0.05  # 49152 values: 0.6 %


def test_the_estimate_is_clamped_and_has_the_type_of_x(net):
    x, sigma = 50 * torch.randn(1, 4, LENGTH), torch.tensor([20.0])
    assert Denoiser1d(net)(x, sigma).abs().max() <= 1 < Denoiser1d(net, clamp=False)(x, sigma).abs().max()
    with torch.autocast("cpu", torch.bfloat16):
        half = Denoiser1d(net).denoise(0.2 * x / 50, torch.tensor([0.3]))
    assert half.dtype == torch.float32
    assert relative(half, Denoiser1d(net).denoise(0.2 * x / 50, torch.tensor([0.3]))) < 0.02  # bfloat16: 8 bits


def test_it_takes_no_conditioning(net):
    denoiser, x, sigma = Denoiser1d(net), torch.randn(1, 4, LENGTH), torch.ones(1)
    assert torch.equal(denoiser(x, sigma, Conditioning.none(x)), denoiser(x, sigma))
    with pytest.raises(InputError, match="noise on all stems only"):
        denoiser(x, sigma, Conditioning.on_mixture(x))
