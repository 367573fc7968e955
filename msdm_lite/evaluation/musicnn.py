"""Embeddings of sounds by a network that tags music: 200 numbers for every three seconds, the default space of FAD.

The network is *musicnn* (Pons and Serra, ISMIR 2019 late-breaking; weights trained on MagnaTagATune, ISC licence). Its
package on PyPI contains the weights, but requires an old TensorFlow; so the wheel is fetched without its requirements,
checked against its hash, and read as a zip archive. The network is reimplemented in torch. Chapter:
`book/10-measuring.ipynb`.
"""

import hashlib
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from msdm_lite.audio import io as audio_io
from msdm_lite.errors import InputError, MachineError
from msdm_lite.evaluation.tensorflow_checkpoint import tensors
from msdm_lite.utils import paths
from msdm_lite.utils.imports import library

SAMPLE_RATE = 16000
WINDOW, HOP, MELS = 512, 256, 96  # of the spectrogram
FRAMES = 187  # of the network's input: three seconds
WHEEL = "musicnn-0.1.0-py3-none-any.whl"
SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"


def wheel() -> Path:
    """The path of the wheel in the cache; pip fetches it on the first call, 29 MB.

    Raises:
        MachineError: the wheel cannot be fetched.
        InputError: the file in the cache has another hash.
    """
    path = paths.cache("musicnn", WHEEL)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        words = ["--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(path.parent), "musicnn==0.1.0"]
        done = subprocess.run([sys.executable, "-m", "pip", "download", *words], capture_output=True, text=True)
        if done.returncode or not path.exists():
            why = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise MachineError(f"the embedding for FAD needs the wheel of musicnn from PyPI; pip cannot get it: {why}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise InputError(f"{path} is not the wheel of musicnn 0.1.0; delete it and call again")
    return path


@cache
def _weights() -> dict[str, Tensor]:
    with zipfile.ZipFile(wheel()) as archive:
        index, data = (archive.read(f"musicnn/MTT_musicnn/{name}") for name in (".index", ".data-00000-of-00001"))
    return {name: torch.from_numpy(value.copy()) for name, value in tensors(index, data).items()
            if "Adam" not in name}


def log_mel(wave: Tensor) -> Tensor:
    """The mel spectrogram that the network takes, of sound (..., T) at 16 kHz: (..., 1 + T // 256, 96)."""
    filters = library("librosa.filters")
    bank = torch.from_numpy(filters.mel(sr=SAMPLE_RATE, n_fft=WINDOW, n_mels=MELS)).to(wave)  # (96, 257)
    flat = wave.reshape(-1, wave.shape[-1])
    spectrum = torch.stft(flat, WINDOW, HOP, window=torch.hann_window(WINDOW).to(wave), center=True,
                          pad_mode="constant", return_complex=True).abs().square()  # (N, 257, L)
    return (10000 * (bank @ spectrum) + 1).log10().transpose(1, 2).reshape(*wave.shape[:-1], -1, MELS)


@torch.no_grad()
def network(mel: Tensor) -> tuple[Tensor, Tensor]:
    """Spectrograms (N, 187, 96) -> the last hidden layer (N, 200), and the probabilities of 50 tags (N, 50)."""
    w = _weights()

    def norm(x: Tensor, n: int) -> Tensor:
        """Batch normalisation number n, over axis 1."""
        name = "batch_normalization" + (f"_{n}" if n else "")
        gamma, beta, mean, variance = (w[f"{name}/{key}"] for key in ("gamma", "beta", "moving_mean",
                                                                      "moving_variance"))
        shape = (1, -1, *[1] * (x.ndim - 2))
        return (x - mean.view(shape)) * (gamma / (variance + 1e-3).sqrt()).view(shape) + beta.view(shape)

    def conv(x: Tensor, n: int) -> Tensor:
        """Convolution number n, then ReLU, then batch normalisation n + 1."""
        name = "conv2d" + (f"_{n}" if n else "")
        return norm(F.relu(F.conv2d(x, w[f"{name}/kernel"].permute(3, 2, 0, 1), w[f"{name}/bias"])), n + 1)

    x = norm(mel[:, None], 0)  # (N, 1, L, 96)
    # Timbre: tall filters, over many mel bands and a few frames. Rhythm: long filters, over one band
    tall = F.pad(x, (0, 0, 3, 3))
    front = [conv(tall, n).amax(3) for n in (0, 1)]
    front += [conv(F.pad(x, (0, 0, (k - 1) // 2, k // 2)), n).amax(3) for n, k in ((2, 128), (3, 64), (4, 32))]
    x = torch.cat(front, 1)  # (N, 561, L)

    def over_time(z: Tensor, n: int) -> Tensor:
        """A convolution over seven frames and all channels: (N, C, L) -> (N, 64, L)."""
        return conv(F.pad(z, (3, 3)).transpose(1, 2)[:, None], n)[..., 0]

    first = over_time(x, 5)
    second = over_time(first, 6) + first
    third = over_time(second, 7) + second
    x = torch.cat([x, first, second, third], 1)  # (N, 753, L)
    pooled = torch.stack([x.amax(2), x.mean(2)], 2).flatten(1)  # maximum and mean of each channel, side by side
    hidden = norm(F.relu(norm(pooled, 9) @ w["dense/kernel"] + w["dense/bias"]), 10)
    return hidden, (hidden @ w["dense_1/kernel"] + w["dense_1/bias"]).sigmoid()


def embed(waves: Tensor, sample_rate: int = audio_io.SAMPLE_RATE) -> Tensor:
    """Embeddings of sounds (N, T) of three seconds or more: (N, W, 200), W the number of whole three-second windows.

    Raises:
        InputError: the sounds are shorter.
    """
    mel = log_mel(audio_io.resample(waves, sample_rate, SAMPLE_RATE))  # (N, L, 96)
    if mel.shape[1] < FRAMES:
        raise InputError(f"an embedding needs three seconds of sound, not {waves.shape[1] / sample_rate:.2f} s")
    windows = mel.unfold(1, FRAMES, FRAMES).transpose(2, 3)  # (N, W, 187, 96)
    found = torch.cat([network(some)[0] for some in windows.flatten(0, 1).split(16)])
    return found.unflatten(0, windows.shape[:2])
