"""Songs in the memory of the device that trains, and crops that are cut there.

A loader of files yields a few hundred crops per second on each core, since half of the crops are resampled. A GPU uses
thousands, and many machines with a GPU have two cores. The whole corpus has only 8 GB in 16 bits. So it is copied once,
and each batch is cut, detuned and scaled by gains on the device. `msdm_lite.data.dataset` draws the crops, so a run is
trained on the same crops either way. Chapter: `book/13-scaling-up.ipynb`.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from msdm_lite.data.dataset import Crops
from msdm_lite.data.tracks import Track
from msdm_lite.errors import InputError

FINER = 4  # factor of oversampling, before cubic interpolation
MARGIN = 512  # samples on each side of a crop that is resampled
AT_ONCE = 32  # crops cut together, to bound the memory


class Plans(Dataset):
    """The plans of `Crops` as items; no samples are read."""

    def __init__(self, crops: Crops):
        self.crops = crops

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: int) -> dict:
        return self.crops.plan(index)


class Resident:
    """Songs on a device, in 16 bits; `cut` turns plans into crops.

    Args:
        tracks: the songs, in the order of the numbers in the plans.
        samples: crop length T.
        most: maximal detuning of the plans, in cents.

    Raises:
        InputError: the songs do not fit into the memory of the device.
    """

    def __init__(self, tracks: Sequence[Track], samples: int, most: float, device: torch.device):
        self.samples, self.most = samples, most
        lengths = torch.tensor([track.samples for track in tracks])
        self.total = int(lengths.sum())
        self.lengths = lengths.to(device)
        self.offsets = (lengths.cumsum(0) - lengths).to(device)
        self.scales = torch.ones(len(tracks), device=device)
        try:
            self.rows = len(tracks[0].stems)
            self.sound = torch.empty(self.rows, self.total, dtype=torch.int16, device=device)
        except torch.OutOfMemoryError:
            raise InputError(f"{2 * self.rows * self.total / 1e9:.1f} GB of songs do not fit on {device}: train "
                             "without --resident") from None
        places = self.offsets.tolist()

        def copy(i: int) -> None:
            wave = tracks[i].read()
            peak = max(1.0, float(np.abs(wave).max(initial=0)))  # a user's stems may be louder than 1
            self.scales[i] = peak / 32767
            whole = torch.from_numpy(np.round(wave * (32767 / peak)).astype(np.int16))
            self.sound[:, places[i] : places[i] + wave.shape[1]] = whole.to(device)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(copy, range(len(tracks))))

    def cut(self, plan: dict) -> Tensor:
        """The crops (B, S, T) of a batch of plans: `tracks`, `starts`, `gains` (B, S), and `cents` (B,)."""
        where = self.sound.device
        tracks, starts, gains = (plan[key].to(where, non_blocking=True) for key in ("tracks", "starts", "gains"))
        cents = plan["cents"].to(where, torch.float64, non_blocking=True)
        gains = gains * self.scales[tracks]
        out = torch.empty(*tracks.shape, self.samples, device=where)
        out_of_tune = plan["cents"] != 0  # on the CPU, so that choosing rows does not wait for the GPU
        for rows, read in ((~out_of_tune, self._straight), (out_of_tune, self._between)):
            chosen = rows.nonzero()[:, 0].to(where)
            for some in (chosen[i : i + AT_ONCE] for i in range(0, len(chosen), AT_ONCE)):
                out[some] = read(tracks[some], starts[some], cents[some]) * gains[some][..., None]
        return out

    def _at(self, tracks: Tensor, places: Tensor) -> Tensor:
        """Samples (B, S, ...) of tracks (B, S) at integer places (B, S, ...); 0 outside the track."""
        shape = (*tracks.shape, *[1] * (places.ndim - 2))
        row = torch.arange(self.rows, device=places.device) * self.total
        inside = (places >= 0) & (places < self.lengths[tracks].view(shape))
        flat = (self.offsets[tracks] + row).view(shape) + places.clamp(min=0)
        return torch.where(inside, self.sound.view(-1)[flat.clamp(max=self.sound.numel() - 1)], 0).float()

    def _straight(self, tracks: Tensor, starts: Tensor, cents: Tensor) -> Tensor:
        del cents
        return self._at(tracks, starts[..., None] + torch.arange(self.samples, device=starts.device))

    def _between(self, tracks: Tensor, starts: Tensor, cents: Tensor) -> Tensor:
        """Crops (B, S, T), resampled to another speed by so many cents.

        A Fourier transform interpolates to a finer grid, without the frequencies that would alias; a cubic through four
        points interpolates from there.
        """
        speed = torch.exp2(cents / 1200)[:, None]  # (B, 1)
        length = -(-int(self.samples * 2 ** (self.most / 1200) + 2 * MARGIN + 2) // 1024) * 1024
        rise = torch.linspace(0, 1, MARGIN // 2, device=cents.device)  # fades, since the FFT is circular
        window = torch.cat([rise, torch.ones(length - MARGIN, device=cents.device), rise.flip(0)])
        windowed = self._at(tracks, starts[..., None] - MARGIN + torch.arange(length, device=cents.device)) * window
        place = torch.linspace(0, 1, length // 2 + 1, device=cents.device)  # frequency over the Nyquist frequency
        kept = torch.fft.rfft(windowed) * (place * speed.float() < 1)[:, None]
        fine = torch.fft.irfft(kept, FINER * length) * FINER  # (B, S, FINER * length)
        at = FINER * (MARGIN + torch.arange(self.samples, device=cents.device) * speed)  # (B, T)
        base = at.floor()
        u = (at - base).float()[:, None]
        weights = (-u * (u - 1) * (u - 2) / 6, (u + 1) * (u - 1) * (u - 2) / 2, -(u + 1) * u * (u - 2) / 2,
                   (u + 1) * u * (u - 1) / 6)  # cubic Lagrange interpolation
        index = base.long()[:, None].expand(-1, fine.shape[1], -1)
        out = torch.zeros_like(windowed[..., : self.samples])
        for k, w in enumerate(weights, -1):
            out.addcmul_(w, fine.gather(-1, index + k))
        return out
