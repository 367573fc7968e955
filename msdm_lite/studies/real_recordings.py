"""Separation of real recordings: the guitar against all other stems, in recordings and in songs of the corpus.

`python -m msdm_lite.studies real-recordings --out FILE` scores the recordings of `msdm_lite.data.recordings`, which
have two sources, and test songs by the program and by people with the same two sources. Each score is recorded with
that of the ideal ratio mask, because some music is harder to separate than other music. The study needs the rendered
corpus (`msdm-lite data build`), and fetches the recordings. Chapter: `book/12-longer-and-stranger.ipynb`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from msdm_lite.audio.io import SAMPLE_RATE, STEMS
from msdm_lite.data import corpus
from msdm_lite.data.recordings import ROWS, recordings
from msdm_lite.data.tracks import Track, require_rendered
from msdm_lite.errors import InputError
from msdm_lite.evaluation import metrics, separation_quality
from msdm_lite.evaluation.separated_songs import excerpt
from msdm_lite.inference.separation import separate
from msdm_lite.models.base import StemModel
from msdm_lite.studies.runner import Run, study

GUITAR = STEMS.index("guitar")


def two(stems: Tensor) -> Tensor:
    """The guitar and the sum of all other stems (2, T), of stems (4, T). Two rows are returned unchanged."""
    return stems if len(stems) == 2 else torch.stack([stems[GUITAR], stems.sum(0) - stems[GUITAR]])


def measure(model: StemModel, tracks: Sequence[Track], seconds: float, title: str = "", progress: bool = True) -> dict:
    """SI-SDR improvement in dB of the guitar and of the rest, by the model and by the ideal ratio mask.

    Each song has one value, the mean over windows of four seconds in which both sources sound. Songs without such a
    window are left out. Returns `n`, the number of songs; `model` and `mask`, mean and interval of each source;
    `songs`, the values of the model.

    Args:
        seconds: of each song, from its middle.

    Raises:
        InputError: no song has such a window.
    """
    names: list[str] = []
    found: dict[str, list[Tensor]] = {"model": [], "mask": []}
    for track in tqdm(tracks, desc=title, unit="song", disable=not progress):
        true = two(excerpt(track, seconds, SAMPLE_RATE))
        mix = true.sum(0)
        guitar = separate(mix, model)[GUITAR]
        answers = {"model": torch.stack([guitar, mix - guitar]), "mask": separation_quality.ideal_mask(true)}
        gains = {name: metrics.windowed_improvements(answer, true)[1] for name, answer in answers.items()}
        if len(gains["model"]):
            names.append(track.name)
            for name, gain in gains.items():
                found[name].append(gain.nanmean(0))
    if not names:
        raise InputError(f"{title or 'there'}: no song in which a guitar and others play at once")
    tables = {name: torch.stack(rows) for name, rows in found.items()}  # (songs, 2)
    return {"n": len(names)} | {
        name: {row: metrics.interval(column) for row, column in zip(ROWS, table.T, strict=True)}
        for name, table in tables.items()} | {
        "songs": {name: [round(v, 3) for v in row] for name, row in zip(names, tables["model"].tolist(), strict=True)}}


@study("real-recordings", records=("played-lite", "played-lite-supervised"),
       measures="the guitar against the rest, in recordings")
def main(run: Run, model: str = "lite", seconds: float = 60.0, n: int | None = None) -> dict:
    """Score the recordings and both kinds of songs, and write one JSON file.

    Args:
        model: a shipped name or a path; it separates by its default method.
        seconds: of each song, from its middle.
        n: how many songs of each kind, in order of name; all if not given.

    Raises:
        InputError: `n` below 1, or `seconds` below 4; a model of other stems; songs that are not rendered; no `apt-get`
            to fetch the recordings with.
    """
    if not metrics.SCORING_WINDOW <= seconds < float("inf") or (n is not None and n < 1):
        raise InputError(f"{n} songs of {seconds:g} s: one song or more, four seconds or longer")
    loaded = run.load(model)
    loaded.require_stems(STEMS)
    kinds: dict[str, Sequence[Track]] = {"by the program": corpus.songs("test", "band")[:n],
                                         "by people": corpus.songs("test", "composed")[:n]}
    for tracks in kinds.values():
        require_rendered(tracks)  # before anything is fetched
    kinds["played"] = recordings()[:n]
    found = {title: measure(loaded, tracks, seconds, title) for title, tracks in kinds.items()}
    return {"what": "SI-SDR improvement in dB over the mixture of the guitar, and of the sum of all others; "
            "windows of 4 s in which both play, mean of a song; mask: an ideal ratio mask, which knows the two",
            "data": "test songs by the program and by people, and recordings",
            "n": sum(music["n"] for music in found.values()), "model": model,
            "settings": {"seconds": seconds}, "interval": "95 % percentile bootstrap over songs",
            "music": found, "seed": 0}
