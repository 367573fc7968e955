"""The U-Net of the small models: two dimensions, frequency by time, all stems as channels.

It carries the network of the paper (arXiv 2302.02257) over to MDCT spectrograms: residual blocks conditioned on the
noise level, down and up by halves, skip connections, attention at the bottom. Three things differ. Neighbouring bins
move into channels (space to depth), few at low frequencies and many above. Each level learns an embedding of frequency
position, since spectra are not invariant to shifts in frequency. Skips are added, which costs less than concatenation.
Chapter: `book/04-joint-unet.ipynb`.

`Conv3x3` is the 3 x 3 convolution with a faster backward pass on a CPU. In channels-last memory, which the norms want,
oneDNN computes the gradient of the weights at a third of the speed of everything else; so that gradient alone is
computed from contiguous copies. Chapter: `book/05-training.ipynb`.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Conv3x3(nn.Conv2d):
    """`nn.Conv2d(a, b, 3, padding=1)` with the same weights and results: (B, a, H, W) -> (B, b, H, W)."""

    def __init__(self, a: int, b: int):
        super().__init__(a, b, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        plain = (not (self.weight.requires_grad and torch.is_grad_enabled()) or x.device.type != "cpu"
                 or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())
        return super().forward(x) if plain else _Convolution.apply(x, self.weight, self.bias)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        x, weight = ctx.saved_tensors

        def gradient(*of: Tensor, mask: list[bool]) -> tuple[Tensor, ...]:
            return torch.ops.aten.convolution_backward(*of, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask)

        of_x = gradient(g, x, weight, mask=[True, False, False])[0] if ctx.needs_input_grad[0] else None
        of_weight = gradient(g.contiguous(), x.contiguous(), weight.contiguous(), mask=[False, True, False])[1]
        return of_x, of_weight.contiguous(memory_format=torch.channels_last), g.sum((0, 2, 3))


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W); cheap because the memory is channels-last."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResBlock(nn.Module):
    """Norm, SiLU, convolution, twice; the second norm is scaled and shifted by the embedding (FiLM)."""

    def __init__(self, width: int, embedding: int):
        super().__init__()
        self.norm1, self.conv1 = ChannelNorm(width), Conv3x3(width, width)
        self.norm2, self.conv2 = ChannelNorm(width), Conv3x3(width, width)
        self.film = nn.Linear(embedding, 2 * width)
        for weights in self.conv2.parameters():
            nn.init.zeros_(weights)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, 1)  # (B, C, 1, 1) each
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


class SpaceToDepth(nn.Module):
    """Bins into channels and back: a band of n bins, folded by f, becomes n / f rows."""

    def __init__(self, bands: list[tuple[int, int]], inputs: int, outputs: int, width: int):
        super().__init__()
        self.bands = bands
        self.project_in = nn.ModuleList(nn.Conv2d(inputs * fold, width, 1) for _, fold in bands)
        self.project_out = nn.ModuleList(nn.Conv2d(width, outputs * fold, 1) for _, fold in bands)
        # at the start the net says nothing: the denoiser is a Wiener filter
        for weights in self.project_out.parameters():
            nn.init.zeros_(weights)

    @property
    def rows(self) -> int:
        return sum(bins // fold for bins, fold in self.bands)

    def to_depth(self, x: Tensor) -> Tensor:
        parts = []
        for (_, fold), layer, part in zip(self.bands, self.project_in, x.split([n for n, _ in self.bands], 2),
                                          strict=True):
            B, C, H, W = part.shape
            part = part.reshape(B, C, H // fold, fold, W).permute(0, 2, 4, 1, 3).reshape(B, H // fold, W, C * fold)
            parts.append(layer(part.permute(0, 3, 1, 2)))
        return torch.cat(parts, 2)  # (B, width, rows, W)

    def to_space(self, x: Tensor) -> Tensor:
        parts = []
        rows = [bins // fold for bins, fold in self.bands]
        for (_, fold), layer, part in zip(self.bands, self.project_out, x.split(rows, 2), strict=True):
            part = layer(part)
            B, C, H, W = part.shape
            parts.append(part.reshape(B, C // fold, fold, H, W).transpose(2, 3).reshape(B, C // fold, H * fold, W))
        return torch.cat(parts, 2)  # (B, outputs, bins, W)


class UNet2d(nn.Module):
    """(B, inputs, bins, L) and the embedding (B, embedding_width) -> (B, outputs, bins, L). Any L: it is padded inside.

    Args:
        bands: (bins, fold) from low to high; the rows they fold to must divide by 2 ** (levels - 1).
        widths: channels at each level, the last is the bottom.
        blocks: residual blocks a level, on the way down and again on the way up.
        frames_per_column: how many frames make a column.
    """

    def __init__(self, bands: list[tuple[int, int]], inputs: int, outputs: int, widths: list[int], blocks: list[int],
                 embedding: int = 256, heads: int = 4, frames_per_column: int = 1):
        super().__init__()
        self.space_to_depth = SpaceToDepth(bands, inputs * frames_per_column, outputs * frames_per_column, widths[0])
        self.frames_per_column = frames_per_column
        self.step = frames_per_column * 2 ** (len(widths) - 1)
        rows = self.space_to_depth.rows
        self.position = nn.ParameterList(
            nn.Parameter(torch.zeros(1, width, rows // 2**level, 1)) for level, width in enumerate(widths)
        )
        self.down: Any = nn.ModuleList(
            nn.ModuleList(ResBlock(width, embedding) for _ in range(n)) for width, n in zip(widths, blocks, strict=True)
        )
        self.up: Any = nn.ModuleList(
            nn.ModuleList(ResBlock(width, embedding) for _ in range(n)) for width, n in zip(widths, blocks, strict=True)
        )
        self.downsample = nn.ModuleList(nn.Conv2d(a, b, 2, 2) for a, b in pairwise(widths))
        self.upsample = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairwise(widths))
        self.attention = Attention(widths[-1], heads)
        self.norm = ChannelNorm(widths[0])
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        frames = x.shape[-1]
        x = F.pad(x, (0, -frames % self.step))
        n = self.frames_per_column
        if n > 1:  # (B, C, F, L) to (B, C n, F, L / n)
            x = x.unflatten(-1, (-1, n)).movedim(-1, 2).flatten(1, 2)
        x = self.space_to_depth.to_depth(x)
        skips = []
        for level, blocks in enumerate(self.down):
            x = x + self.position[level].to(x.dtype)  # under autocast the stream stays in half precision
            for block in blocks:
                x = block(x, embedding)
            if level < len(self.downsample):
                skips.append(x)
                x = self.downsample[level](x)
        x = self.attention(x)
        for level in reversed(range(len(self.up))):
            if level < len(self.downsample):
                x = self.upsample[level](x) + skips.pop()
            for block in self.up[level]:
                x = block(x, embedding)
        x = self.space_to_depth.to_space(F.silu(self.norm(x)))
        if n > 1:
            x = x.unflatten(1, (-1, n)).movedim(2, -1).flatten(-2)
        return x[..., :frames]
