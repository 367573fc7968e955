"""The U-Net of the small models: two dimensions, frequency by time, all stems as channels.

It is the network of the paper (arXiv 2302.02257) carried over to a picture: residual blocks told the noise level, down
and up by halves, skip connections, attention at the bottom. Three things are of this setting:
neighbouring bins are folded into channels, finely where notes live and coarsely above; each level learns an embedding
of frequency, since a bass is not a cymbal moved down; skips are added, which costs less than concatenating them.
Chapter: `book/04-joint-unet.ipynb`.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msdm_lite.convolution import Conv3x3


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W); cheap because the memory is channels-last."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResBlock(nn.Module):
    """Norm, SiLU, convolution, twice; the second norm is scaled and shifted by what the net is told (FiLM)."""

    def __init__(self, width: int, told: int):
        super().__init__()
        self.norm1, self.conv1 = ChannelNorm(width), Conv3x3(width, width)
        self.norm2, self.conv2 = ChannelNorm(width), Conv3x3(width, width)
        self.film = nn.Linear(told, 2 * width)
        for weights in self.conv2.parameters():
            nn.init.zeros_(weights)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.film(told)[:, :, None, None].chunk(2, 1)  # (B, C, 1, 1) each
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.norm2(h) * (1 + scale) + shift
        return x + self.conv2(F.silu(h))


class Attention(nn.Module):
    """Self-attention over all places of the picture: a note may be decided by one seconds away."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm, self.qkv, self.out = ChannelNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(B, H * W, C)
        q, k, v = self.qkv(tokens).reshape(B, H * W, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # (B, h, HW, C/h)
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, H * W, C)
        return x + self.out(found).reshape(B, H, W, C).permute(0, 3, 1, 2)


class Fold(nn.Module):
    """Bins into channels and back: a band of n bins, folded by f, becomes n / f rows."""

    def __init__(self, bands: list[tuple[int, int]], inputs: int, outputs: int, width: int):
        super().__init__()
        self.bands = bands
        self.enter = nn.ModuleList(nn.Conv2d(inputs * fold, width, 1) for _, fold in bands)
        self.leave = nn.ModuleList(nn.Conv2d(width, outputs * fold, 1) for _, fold in bands)
        for weights in self.leave.parameters():  # at the start the net says nothing: the denoiser is a Wiener filter
            nn.init.zeros_(weights)

    @property
    def rows(self) -> int:
        return sum(bins // fold for bins, fold in self.bands)

    def fold(self, x: Tensor) -> Tensor:
        parts = []
        for (_, fold), layer, part in zip(self.bands, self.enter, x.split([n for n, _ in self.bands], 2), strict=True):
            B, C, H, W = part.shape
            part = part.reshape(B, C, H // fold, fold, W).permute(0, 2, 4, 1, 3).reshape(B, H // fold, W, C * fold)
            parts.append(layer(part.permute(0, 3, 1, 2)))
        return torch.cat(parts, 2)  # (B, width, rows, W)

    def unfold(self, x: Tensor) -> Tensor:
        parts = []
        rows = [bins // fold for bins, fold in self.bands]
        for (_, fold), layer, part in zip(self.bands, self.leave, x.split(rows, 2), strict=True):
            part = layer(part)
            B, C, H, W = part.shape
            parts.append(part.reshape(B, C // fold, fold, H, W).transpose(2, 3).reshape(B, C // fold, H * fold, W))
        return torch.cat(parts, 2)  # (B, outputs, bins, W)


class UNet2d(nn.Module):
    """(B, inputs, bins, L) and what is told, (B, told) -> (B, outputs, bins, L). Any L: it is padded inside.

    Args:
        bands: (bins, fold) from low to high; the rows they fold to must divide by 2 ** (levels - 1).
        widths: channels at each level, the last is the bottom.
        blocks: residual blocks a level, on the way down and again on the way up.
        fold_frames: how many frames make a column.
    """

    def __init__(self, bands: list[tuple[int, int]], inputs: int, outputs: int, widths: list[int], blocks: list[int],
                 told: int = 256, heads: int = 4, fold_frames: int = 1):
        super().__init__()
        self.folding = Fold(bands, inputs * fold_frames, outputs * fold_frames, widths[0])
        self.together = fold_frames
        self.step = fold_frames * 2 ** (len(widths) - 1)
        rows = self.folding.rows
        self.place = nn.ParameterList(
            nn.Parameter(torch.zeros(1, width, rows // 2**level, 1)) for level, width in enumerate(widths)
        )
        self.down: Any = nn.ModuleList(
            nn.ModuleList(ResBlock(width, told) for _ in range(n)) for width, n in zip(widths, blocks, strict=True)
        )
        self.up: Any = nn.ModuleList(
            nn.ModuleList(ResBlock(width, told) for _ in range(n)) for width, n in zip(widths, blocks, strict=True)
        )
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, 2) for a, b in pairwise(widths))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairwise(widths))
        self.attention = Attention(widths[-1], heads)
        self.norm = ChannelNorm(widths[0])
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        frames = x.shape[-1]
        x = F.pad(x, (0, -frames % self.step))
        n = self.together
        if n > 1:  # (B, C, F, L) to (B, C n, F, L / n)
            x = x.unflatten(-1, (-1, n)).movedim(-1, 2).flatten(1, 2)
        x = self.folding.fold(x)
        skips = []
        for level, blocks in enumerate(self.down):
            x = x + self.place[level].to(x.dtype)  # under autocast the stream stays in half precision
            for block in blocks:
                x = block(x, told)
            if level < len(self.shrink):
                skips.append(x)
                x = self.shrink[level](x)
        x = self.attention(x)
        for level in reversed(range(len(self.up))):
            if level < len(self.shrink):
                x = self.grow[level](x) + skips.pop()
            for block in self.up[level]:
                x = block(x, told)
        x = self.folding.unfold(F.silu(self.norm(x)))
        if n > 1:
            x = x.unflatten(1, (-1, n)).movedim(2, -1).flatten(-2)
        return x[..., :frames]
