from dataclasses import replace

import pytest
import torch

from msdm_lite.diffusion.denoiser import Denoiser1d, edm_loss
from msdm_lite.errors import InputError
from msdm_lite.models.official import infer, translate
from msdm_lite.models.unet1d import PRESETS, UNet1d, UNet1dConfig, shapes

# One level of each kind: a plain one, an odd factor, and two with attention as the paper's last levels
TINY = UNet1dConfig(channels=16, patch=4, multipliers=(1, 2, 2, 4, 4), factors=(4, 3, 2, 2), blocks=(2, 1, 2, 2),
                    attention=(0, 0, 1, 1), heads=2, head_width=8, groups=4)
LENGTH = 3 * TINY.downsampling


@pytest.fixture
def net() -> UNet1d:
    return UNet1d(TINY).eval()


@pytest.fixture
def old():
    """The network this one must equal, with random weights."""
    library = pytest.importorskip("audio_diffusion_pytorch", reason="audio-diffusion-pytorch 0.0.43, the library to "
                                  "compare with, is not installed (it is no dependency)")
    torch.manual_seed(1)
    return library.UNet1d(
        in_channels=TINY.stems, channels=TINY.channels, patch_blocks=1, patch_factor=TINY.patch,
        multipliers=TINY.multipliers, factors=TINY.factors, num_blocks=TINY.blocks, attentions=TINY.attention,
        attention_heads=TINY.heads, attention_features=TINY.head_width, attention_multiplier=TINY.feed_forward,
        resnet_groups=TINY.groups, kernel_multiplier_downsample=2, kernel_sizes_init=[1, 3, 7],
        use_nearest_upsample=False, use_skip_scale=True, use_attention_bottleneck=True, use_context_time=True)


def twin(old) -> UNet1d:
    """Our network with the old one's weights."""
    net = UNet1d(TINY).to(next(old.parameters()).dtype)
    net.load_state_dict(translate(old.state_dict(), net))
    return net


def diffusion(old, sigma):
    """The old library's preconditioning and loss, always at these noise levels."""
    from audio_diffusion_pytorch.diffusion import Diffusion

    return Diffusion(old, sigma_distribution=lambda num_samples, device: sigma, sigma_data=0.2)


def relative(a, b) -> float:
    return ((a - b).norm() / b.norm()).item()


def test_the_papers_network_has_its_parameters():
    with torch.device("meta"):
        nets = {name: UNet1d(config) for name, config in PRESETS.items()}
    counts = {name: sum(p.numel() for p in net.parameters()) for name, net in nets.items()}
    assert counts["paper"] == 405_497_700
    assert 20e6 < counts["base"] < 30e6
    for name, config in PRESETS.items():
        assert config.downsampling == (512 if name == "tiny-wave" else 8192)
        assert config.segment % config.downsampling == 0
        assert shapes(nets[name], config.segment)[-1] == ("project_out", (4, config.segment))


def test_the_papers_network_has_its_shapes():
    with torch.device("meta"):
        net = UNet1d(PRESETS["paper"])
    seen = dict(shapes(net, 262_144))
    assert seen["project_in"] == (16, 262_144) and seen["frames"] == (256, 16_384)
    assert [seen[f"down.{level}.downsample"] for level in range(6)] == [
        (512, 4096), (1024, 1024), (1024, 256), (1024, 128), (1024, 64), (1024, 32)]
    assert "down.3.transformer" in seen and "down.2.transformer" not in seen
    assert seen["bottom.2"] == (1024, 32) and seen["up.5.upsample"] == (256, 16_384)


def test_infers_the_configuration(old):
    assert infer({name: tuple(value.shape) for name, value in old.state_dict().items()}, 2, 4) == TINY


@pytest.mark.parametrize("gradients", [True, False])
def test_the_network_equals_the_old_one(old, gradients):
    """Without gradients too, where activations are in place."""
    net = twin(old)
    x, time = torch.randn(3, 4, LENGTH), torch.randn(3)
    with torch.set_grad_enabled(gradients):
        assert relative(net(x, time), old(x, time)) < 1e-5  # measured 1e-7: float32 in another order of sums


@pytest.mark.parametrize("sigma", [1e-3, 0.3, 20.0])
def test_the_denoiser_equals_the_old_one(old, sigma):
    sigma = torch.full((2,), sigma)
    x = 0.2 * torch.randn(2, 4, LENGTH) + sigma[0] * torch.randn(2, 4, LENGTH)
    theirs, ours = diffusion(old, sigma).denoise_fn(x, sigmas=sigma), Denoiser1d(twin(old))(x, sigma)
    assert relative(ours, theirs) < 1e-5


def test_training_steps_equal_the_old_ones(old, monkeypatch, generator):
    """The losses before and after steps of Adam, on the same noise at the same levels.

    In float64: Adam divides each gradient by its size, so where the true gradient is zero (a bias before a GroupNorm)
    float32 would make a full step of what is only rounding. In float64 the rounding is 1e-16, the losses differ by
    as much, and 1e-10 leaves room for another machine. The old library's softmax is float32: made float64 here.
    """
    softmax = torch.softmax
    monkeypatch.setattr(torch.Tensor, "softmax", lambda x, dim, dtype=None: softmax(x, dim))
    old = old.double()
    sigma, x = torch.tensor([0.02, 0.5], dtype=torch.float64), 0.2 * torch.randn(2, 4, LENGTH, dtype=torch.float64)
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    theirs, ours = diffusion(old, sigma), Denoiser1d(twin(old), sigma_data=0.2)
    optimizers = [torch.optim.Adam(m.parameters(), 1e-4, betas=(0.9, 0.99)) for m in (theirs, ours)]
    losses = []
    for _ in range(3):
        losses.append((theirs(x, noise=noise), edm_loss(ours, x, sigma, generator.manual_seed(0)).mean()))
        for optimizer, loss in zip(optimizers, losses[-1], strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for a, b in losses:
        assert abs(b / a - 1) < 1e-10
    assert losses[2][0] < losses[0][0]


def test_items_do_not_mix(net):
    """The batch is in the channel axis of one norm: no item may have an effect on another."""
    x, time = torch.randn(3, 4, LENGTH), torch.tensor([-1.0, 0.0, 1.0])
    alone = torch.cat([net(x[i:i + 1], time[i:i + 1]) for i in range(3)])
    assert relative(net(x, time), alone) < 1e-5


def test_learned_patch_layer():
    net = UNet1d(replace(TINY, learned_patch=True))
    x, time = torch.randn(2, 4, LENGTH, requires_grad=True), torch.randn(2)
    out = net(x, time)
    assert out.shape == x.shape
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


@pytest.mark.parametrize("shape", [(1, 4, LENGTH + 1), (1, 4, LENGTH - 4), (1, 4, 0)])
def test_lengths_it_cannot_take(net, shape):
    with pytest.raises(InputError, match=f"a multiple of {TINY.downsampling} samples, not {shape[2]}"):
        Denoiser1d(net)(torch.zeros(shape), torch.ones(1))
    with pytest.raises(InputError, match="multiple"):
        shapes(net, shape[2])
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("shape", [(1, 3, LENGTH), (4, LENGTH), (1, 1, 4, LENGTH)])
def test_wrong_number_of_stems(net, shape):
    with pytest.raises(InputError, match="4 stems"):
        net(torch.zeros(shape), torch.zeros(1))


@pytest.mark.parametrize("change, says", [
    ({"factors": (4, 3, 2)}, "each level needs"), ({"channels": 18}, "must be even, and a multiple"),
    ({"heads": 0}, "at least 1"), ({"factors": (4, 3, 2, 1)}, "factors at least 2"),
    ({"patch": 3}, "do not fit patches"), ({"stems": 3}, "do not fit patches"),
    ({"channels": 8, "groups": 8}, "do not fit patches"),
    ({"learned_patch": True, "patch": 3}, "do not fit patches")])
def test_configurations_that_make_no_network(change, says):
    with pytest.raises(InputError, match=says):
        UNet1d(replace(TINY, **change))
