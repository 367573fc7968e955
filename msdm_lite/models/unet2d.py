"""The U-Net of the small models: two dimensions, frequency by time, all stems as channels.

It adapts the network of the paper (arXiv 2302.02257) to MDCT spectrograms: residual blocks conditioned on the noise
level, downsampling and upsampling by 2, skip connections, attention at the bottom. Three things differ. Neighbouring
bins move into channels (space to depth), few at low frequencies and many above. Each resolution has a learned embedding
of frequency position, since spectra are not invariant to shifts in frequency. Skips are added, which costs less than
concatenation. Chapter: `book/04-joint-unet.ipynb`.

`Conv3x3` is the 3 x 3 convolution with a faster backward pass on a CPU. The norms need channels-last memory, in which
oneDNN computes the gradient of the weights at a third of its usual speed, so that gradient is computed from contiguous
copies. Chapter: `book/05-training.ipynb`.
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
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors

        def gradient(*of: Tensor, mask: list[bool]) -> tuple[Tensor, ...]:
            return torch.ops.aten.convolution_backward(*of, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask)

        of_x = gradient(g, x, weight, mask=[True, False, False])[0] if ctx.needs_input_grad[0] else None
        of_weight = gradient(g.contiguous(), x.contiguous(), weight.contiguous(), mask=[False, True, False])[1]
        return of_x, of_weight.contiguous(memory_format=torch.channels_last), g.sum((0, 2, 3))


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W); fast in channels-last memory."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResBlock(nn.Module):
    """Two times norm, SiLU, convolution; the embedding scales and shifts the second norm (FiLM)."""

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
    """Self-attention over all H W positions of (B, C, H, W): notes depend on others seconds away."""

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
        values = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, H * W, C)
        return x + self.out(values).reshape(B, H, W, C).permute(0, 3, 1, 2)


class SpaceToDepth(nn.Module):
    """Space to depth: a band of n bins becomes n / f rows, with f neighbouring bins as channels; and back.

    Args:
        bands: (bins, f) from low to high frequencies.
    """

    def __init__(self, bands: list[tuple[int, int]], inputs: int, outputs: int, width: int):
        super().__init__()
        self.bands = bands
        self.project_in = nn.ModuleList(nn.Conv2d(inputs * f, width, 1) for _, f in bands)
        self.project_out = nn.ModuleList(nn.Conv2d(width, outputs * f, 1) for _, f in bands)
        # The untrained net has the output zero, so that the denoiser is a Wiener filter
        for weights in self.project_out.parameters():
            nn.init.zeros_(weights)

    @property
    def rows(self) -> int:
        """Rows of all bands."""
        return sum(bins // f for bins, f in self.bands)

    def to_depth(self, x: Tensor) -> Tensor:
        """(B, inputs, bins, W) -> (B, width, rows, W)."""
        parts = []
        for (_, f), layer, part in zip(self.bands, self.project_in, x.split([n for n, _ in self.bands], 2),
                                       strict=True):
            B, C, H, W = part.shape
            part = part.reshape(B, C, H // f, f, W).permute(0, 2, 4, 1, 3).reshape(B, H // f, W, C * f)
            parts.append(layer(part.permute(0, 3, 1, 2)))
        return torch.cat(parts, 2)  # (B, width, rows, W)

    def to_space(self, x: Tensor) -> Tensor:
        """(B, width, rows, W) -> (B, outputs, bins, W)."""
        parts = []
        rows = [bins // f for bins, f in self.bands]
        for (_, f), layer, part in zip(self.bands, self.project_out, x.split(rows, 2), strict=True):
            part = layer(part)
            B, C, H, W = part.shape
            parts.append(part.reshape(B, C // f, f, H, W).transpose(2, 3).reshape(B, C // f, H * f, W))
        return torch.cat(parts, 2)  # (B, outputs, bins, W)


class UNet2d(nn.Module):
    """(B, inputs, bins, L) and the embedding (B, embedding_width) -> (B, outputs, bins, L), for any L.

    Args:
        bands: (bins, f) from low to high, see `SpaceToDepth`; `len(widths) - 1` times the rows are divided by 2.
        widths: channels at each resolution, the last is the bottom.
        blocks: residual blocks at each resolution, before the bottom and again after it.
        frames_per_column: L / frames_per_column columns: neighbouring frames become channels.
    """

    edge_layers = ("space_to_depth", "position")  # see `StemModel.param_groups`

    def __init__(self, bands: list[tuple[int, int]], inputs: int, outputs: int, widths: list[int], blocks: list[int],
                 embedding: int = 256, heads: int = 4, frames_per_column: int = 1):
        super().__init__()
        self.space_to_depth = SpaceToDepth(bands, inputs * frames_per_column, outputs * frames_per_column, widths[0])
        self.frames_per_column = frames_per_column
        self.step = frames_per_column * 2 ** (len(widths) - 1)
        rows = self.space_to_depth.rows
        self.position = nn.ParameterList(
            nn.Parameter(torch.zeros(1, width, rows // 2**resolution, 1)) for resolution, width in enumerate(widths)
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
        for resolution, blocks in enumerate(self.down):
            x = x + self.position[resolution].to(x.dtype)  # under autocast x stays in half precision
            for block in blocks:
                x = block(x, embedding)
            if resolution < len(self.downsample):
                skips.append(x)
                x = self.downsample[resolution](x)
        x = self.attention(x)
        for resolution in reversed(range(len(self.up))):
            if resolution < len(self.downsample):
                x = self.upsample[resolution](x) + skips.pop()
            for block in self.up[resolution]:
                x = block(x, embedding)
        x = self.space_to_depth.to_space(F.silu(self.norm(x)))
        if n > 1:
            x = x.unflatten(1, (-1, n)).movedim(2, -1).flatten(-2)
        return x[..., :frames]
