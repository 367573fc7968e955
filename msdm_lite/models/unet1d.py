"""The paper's own network: a one-dimensional U-Net on waveforms, all stems as channels (arXiv 2302.02257).

`UNet1d` is an own implementation of the architecture of the published checkpoints, which `msdm_lite.models.official`
reads. `msdm_lite.diffusion.denoiser.Denoiser1d` is its preconditioning. It computes the same as audio-diffusion-pytorch
0.0.43, and is faster:

- the FiLM scales and shifts of all blocks come from one matrix product, after one SiLU;
- FiLM needs no pass over the signal: reshaped to (1, B C, T), each item has its own affine part of the GroupNorm;
- attention is PyTorch's fused kernel, with one projection for queries, keys and values;
- a transformer has its signal as (B, T, C) throughout, so LayerNorm is one kernel and a 1x1 convolution a Linear;
- residuals are added in place, and without gradients the activations are in place too.

Chapter: `book/04-joint-unet.ipynb`.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msdm_lite.errors import InputError

SKIP_SCALE = 2**-0.5  # keeps variance one in the sum of two signals of variance one


@dataclass(frozen=True)
class UNet1dConfig:
    """Everything that determines the network's shape. The defaults are the paper's.

    Raises:
        InputError: the numbers do not fit together.
    """

    stems: int = 4
    channels: int = 256  # after the patch layer; the time embedding is four times as wide
    patch: int = 16  # neighbouring samples in one frame
    multipliers: tuple[int, ...] = (1, 2, 4, 4, 4, 4, 4)  # of `channels`, before and after each level
    factors: tuple[int, ...] = (4, 4, 4, 2, 2, 2)  # of downsampling at each level of resolution
    blocks: tuple[int, ...] = (2, 2, 2, 2, 2, 2)  # residual blocks of each level before the bottom
    attention: tuple[int, ...] = (0, 0, 0, 1, 1, 1)  # 1 for levels that end in a transformer
    heads: int = 8
    head_width: int = 128
    feed_forward: int = 2
    groups: int = 8  # of the GroupNorms
    learned_patch: bool = False  # a strided convolution in place of the paper's block at the full rate
    segment: int = 262_144  # of training, in samples at 22 050 Hz

    def __post_init__(self) -> None:
        for field in fields(self):  # JSON has no tuples
            if isinstance(value := getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(value))
        if not len(self.factors) == len(self.blocks) == len(self.attention) == len(self.multipliers) - 1:
            raise InputError("each level needs a factor, blocks and attention, and there is one multiplier more")
        sizes = (self.stems, self.channels, self.patch, self.heads, self.head_width, self.feed_forward, self.groups)
        if min(*sizes, *self.multipliers, *self.blocks, *(f - 1 for f in self.factors)) < 1:
            raise InputError("the network's sizes must be at least 1, and its factors at least 2")
        if self.channels % 2 or any(self.channels * m % self.groups for m in self.multipliers):
            raise InputError(f"channels ({self.channels}) must be even, and a multiple of the {self.groups} groups")
        width, groups = self.at_full_rate
        if self.patch % 2 if self.learned_patch else width * self.patch != self.channels or width % groups or (
                self.stems % groups):
            raise InputError(f"{self.channels} channels do not fit patches of {self.patch} samples")

    @property
    def downsampling(self) -> int:
        """Samples in one frame at the bottom; input lengths are multiples of it. 8192 in base and paper."""
        return self.patch * math.prod(self.factors)

    @property
    def at_full_rate(self) -> tuple[int, int]:
        """Channels and groups of the patch block, before neighbours become channels."""
        return self.channels // self.patch, min(self.patch, self.stems)


PRESETS = {
    "paper": UNet1dConfig(),
    # A quarter of the width, a sixteenth of the parameters, half the length. The paper's patch block, at the full rate
    # and so slow, would have only four channels here.
    "base": UNet1dConfig(channels=64, heads=4, head_width=64, learned_patch=True, segment=131_072),
    # To compare with `tiny`: segments of the same length, and steps of about the same cost
    "tiny-wave": UNet1dConfig(channels=32, patch=8, multipliers=(1, 2, 3, 4), factors=(4, 4, 4), blocks=(1, 1, 1),
                              attention=(0, 0, 1), heads=4, head_width=16, learned_patch=True, segment=49_152),
}


def silu(x: Tensor) -> Tensor:
    """SiLU of a tensor that is not used again: in place without gradients."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class TimeEmbedding(nn.Module):
    """ln(sigma) / 4, (B,), as sines and cosines of learned frequencies, through a small network: (B, embedding)."""

    def __init__(self, frequencies: int, embedding: int):
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(frequencies))
        self.layers = nn.Sequential(nn.Linear(2 * frequencies + 1, embedding), nn.GELU(),
                                    nn.Linear(embedding, embedding), nn.GELU(),
                                    nn.Linear(embedding, embedding), nn.GELU())

    def forward(self, time: Tensor) -> Tensor:
        time = time[:, None]                                        # (B, 1)
        waves = 2 * math.pi * time * self.frequencies               # (B, frequencies)
        return self.layers(torch.cat([time, waves.sin(), waves.cos()], 1))


class ResBlock(nn.Module):
    """Two times norm, SiLU, convolution; scale and shift of the second norm are inputs (FiLM).

    (B, inputs, T), (B, 2 width) -> (B, width, T)
    """

    def __init__(self, inputs: int, width: int, groups: int):
        super().__init__()
        self.width = width
        self.norm1, self.conv1 = nn.GroupNorm(groups, inputs), nn.Conv1d(inputs, width, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(groups, width), nn.Conv1d(width, width, 3, padding=1)
        self.shortcut = nn.Conv1d(inputs, width, 1) if inputs != width else nn.Identity()

    def forward(self, x: Tensor, film: Tensor) -> Tensor:
        h = self.conv1(silu(self.norm1(x)))                         # (B, C, T)
        h = self.conv2(silu(self.modulated_norm(h, film)))          # (B, C, T)
        h += self.shortcut(x)
        return h

    def modulated_norm(self, h: Tensor, film: Tensor) -> Tensor:
        """norm2(h) * (1 + scale) + shift of h (B, C, T) in one pass: the batch is part of the channel axis."""
        B, C, T = h.shape
        scale, shift = film.chunk(2, 1)                             # (B, C) each
        gain = self.norm2.weight * (1 + scale)                      # (B, C)
        bias = self.norm2.bias * (1 + scale) + shift                # (B, C)
        h = F.group_norm(h.reshape(1, B * C, T), B * self.norm2.num_groups, gain.flatten(), bias.flatten())
        return h.reshape(B, C, T)


class Attention(nn.Module):
    """Self-attention over time, (B, T, C) -> (B, T, C), with a norm before and after, without positions."""

    def __init__(self, width: int, heads: int, head_width: int):
        super().__init__()
        self.heads = heads
        self.norm, self.qkv = nn.LayerNorm(width, bias=False), nn.Linear(width, 3 * heads * head_width, bias=False)
        self.out, self.out_norm = nn.Linear(heads * head_width, width, bias=False), nn.LayerNorm(width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        B, T, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # (B, heads, T, d)
        values = F.scaled_dot_product_attention(q, k, v)            # (B, heads, T, d)
        return self.out_norm(self.out(values.transpose(1, 2).reshape(B, T, -1)))


class Transformer(nn.Module):
    """Attention and a feed-forward network, each with a residual: (B, C, T) -> (B, C, T)."""

    def __init__(self, width: int, c: UNet1dConfig):
        super().__init__()
        self.attention, inner = Attention(width, c.heads, c.head_width), width * c.feed_forward
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width, bias=False), nn.Linear(width, inner, bias=False), nn.GELU(),
            nn.LayerNorm(inner, bias=False), nn.Linear(inner, width, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2).contiguous()                          # (B, T, C)
        x = x + self.attention(x)                                   # (B, T, C)
        x = x + self.feed_forward(x)                                # (B, T, C)
        return x.transpose(1, 2)                                    # (B, C, T)


class Down(nn.Module):
    """(B, inputs, T) -> (B, width, T / factor). The outputs of blocks and transformer are appended to `skips`."""

    def __init__(self, level: int, c: UNet1dConfig):
        super().__init__()
        inputs, width = c.channels * c.multipliers[level], c.channels * c.multipliers[level + 1]
        factor = c.factors[level]
        self.downsample = nn.Conv1d(inputs, width, 2 * factor + 1, factor, factor)
        self.blocks = nn.ModuleList(ResBlock(width, width, c.groups) for _ in range(c.blocks[level]))
        self.transformer = Transformer(width, c) if c.attention[level] else None

    def forward(self, x: Tensor, films: Iterator[Tensor], skips: list[Tensor]) -> Tensor:
        x = self.downsample(x)                                      # (B, C, T)
        for block in self.blocks:
            x = block(x, next(films))                               # (B, C, T)
            skips.append(x)
        if self.transformer is not None:
            x = self.transformer(x)                                 # (B, C, T)
            skips.append(x)
        return x


class Up(nn.Module):
    """(B, inputs, T) -> (B, width, T * factor). Each block takes the last of `skips` off the list."""

    def __init__(self, level: int, c: UNet1dConfig):
        super().__init__()
        inputs, width = c.channels * c.multipliers[level + 1], c.channels * c.multipliers[level]
        factor = c.factors[level]
        count = c.blocks[level] + bool(c.attention[level])
        self.blocks = nn.ModuleList(ResBlock(2 * inputs, inputs, c.groups) for _ in range(count))
        self.transformer = Transformer(inputs, c) if c.attention[level] else None
        self.upsample = nn.ConvTranspose1d(inputs, width, 2 * factor, factor, factor // 2 + factor % 2, factor % 2)

    def forward(self, x: Tensor, films: Iterator[Tensor], skips: list[Tensor]) -> Tensor:
        for block in self.blocks:
            both = torch.cat([x, SKIP_SCALE * skips.pop()], 1)      # (B, 2 C, T)
            x = block(both, next(films))                            # (B, C, T)
        if self.transformer is not None:
            x = self.transformer(x)                                 # (B, C, T)
        return self.upsample(x)


class UNet1d(nn.Module):
    """Waveforms (B, S, T) and the time, ln(sigma) / 4, (B,) -> (B, S, T). Source: arXiv 2302.02257.

    T is in samples, a multiple of `config.downsampling` (8192 for `base` and `paper`).

    Raises:
        InputError: another number of stems, or another length.
    """

    edge_layers = ("time", "project_in", "project_out")  # see `StemModel.param_groups`

    def __init__(self, config: UNet1dConfig):
        super().__init__()
        self.config = c = config
        levels, bottom, (width, groups) = range(len(c.factors)), c.channels * c.multipliers[-1], c.at_full_rate
        self.time = TimeEmbedding(c.channels // 2, 4 * c.channels)
        # In order of execution, which is the order of the parts of the FiLM projection
        window = (2 * c.patch, c.patch, c.patch // 2)  # of the learned patch: patches overlap by half
        self.project_in = (nn.Conv1d(c.stems, c.channels, *window) if c.learned_patch
                           else ResBlock(c.stems, width, groups))
        self.down = nn.ModuleList(Down(level, c) for level in levels)
        self.bottom = nn.ModuleList([ResBlock(bottom, bottom, c.groups), Attention(bottom, c.heads, c.head_width),
                                     ResBlock(bottom, bottom, c.groups)])
        self.up = nn.ModuleList(Up(level, c) for level in reversed(levels))
        self.project_out = (nn.ConvTranspose1d(c.channels, c.stems, *window) if c.learned_patch
                            else ResBlock(width, c.stems, groups))
        self.film_widths = [2 * block.width for block in self.modules() if isinstance(block, ResBlock)]
        self.film = nn.Linear(4 * c.channels, sum(self.film_widths))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        c = self.config
        if x.ndim != 3 or x.shape[1] != c.stems:
            raise InputError(f"the network takes waveforms (batch, {c.stems} stems, samples), not {tuple(x.shape)}")
        if x.shape[2] == 0 or x.shape[2] % c.downsampling:
            raise InputError(f"the network takes a multiple of {c.downsampling} samples, not {x.shape[2]}: "
                             "pad or crop the sound")
        films = iter(self.film(F.silu(self.time(time))).split(self.film_widths, 1))  # (B, 2 C) for each block
        skips: list[Tensor] = []
        if c.learned_patch:
            x = first = self.project_in(x)                          # (B, C, T / p)
        else:
            x = self.project_in(x, next(films)).unflatten(2, (-1, c.patch))  # (B, C / p, T / p, p)
            x = first = x.transpose(2, 3).flatten(1, 2)             # (B, C, T / p): neighbours become channels
        for level in self.down:
            x = level(x, films, skips)                              # shorter and wider
        before, attend, after = self.bottom
        x = attend(before(x, next(films)).transpose(1, 2))          # (B, T', C'), with no residual
        x = after(x.transpose(1, 2), next(films))                   # (B, C', T')
        for level in self.up:
            x = level(x, films, skips)                              # longer and narrower
        x = x + first                                               # (B, C, T / p)
        if c.learned_patch:
            return self.project_out(x)                              # (B, S, T)
        x = x.unflatten(1, (-1, c.patch)).transpose(2, 3)           # (B, C / p, T / p, p)
        return self.project_out(x.flatten(2), next(films))          # (B, S, T)


def shapes(net: UNet1d, samples: int) -> list[tuple[str, tuple[int, ...]]]:
    """Name and output shape (C, T) of every part, in order of execution, for a waveform of `samples` samples.

    "frames" is the output of the patch layer; that of the bottom's attention is (T, C). A net built under
    `torch.device("meta")` is traced without memory or arithmetic.

    Raises:
        InputError: `samples` is no multiple of `config.downsampling`.
    """
    traced: list[tuple[str, tuple[int, ...]]] = []
    part = re.compile(
        r"project_in|project_out|(down|up)\.\d+\.(downsample|blocks\.\d+|transformer|upsample)|bottom\.\d")
    hooks = [module.register_forward_hook(lambda _module, _x, out, name=name: traced.append((name, (*out.shape[1:],))))
             for name, module in net.named_modules() if part.fullmatch(name)]
    hooks.append(net.down[0].register_forward_pre_hook(
        lambda _module, inputs: traced.append(("frames", tuple(inputs[0].shape[1:])))))
    try:
        x = net.film.weight.new_zeros(1, net.config.stems, samples)
        with torch.no_grad():
            net(x, x.new_zeros(1))
    finally:
        for hook in hooks:
            hook.remove()
    return traced
