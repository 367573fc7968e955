"""Scores of separation methods on the shipped clips or on test songs, as records; and two baselines.

Test songs come from the corpus, from Slakh2100, or from any folder of stems. The baselines need no model: the mixture
in place of every stem, and the ideal ratio mask, which is computed from the true stems and is an upper bound for
methods that only distribute the magnitude of the mixture. Source of the published scoring: the code of Mariani et al.,
arXiv 2302.02257. Chapter: `book/10-measuring.ipynb`.
"""

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from msdm_lite.audio.io import SAMPLE_RATE, STEMS
from msdm_lite.data import example_clips
from msdm_lite.data.dataset import CORPUS, songs_of
from msdm_lite.data.tracks import require_rendered
from msdm_lite.diffusion.methods import METHODS, by_name
from msdm_lite.errors import InputError
from msdm_lite.evaluation import metrics, records, song_scores
from msdm_lite.evaluation.separated_songs import LeftOut, Scores, Scoring, each
from msdm_lite.inference.defaults import default_separation, separation_method
from msdm_lite.inference.separation import separate
from msdm_lite.models import weights
from msdm_lite.models.base import StemModel
from msdm_lite.utils import plugins, provenance

log = logging.getLogger(__name__)
STFT_WINDOW, STFT_HOP = 2048, 512  # of the spectrogram, in samples


def mixture_baseline(stems: Tensor) -> Tensor:
    """The mixture of stems (S, T) in place of every stem, (S, T): its improvement is 0 dB by definition."""
    return stems.sum(0).expand_as(stems)


def ideal_mask(stems: Tensor) -> Tensor:
    """The ideal ratio mask: the mixture of stems (S, T) times each stem's share of the STFT magnitudes, (S, T)."""
    shape = torch.hann_window(STFT_WINDOW).to(stems)
    spectra = torch.stft(stems, STFT_WINDOW, STFT_HOP, window=shape, return_complex=True)  # (S, F, L)
    shares = spectra.abs() / spectra.abs().sum(0).clamp(min=1e-12)
    return torch.istft(shares * spectra.sum(0), STFT_WINDOW, STFT_HOP, window=shape, length=stems.shape[-1])


def require_corpus_stems(model: StemModel) -> None:
    """Check that the model has the stems of the corpus, which its songs and the shipped clips have.

    Raises:
        InputError: it has others.
    """
    if model.stems != STEMS:
        raise InputError(f"data with the stems {', '.join(STEMS)} is not for a model of {', '.join(model.stems)}: "
                         "score it on a folder of songs, --songs FOLDER")


BASELINES: dict[str, Callable[[Tensor], Tensor]] = {"mixture": mixture_baseline, "ideal-mask": ideal_mask}


def evaluate_clips(method: str | None = None, model: str = "lite", kind: str = "band", *, seed: int = 0,
                   on: str = "auto", progress: bool = True, given: Sequence[str] = (), **settings: Any) -> dict:
    """The record of a method's SI-SDR improvement on the shipped clips, with the command that repeats it.

    With fewer than eight clips there is no interval.

    Args:
        method: of `msdm_lite.diffusion.methods.METHODS`; if None, the default of the model.
        kind: of the clips: "band" or "composed".
        on: the device, by name.
        given: names of stems that are given besides the mixture; only the others are scored.
        settings: steps, samples, and any other of `separate`.

    Raises:
        InputError: the method, model, stem or kind of clip is unknown, or the model has other stems than the clips.
    """
    if method:
        by_name(method)
    if kind == "recording":
        raise InputError("the recordings have two stems, a guitar and the rest: chapter 12 scores them")
    loaded = weights.load(model, on)
    require_corpus_stems(loaded)
    method = method or default_separation(loaded, bool(given))
    numbers = [loaded.stem_index(name) for name in given]
    begun, origin = time.perf_counter(), provenance.origin(__name__)
    steps = settings.pop("steps", None)
    names, gains = [], []
    for entry in tqdm(example_clips.clips(kind), desc=method, unit="clip", disable=not progress):
        stems = example_clips.clip(entry["name"])
        known_stems = {name: stems[n] for name, n in zip(given, numbers, strict=True)}
        got = separate(stems.sum(0), loaded, method, steps=steps, seed=seed, given=known_stems, **settings)
        gain = metrics.si_sdr_improvement(got, stems)
        if numbers:  # given stems are not scored
            gain[numbers] = torch.nan
        gains.append(gain)
        names.append(entry["name"])
    table = torch.stack(gains)  # (clips, S)
    options = {"steps": METHODS[method].steps if steps is None else steps, "seed": seed, **settings}
    whole = metrics.interval(table.nanmean(1))
    per_stem = {stem: found for stem, column in zip(loaded.stems, table.T, strict=True)
                if (found := metrics.interval(column))["n"]}
    words = provenance.command_line("msdm-lite", *plugins.flags(), "evaluate", method=method, model=model, clips=kind,
                                    **options, given=given)
    return {
        "what": "SI-SDR improvement in dB over the mixture, mean over the stems that sound; one clip a song",
        "method": method, "model": str(model), "settings": options, "given": list(given),
        "data": f"shipped {kind} clips", "n": len(names),
        **{key: whole[key] for key in ("mean", "low", "high")},
        "interval": "95 % percentile bootstrap over songs",
        "stems": per_stem,
        "clips": {name: [round(v, 3) for v in row] for name, row in zip(names, table.tolist(), strict=True)},
        **records.circumstances(loaded, begun, origin=origin), "command": words,
    }


@dataclass(frozen=True)
class Songs:
    """The test songs that are scored, and how they go through a model.

    The stems are those of the model, and the mixture is their sum.

    Args:
        data: "band", "composed", "all", or a folder of stems such as Slakh2100 or MUSDB18-HQ, of which the split "test"
            is taken.
        n: number of songs, in order of name; all if None.
        seconds: length of the excerpt from the middle of each song; the whole song if None.
        chunks: separate independent segments, as the paper does.
        batch: number of songs of equal length, or with `chunks` of segments of a song, that go through the model
            together; it affects only time and memory. If None, 1 on a CPU and 62 on a GPU; of segments 1.
        stems: for a baseline on a folder: names of its stems; those of the corpus if None.
        out: the file that the record is going to be written to. The scores of each song are kept in a folder beside it,
            and a second call reads them; see `records.PartialResults`. The caller removes the folder.

    Raises:
        InputError: n, seconds or batch is not positive.
    """

    data: str = "band"
    n: int | None = None
    seconds: float | None = 12.0
    chunks: bool = False
    batch: int | None = None
    stems: Sequence[str] | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch < 1:
            raise InputError(f"{self.batch} songs cannot go through a model together: one or more")
        if (self.n is not None and self.n < 1) or (self.seconds is not None and not 0 < self.seconds < float("inf")):
            raise InputError(f"{self.n} songs of {self.seconds} s cannot be scored: one song or more, and some of it")


def evaluate_songs(songs: Songs, model: str = "lite", method: str | None = None, *, steps: int | None = None,
                   seed: int = 0, on: str = "auto", progress: bool = True, **settings: Any) -> dict:
    """The record of a method's SI-SDR improvement on test songs, with the measures of `evaluation.song_scores`.

    A song that cannot be scored is left out, with a warning: its files cannot be read, it is shorter than a segment
    with `chunks`, its separation fails, or no window has two active stems. `left_out` of the record says which and why.

    Args:
        method: of `msdm_lite.diffusion.methods.METHODS`, or of `msdm_lite.evaluation.separation_quality.BASELINES`,
            which need no model; if None, the default of the model.
        on: the device, by name.
        settings: any field of `msdm_lite.diffusion.methods.Method`, and `samples` of `separate`.

    Raises:
        InputError: there are no test songs, they are not rendered, or none can be scored; the model has other stems
            than the corpus, whose songs are asked for; stems are named beside a model; the method or model is unknown;
            or a baseline gets settings.
    """
    data, n, seconds, chunks = songs.data, songs.n, songs.seconds, songs.chunks
    batch, stems = songs.batch, songs.stems
    baseline = BASELINES.get(method or "")
    if method and not baseline:
        by_name(method)
    loaded: Any = None if baseline else weights.load(model, on)
    if loaded and stems:
        raise InputError("the stems are those of the model: stems are named for a baseline alone")
    if loaded and data in CORPUS:
        require_corpus_stems(loaded)
    names = loaded.stems if loaded else tuple(stems or STEMS)
    if len(names) < 2:
        raise InputError(f"{names[0]} alone is no mixture: a model of two stems or more separates")
    rate = loaded.sample_rate if loaded else SAMPLE_RATE
    if baseline and (steps is not None or chunks or settings):
        raise InputError(f"{method} asks no model: it has no settings")
    tracks = songs_of(data, "test", stems=names)[:n]
    require_rendered(tracks)
    begun, origin = time.perf_counter(), provenance.origin(__name__)
    most = 1 if not loaded or chunks or seconds is None else batch or (1 if loaded.device.type == "cpu" else 62)
    chosen: dict[str, Any] = {"method": method, "steps": steps, **settings}
    if loaded:  # settings that do not fit are no fault of a song
        separation_method(loaded, method, steps=steps, **{k: v for k, v in settings.items() if k != "samples"})
    parts = None if songs.out is None else records.PartialResults(songs.out, json.loads(json.dumps({
        "songs": data, "stems": names, "seconds": seconds, "chunks": chunks, "seed": seed, **chosen,
        "model": str(model) if loaded else None, "files": _stamps(model) if loaded else [],
        **records.weights_records(loaded), "code": origin["code"]["modules"]}, default=str)))
    scoring = Scoring(loaded, baseline, names, rate, seconds, chunks, most, batch or 1, {"seed": seed, **chosen})
    scored: dict[str, Scores] = {}
    left_out: dict[str, str] = {}
    with tqdm(total=len(tracks), desc=method or "default", unit="song", disable=not progress) as bar:
        for track, found in each(tracks, scoring, parts):
            if track.name in scored:
                found = LeftOut("another song has its name")
            if isinstance(found, LeftOut):
                left_out[track.name] = str(found)
                log.warning("%s is left out: %s", track.name, found)
            else:
                scored[track.name] = found
            bar.update()
    if not any(len(song["every"]) for song in scored.values()):
        if parts:
            parts.done()
        why = "".join(f"; {name}: {reason}" for name, reason in list(left_out.items())[:1])
        raise InputError(f"{data} has no test song in which two stems play at once{why}")
    chosen = {"method": method, "steps": steps, "n": n} | settings
    flags = ["--whole"] * (seconds is None) + ["--chunks"] * chunks
    command = provenance.command_line("msdm-lite", *plugins.flags(), "evaluate", *flags, songs=data, seed=seed,
                                      model=model if loaded else None, seconds=seconds, **chosen, stems=stems or ())
    styles = {track.name: getattr(track, "style", "") for track in tracks}
    return {"what": song_scores.WORDS, "data": data, "model": str(model) if loaded else None, "method": method,
            "settings": chosen | {"seconds": seconds, "chunks": chunks},
            "interval": "95 % percentile bootstrap over songs", **song_scores.measures(scored, names, styles),
            "left_out": left_out, "seed": seed,
            **records.circumstances(loaded, begun - (parts.seconds if parts else 0.0), origin=origin),
            "command": command}


def _stamps(model: str | Path) -> list[tuple[str, int, int]]:
    """Name, size and time of the files of a model that is given by its path; none for a shipped one."""
    path = Path(model)
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
