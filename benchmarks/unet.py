"""Our waveform U-Net against audio-diffusion-pytorch 0.0.43's: same configuration, same weights, by turns, eager.

And what a second of audio costs each preset, in operations counted by torch. One thread count for all; what makes
ours faster is listed at the top of `msdm_lite/models/unet1d.py`.
"""

import time

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from msdm_lite.diffusion.denoiser import Denoiser1d, edm_loss
from msdm_lite.models.config import preset
from msdm_lite.models.official import translate
from msdm_lite.models.unet1d import UNet1d, UNet1dConfig
from msdm_lite.models.weights import build
from msdm_lite.utils import device as utils_device

# The paper's shape at a quarter of its width: small enough for a minute on two cores
CONFIG = UNet1dConfig(channels=64, patch=16, heads=4, head_width=32, groups=4, segment=65_536)
BATCH, ROUNDS = 2, 12


def theirs_like(config: UNet1dConfig):
    """The old library's network of that configuration, or None where it is not installed."""
    try:
        import audio_diffusion_pytorch as library
    except ImportError:
        return None
    return library.UNet1d(
        in_channels=config.stems, channels=config.channels, patch_blocks=1, patch_factor=config.patch,
        multipliers=config.multipliers, factors=config.factors, num_blocks=config.blocks, attentions=config.attention,
        attention_heads=config.heads, attention_features=config.head_width,
        attention_multiplier=config.feed_forward, resnet_groups=config.groups, kernel_multiplier_downsample=2,
        kernel_sizes_init=[1, 3, 7], use_nearest_upsample=False, use_skip_scale=True, use_attention_bottleneck=True,
        use_context_time=True)


def race() -> None:
    theirs = theirs_like(CONFIG)
    if theirs is None:
        print("audio-diffusion-pytorch 0.0.43 is not installed: nothing to compare with "
              "(pip install audio-diffusion-pytorch==0.0.43)")
        return
    from audio_diffusion_pytorch.diffusion import Diffusion

    where = utils_device.pick("auto")
    ours = UNet1d(CONFIG)
    ours.load_state_dict(translate(theirs.state_dict(), ours))
    ours, theirs = ours.to(where), theirs.to(where)
    x = 0.2 * torch.randn(BATCH, CONFIG.stems, CONFIG.segment, device=where)
    sigma = torch.tensor([0.05, 0.5], device=where)
    old = Diffusion(theirs, sigma_distribution=lambda num_samples, device: sigma, sigma_data=0.2)
    new = Denoiser1d(ours, 0.2)
    optimizers = {id(net): torch.optim.Adam(net.parameters(), 1e-6) for net in (ours, theirs)}

    def step(net, loss) -> None:
        loss().backward()
        optimizers[id(net)].step()
        optimizers[id(net)].zero_grad()

    races = {
        "forward": (lambda: forward(ours), lambda: forward(theirs)),
        "training step": (lambda: step(ours, lambda: edm_loss(new, x, sigma).mean()),
                          lambda: step(theirs, lambda: old(x))),
    }

    @torch.no_grad()
    def forward(net) -> None:
        net(x, sigma.log() / 4)

    millions = sum(p.numel() for p in ours.parameters()) / 1e6
    print(f"{millions:.1f} M parameters, batch {BATCH}, {CONFIG.segment} samples, "
          f"{torch.get_num_threads()} threads, {utils_device.processor() if where.type == 'cpu' else 'GPU'}")
    for name, sides in races.items():
        for side in sides:
            side()
        seconds = ([], [])
        for turn in range(ROUNDS):
            for which in ((0, 1), (1, 0))[turn % 2]:
                if where.type == "cuda":
                    torch.cuda.synchronize()
                begin = time.perf_counter()
                sides[which]()
                if where.type == "cuda":
                    torch.cuda.synchronize()
                seconds[which].append(time.perf_counter() - begin)
        ratio = np.array(seconds[1]) / np.array(seconds[0])
        low, middle, high = np.percentile(ratio, [25, 50, 75])
        print(f"{name:14s} ours {np.median(seconds[0]):.3f} s, theirs {np.median(seconds[1]):.3f} s: "
              f"{middle:.2f} times as fast (quartiles {low:.2f} to {high:.2f})")


def operations(name: str) -> float:
    """Floating-point operations of one evaluation for each second of sound."""
    with torch.device("meta"):
        model = build(preset(name))
        S, c = len(model.stems), model.config
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            if name in ("lite", "tiny"):
                picture = torch.empty(1, model.denoiser.inputs_for(S, model.denoiser.sketched), c.bins, c.frames)
                model.denoiser.net(picture, torch.empty(1, c.embedding_width))
            else:
                model.denoiser.net(torch.empty(1, S, c.net.segment), torch.empty(1))
    return counter.get_total_flops() / model.segment


def main() -> None:
    race()
    counts = {name: operations(name) for name in ("paper", "base", "lite", "tiny")}
    for name, count in counts.items():
        print(f"{name:6s} {count / 1e9:9.2f} GFLOP for a second of sound, one evaluation; "
              f"the paper's is {counts['paper'] / count:.1f} times that")


if __name__ == "__main__":
    main()
