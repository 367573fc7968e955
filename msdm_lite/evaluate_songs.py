"""A method scored on whole test songs: of the corpus, of Slakh2100, or of any folder of stems.

Chapter: `book/10-measuring.ipynb`. Source of the published way: the code of Mariani et al., arXiv 2302.02257.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from msdm_lite import metrics, recorded, scoring, weights
from msdm_lite.audio import SAMPLE_RATE, STEMS
from msdm_lite.baselines import BASELINES
from msdm_lite.crops import Track, must_be_rendered
from msdm_lite.errors import InputError
from msdm_lite.face import StemModel
from msdm_lite.methods import named
from msdm_lite.recipe import songs_of
from msdm_lite.separation import separate, separate_together


def excerpt(track: Track, seconds: float | None, sample_rate: int) -> Tensor:
    """The stems (4, T) of a song's middle, or of all of it."""
    count = track.samples if seconds is None else min(track.samples, round(seconds * sample_rate))
    return torch.from_numpy(track.read((track.samples - count) // 2, count))


def separated(mixture: Tensor, model: StemModel, chunks: bool, **settings) -> Tensor:
    """Stems (S, T') of a mixture (T,): of the whole, or in the paper's way of segments that know nothing of each other.

    In that way what is left at the end, shorter than a segment, is dropped.

    Raises:
        InputError: as `separate`, or in that way the whole is shorter than a segment.
    """
    if not chunks:
        return separate(mixture, model, **settings)
    size = model.config.frames * model.config.bins
    if len(mixture) < size:
        raise InputError(f"{len(mixture) / model.sample_rate:.1f} s are shorter than a segment of the model, "
                         f"{model.segment:.1f} s")
    pieces = mixture[: len(mixture) // size * size].split(size)
    return torch.cat([separate(piece, model, **settings) for piece in pieces], 1)


def together(tracks: Sequence[Track], seconds: float | None, sample_rate: int, most: int
             ) -> Iterator[tuple[list[Track], Tensor]]:
    """Songs, in their order, with their stems (B, S, T): as many of one length as come in a row, and no more than most.
    """
    some: list[Track] = []
    stems: list[Tensor] = []
    for track in tracks:
        one = excerpt(track, seconds, sample_rate)
        if some and (len(some) == most or one.shape != stems[0].shape):
            yield some, torch.stack(stems)
            some, stems = [], []
        some.append(track)
        stems.append(one)
    if some:
        yield some, torch.stack(stems)


def evaluate_songs(data: str = "band", model: str = "lite", method: str | None = None, steps: int | None = None,
                   seed: int = 0, n: int | None = None, seconds: float | None = 12.0, chunks: bool = False,
                   on: str = "auto", progress: bool = True, batch: int | None = None, **settings) -> dict:
    """SI-SDR improvement on the test songs, in both scorings, as a result that can be written and made again.

    Args:
        data: "band", "composed", "all", or a folder of stems such as Slakh2100, of which the split "test" is taken.
        method: of `msdm_lite.methods.METHODS`, or of `msdm_lite.baselines.BASELINES`, which ask no model; what suits
            the model if None.
        n: how many songs, in order of name; all if None.
        seconds: of each, from its middle; all of it if None.
        chunks: separate segments one by one, as the paper does.
        batch: how many songs of one length go through the model together, which changes nothing but the time; what
            suits the device if None.
        settings: any field of `msdm_lite.methods.Method`, and `samples` of `separate`.

    Raises:
        InputError: no test songs, or such as are not rendered; an unknown method or model; settings of a method that
            has none; or songs shorter than what is asked.
    """
    if batch is not None and batch < 1:
        raise InputError(f"{batch} songs cannot go through a model together: one or more")
    if (n is not None and n < 1) or (seconds is not None and not 0 < seconds < float("inf")):
        raise InputError(f"{n} songs of {seconds} s cannot be scored: one song or more, and some of it")
    baseline = BASELINES.get(method or "")
    if method and not baseline:
        named(method)
    loaded: Any = None if baseline else weights.load(model, on)
    if loaded:
        loaded.must_play(STEMS)
    rate = loaded.sample_rate if loaded else SAMPLE_RATE
    if baseline and (steps is not None or chunks or settings):
        raise InputError(f"{method} asks no model: it has no settings")
    tracks = songs_of(data, "test")[:n]
    must_be_rendered(tracks)
    begun = time.perf_counter()
    published, active, kept, windows = [], [], [], 0
    most = 1 if not loaded or chunks or seconds is None else batch or (1 if loaded.device.type == "cpu" else 62)
    chosen: dict[str, Any] = {"method": method, "steps": steps, **settings}
    with tqdm(total=len(tracks), desc=method or "default", unit="song", disable=not progress) as bar:
        for some, true in together(tracks, seconds, rate, most):
            if baseline:
                found = torch.stack([baseline(one) for one in true])
            elif most > 1:
                found = separate_together(true.sum(1), loaded, seed=seed, **chosen)
            else:
                found = torch.stack([separated(one.sum(0), loaded, chunks, seed=seed, **chosen) for one in true])
            for track, one, stems in zip(some, found, true, strict=True):
                both = scoring.improvements(one, stems[:, : one.shape[1]], rate)
                if len(both[0]):
                    windows += len(both[0])
                    published.append(both[0].mean(0))
                    active.append(both[1].nanmean(0))
                    kept.append(track)
            bar.update(len(some))
    names = [track.name for track in kept]
    if not names:
        raise InputError(f"{data} has no test song in which two stems play at once")
    tables = {"published": torch.stack(published), "active": torch.stack(active)}  # (songs, S)
    styles = [getattr(track, "style", "") for track in kept]
    chosen = {"method": method, "steps": steps, "n": n} | settings
    flags = ["--whole"] * (seconds is None) + ["--chunks"] * chunks
    command = recorded.command("msdm-lite", "evaluate", *flags, songs=data, seed=seed,
                               model=model if loaded else None, seconds=seconds, **chosen)
    return {"what": "SI-SDR improvement in dB over the mixture on test songs: windows of 4 s every 2 s, mean of a song,"
                    " mean over songs; published: silent stems count; active: they do not",
            "data": data, "model": str(model) if loaded else None, "method": method,
            "settings": chosen | {"seconds": seconds, "chunks": chunks},
            "n": len(names), "windows": windows, "interval": "95 % percentile bootstrap over songs",
            **{name: summary(table, STEMS) for name, table in tables.items()},
            "by_stems": grouped(tables["active"], [f"{int((~row.isnan()).sum())}" for row in tables["active"]]),
            "by_style": grouped(tables["active"], styles) if any(styles) else {},
            "songs": {name: [round(v, 3) for v in row]
                      for name, row in zip(names, tables["active"].tolist(), strict=True)},
            "seed": seed, **recorded.circumstances(loaded, begun), "command": command}


def grouped(table: Tensor, groups: list[str]) -> dict:
    """Mean and interval over all stems of each group of songs; the rows of a table (songs, S) say theirs."""
    return {group: summary(table[[other == group for other in groups]], STEMS)["all"] for group in sorted(set(groups))}


def summary(table: Tensor, stems: tuple[str, ...]) -> dict:
    """Mean and interval over songs of a table (songs, S): of each stem, and over all; no interval under 8 songs."""
    columns = [*zip(stems, table.T, strict=True), ("all", table.nanmean(1))]
    return {name: metrics.interval(column) for name, column in columns}
