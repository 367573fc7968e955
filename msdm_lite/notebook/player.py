"""HTML for notebooks: a player that compares stems, with their spectrograms, and a slider over images.

Each is one piece of HTML that contains its sounds, images and script, so it works in a page saved to disk, without a
network or a kernel, as well as in Jupyter and Colab. Waveforms are torch tensors or numpy arrays of shape (T,), in
full-scale units: samples between -1 and 1. Chapter: `book/01-sources-and-context.ipynb`.
"""

import base64
import io
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from msdm_lite.audio.io import SAMPLE_RATE
from msdm_lite.errors import InputError, MachineError
from msdm_lite.notebook.plots import COLOURS, as_named_tracks, stft_levels
from msdm_lite.utils.imports import missing

try:
    from IPython.display import HTML
    from jinja2 import Environment
    from matplotlib import colormaps
    from matplotlib import pyplot as plt
    from matplotlib.figure import Figure
    from PIL import Image
except ImportError as problem:
    raise MachineError(f"players need {missing(problem)}: pip install {missing(problem)}") from None

PEAK = 0.95


# ---- the mixer -------------------------------------------------------------------------------------------------

def mixer(tracks: Any = None, sample_rate: int = SAMPLE_RATE, title: str = "", groups: Mapping[str, Any] | None = None,
          captions: Mapping[str, Any] | None = None, selected: str | None = None, quality: float = 0.5) -> HTML:
    """A player of synchronised tracks with one playhead, and mute, solo, volume and a spectrogram for each track.

    Args:
        tracks: {name: waveform (T,)}, or an array (4, T) of stems in the usual order.
        groups: instead of tracks, {group name: tracks}: one group plays at a time, and changing the group keeps the
            playhead, so that the true and the separated guitar can be compared in the middle of a note. Tracks of
            one name share mute, solo and volume across groups. A group may hold a single track: the mixture, say.
        captions: {group name: {track name: text}}, or {track name: text} beside `tracks`.
        selected: the group that plays first; the first one by default.
        quality: of Ogg Vorbis, 0 to 1; 0.5 takes 20 to 40 kB for 6 s.

    Tracks keep their RMS levels, so that their balance is the true one. Only if a track or the sum of a group peaks
    over 0.95, all tracks of all groups are multiplied by one common factor, which the player shows.

    Returns an IPython.display.HTML.

    Raises:
        InputError: there is nothing to play, lengths differ, a waveform is not (T,), or holds NaN or infinity, or a
            caption or `selected` names something that is not there.
    """
    if (tracks is None) == (groups is None):
        raise InputError("mixer needs either tracks or groups")
    if groups is None:
        groups, captions = {"": tracks}, {"": captions or {}}
    if not isinstance(groups, Mapping):
        raise InputError(f"groups must be a dict of tracks, not {type(groups).__name__}")
    groups = {str(group): as_named_tracks(band) for group, band in groups.items()}
    captions = {str(group): dict(texts) for group, texts in (captions or {}).items()}
    if not groups:
        raise InputError("there is no group to play")
    selected = next(iter(groups)) if selected is None else str(selected)
    for group, texts in {selected: {}, **captions}.items():
        unknown = [group] if group not in groups else [name for name in texts if name not in groups[group]]
        if unknown:
            raise InputError(f"no group or track is called {unknown[0]!r}; there are "
                             + "; ".join(f"{g}: {', '.join(band)}" for g, band in groups.items()))
    waves = [wave for band in groups.values() for wave in band.values()]
    if len({len(wave) for wave in waves}) > 1:
        raise InputError(f"tracks must be equally long, not {sorted({len(wave) for wave in waves})} samples")
    peak = max(np.abs(wave).max() for wave in waves + [sum(band.values()) for band in groups.values()])
    scale = min(1.0, PEAK / peak) if peak > 0 else 1.0

    edges = np.geomspace(40, sample_rate / 2, 65)
    levels = {g: {name: stft_levels(wave * scale, sample_rate, edges, 480) for name, wave in band.items()}
              for g, band in groups.items()}
    top = max(level.max() for band in levels.values() for level in band.values())
    rows = [{"name": group, "tracks": [{
        "name": name,
        "label": f"{name}, {group}" if group else name,
        "colour": COLOURS.get(name.split()[0].lower() if name.split() else "", COLOURS["mix"]),
        "caption": captions.get(group, {}).get(name, ""),
        "sound": _uri("audio/ogg", _vorbis(wave * scale, sample_rate, quality)),
        "picture": _uri("image/webp", _webp(levels[group][name], top)),
    } for name, wave in band.items()]} for group, band in groups.items()]
    return _render("mixer.html", title=title, groups=rows, selected=selected, scale=scale,
                   duration=len(waves[0]) / sample_rate)


def _vorbis(wave: np.ndarray, sample_rate: int, quality: float) -> bytes:
    """The bytes of an Ogg Vorbis file."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", int(sample_rate), 1, "VORBIS", format="OGG",
                             compression_level=1 - quality) as ogg:
        for start in range(0, len(wave), 16384):  # libsndfile crashes on long writes of Vorbis
            ogg.write(wave[start:start + 16384])
    return file.getvalue()


def _webp(level: np.ndarray, top: float, depth: float = 70) -> bytes:
    """The bytes of a WebP image of a spectrogram (rows, columns) in dB, from `top` - `depth` to `top`."""
    pixels = colormaps["magma"](np.clip((level[::-1] - top) / depth + 1, 0, 1), bytes=True)[..., :3]
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "WEBP", quality=60, method=6)
    return file.getvalue()


def _uri(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def _render(template: str, **values: Any) -> HTML:
    """Fill a template from the folder of this module. All text is escaped, and the id is new in every call."""
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        Path(__file__).with_name(template).read_text(encoding="utf-8"))
    return HTML(page.render(id="msdm-" + uuid.uuid4().hex[:12], **values))


# ---- the slider ------------------------------------------------------------------------------------------------

def slider(images: Iterable, labels: Iterable, title: str = "", selected: int | None = None) -> HTML:
    """One image at a time, chosen with a slider: the steps of a sampler, or a sweep of a parameter.

    Args:
        images: bytes of PNG, JPEG or WebP files, or matplotlib figures (drawn here, and closed); give them one size.
        labels: a short text for each, shown beside the slider and read out by screen readers.
        selected: index of the image shown first, and alone where scripts are off; the middle one by default.

    Returns an IPython.display.HTML.

    Raises:
        InputError: there are no images, not as many labels, another kind of file, or `selected` is out of range.
    """
    images, labels = list(images), [str(label) for label in labels]
    if not images or len(images) != len(labels):
        raise InputError(f"a slider needs as many labels as images, and at least one, "
                         f"not {len(labels)} and {len(images)}")
    selected = len(images) // 2 if selected is None else selected
    if not 0 <= selected < len(images):
        raise InputError(f"selected must lie in 0 to {len(images) - 1}, not {selected}")
    frames = [{"label": label, "picture": _image(image)} for image, label in zip(images, labels, strict=True)]
    return _render("slider.html", title=title, frames=frames, selected=selected)


def _image(image: bytes | Figure) -> str:
    """An image file's bytes, or a figure, as a data URI."""
    if isinstance(image, Figure):
        file = io.BytesIO()
        image.savefig(file, format="webp", dpi=100, pil_kwargs={"quality": 85})  # a fifth of a PNG of a spectrogram
        plt.close(image)
        image = file.getvalue()
    kinds = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}
    kind = next((kind for magic, kind in kinds.items() if isinstance(image, bytes) and image.startswith(magic)), None)
    if kind is None:
        raise InputError("an image must be the bytes of a PNG, JPEG or WebP file, or a figure")
    return _uri(kind, image)
