"""Plots of sound: waveforms and spectrograms, with one colour for each stem.

Waveforms are torch tensors or numpy arrays of shape (T,), in full-scale units: samples between -1 and 1. Chapter:
`book/01-sources-and-context.ipynb`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from msdm_lite.audio.io import SAMPLE_RATE, STEMS
from msdm_lite.errors import InputError, MachineError
from msdm_lite.utils.imports import missing

try:
    from matplotlib import pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as problem:
    raise MachineError(f"plots need {missing(problem)}: pip install {missing(problem)}") from None

# Okabe and Ito's palette: distinct for colour-blind readers, and visible on white and on near-black.
COLOURS = {"bass": "#0072B2", "drums": "#D55E00", "guitar": "#009E73", "piano": "#CC79A7", "vocals": "#E69F00",
           "other": "#56B4E9", "mix": "#808080"}
DB = "magnitude / dB re full-scale sine"


def to_wave(waveform: Any, what: str = "a waveform") -> np.ndarray:
    """The waveform as a float32 array (T,).

    Args:
        what: the name of the waveform in the message of an error.

    Raises:
        InputError: it is not an array of numbers of shape (T,) with T > 0, or holds NaN or infinity.
    """
    if hasattr(waveform, "detach"):
        waveform = waveform.detach().cpu().float().numpy()
    try:
        wave = np.asarray(waveform, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} is not an array of numbers: {error}") from None
    if wave.ndim != 1 or not wave.size:
        raise InputError(f"{what} must have the shape (T,) with T > 0, not {wave.shape}")
    if not np.isfinite(wave).all():
        raise InputError(f"{what} holds NaN or infinity")
    return wave


def as_named_tracks(tracks: Any) -> dict[str, np.ndarray]:
    """{name: float32 array (T,)} from a dict of waveforms or an array (4, T) of stems.

    Raises:
        InputError: anything else, an empty dict, or a waveform that `to_wave` refuses.
    """
    if not isinstance(tracks, Mapping):
        if np.ndim(tracks) != 2 or len(tracks) != len(STEMS):
            raise InputError(f"tracks must be a dict of waveforms or an array ({len(STEMS)}, T) of {', '.join(STEMS)}, "
                             f"not {type(tracks).__name__} of shape {np.shape(tracks)}")
        tracks = dict(zip(STEMS, tracks, strict=True))
    if not tracks:
        raise InputError("there is no track to play")
    return {str(name): to_wave(wave, f"track {name!r}") for name, wave in tracks.items()}


# ---- plots -----------------------------------------------------------------------------------------------------

def stft_levels(wave: np.ndarray, sample_rate: int, edges: np.ndarray, columns: int, window: int = 2048) -> np.ndarray:
    """Spectrogram of a waveform (T,) in dB re a full-scale sine: (len(edges) - 1, columns).

    Each value is the power of the strongest STFT bin between two edges (Hz), mean over the frames of a column.
    `window` is the length of a frame in samples.
    """
    per_column = max(1, round(2 * len(wave) / columns / window))
    centres = (np.arange(columns * per_column) + 0.5) * len(wave) / (columns * per_column)
    padded = np.pad(wave, window // 2 + 1)
    shape = np.hanning(window).astype(np.float32)
    # Zero-padding to 4 windows gives the narrow low bands a bin each.
    bins = np.searchsorted(np.fft.rfftfreq(4 * window, 1 / sample_rate), edges[:-1])
    bins = bins.clip(max=2 * window)
    out = []
    for block in np.array_split(centres.astype(int), max(1, len(centres) // 256)):
        frames = padded[block[:, None] + np.arange(window)] * shape
        power = np.abs(np.fft.rfft(frames, 4 * window) * (2 / shape.sum())) ** 2
        out.append(np.maximum.reduceat(power, bins, axis=1))
    power = np.concatenate(out).reshape(columns, per_column, -1).mean(1).T
    return 10 * np.log10(power + 1e-12)


def spectrogram(waveform: Any, sample_rate: int = SAMPLE_RATE, ax: Axes | None = None, *, log: bool = True,
                top: float | None = None, depth: float = 70, colorbar: bool = True) -> Axes:
    """Draw the spectrogram of a waveform (T,) in dB relative to a full-scale sine (a sine of amplitude 1 is at 0 dB).

    Shows `depth` dB below `top` (the loudest point by default); frequency in Hz on a logarithmic axis from 40 Hz, or
    in kHz on a linear one with log=False. Returns the matplotlib axes.

    Raises:
        InputError: a waveform that `to_wave` refuses.
    """
    wave = to_wave(waveform)
    ax = ax or plt.subplots(figsize=(7, 2.6), layout="constrained")[1]
    edges = np.geomspace(40, sample_rate / 2, 129) if log else np.linspace(0, sample_rate / 2, 257)
    level = stft_levels(wave, sample_rate, edges, 480)
    top = level.max() if top is None else top
    mesh = ax.pcolormesh(np.linspace(0, len(wave) / sample_rate, 481), edges / (1 if log else 1000), level,
                         cmap="magma", vmin=top - depth, vmax=top, rasterized=True)
    if log:
        ax.set_yscale("log")
        ticks = [f for f in (50, 100, 200, 500, 1000, 2000, 5000, 10000) if f < sample_rate / 2]
        ax.set_yticks(ticks, [str(f) for f in ticks])
        ax.minorticks_off()
    ax.set(xlabel="time / s", ylabel="frequency / Hz" if log else "frequency / kHz")
    if colorbar:
        ax.figure.colorbar(mesh, ax=ax, label=DB)
    return ax


def spectrograms(waveforms: Any, sample_rate: int = SAMPLE_RATE, *, log: bool = True, depth: float = 70,
                 title: str = "") -> Figure:
    """Draw spectrograms of {name: waveform (T,)} or stems (4, T) in a row with one colour range. Returns the figure."""
    waves = as_named_tracks(waveforms)
    figure, axes = plt.subplots(1, len(waves), figsize=(2.6 * len(waves) + 1, 2.8), sharey=True, squeeze=False,
                                layout="constrained")
    for ax, (name, wave) in zip(axes[0], waves.items(), strict=True):
        spectrogram(wave, sample_rate, ax, log=log, colorbar=False)
        ax.set_title(name)
        ax.label_outer()
    meshes = [ax.collections[0] for ax in axes[0]]
    top = max(mesh.get_array().max() for mesh in meshes)
    for mesh in meshes:
        mesh.set_clim(top - depth, top)
    figure.colorbar(meshes[0], ax=list(axes[0]), label=DB)
    figure.suptitle(title)
    return figure


def waveform(wave: Any, sample_rate: int = SAMPLE_RATE, ax: Axes | None = None, name: str | None = None) -> Axes:
    """Draw a waveform (T,) against time in seconds, in the colour of the stem called `name`. Returns the axes."""
    wave = to_wave(wave)
    ax = ax or plt.subplots(figsize=(7, 1.6), layout="constrained")[1]
    ax.plot(np.arange(len(wave)) / sample_rate, wave, lw=0.5, color=COLOURS.get(name or "mix", COLOURS["mix"]))
    ax.set(xlabel="time / s", ylabel="amplitude", xlim=(0, len(wave) / sample_rate), title=name or "")
    return ax
