"""Scores of separated songs: of each song, and over all of them, as a record has them.

There are three measures of one separation, all of SI-SDR improvement in windows of 4 s, one every 2 s. `per_window` is
the published one: the mean over all windows of all songs, silent stems included. `per_song` and `active` are ours: the
mean of each song first, then the mean over songs; `active` leaves silent stems out. Source: the code of Mariani et al.,
arXiv 2302.02257, evaluation/evaluate_separation.py. Chapter: `book/10-measuring.ipynb`.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, stack

from msdm_lite.evaluation import metrics

WORDS = ("SI-SDR improvement in dB over the mixture on test songs, in windows of 4 s every 2 s. per_window: as "
         "published, mean over all windows of all songs, silent stems count; per_song: mean of a song, mean over "
         "songs, silent stems count; active: the same, silent stems do not count")


def of_song(found: Tensor, true: Tensor, sample_rate: int) -> dict[str, Tensor]:
    """The improvement in each window of a song: {"published": (V, S), "every": (W, S), "active": (W, S)}, in dB.

    Args:
        found, true: stems (S, T). Where the last partial segment was not separated, it is in neither.
    """
    every, active = metrics.windowed_improvements(found, true, sample_rate)
    return {"published": metrics.published_improvements(found, true, sample_rate), "every": every, "active": active}


def measures(songs: Mapping[str, Mapping[str, Tensor]], stems: Sequence[str], styles: Mapping[str, str]) -> dict:
    """The measures of songs by name, each as `of_song` gives it, as a record has them.

    Args:
        styles: the style of each song by name; empty texts if there are none.
    """
    whole = {name: song for name, song in songs.items() if len(song["every"])}
    per_song = stack([song["every"].mean(0) for song in whole.values()])  # (songs, S)
    active = stack([song["active"].nanmean(0) for song in whole.values()])
    published = [song["published"].numpy() for song in songs.values()]
    columns = [(stem, [song[:, row] for song in published]) for row, stem in enumerate(stems)]
    columns.append(("all", [song.mean(1) for song in published]))
    per_window = {stem: metrics.pooled(column) for stem, column in columns}
    kinds = [styles[name] for name in whole]
    return {"n": len(whole), "windows": sum(len(song["every"]) for song in whole.values()),
            "published_windows": per_window["all"].pop("windows"),
            "per_window": {stem: {key: found[key] for key in ("mean", "low", "high", "n")}
                           for stem, found in per_window.items()},
            "per_song": summary(per_song, stems), "active": summary(active, stems),
            "by_stems": grouped(active, [f"{int((~row.isnan()).sum())}" for row in active]),
            "by_style": grouped(active, kinds) if any(kinds) else {},
            "songs": {name: [round(v, 3) for v in row] for name, row in zip(whole, active.tolist(), strict=True)}}


def published_score(record: dict) -> dict | None:
    """The published measure of a recorded separation of songs, by stem and for "all": {"mean", "low", "high", "n"}.

    Older records have only the means of songs. Where all songs have equally many windows, all of them whole, the two
    are the same; else the result is None.
    """
    if "per_window" in record:
        found: dict = record["per_window"]
        return found
    hops = (record["settings"]["seconds"] or 0) / metrics.SCORING_HOP
    same = hops == int(hops) and hops >= 2 and record["windows"] == record["n"] * int(hops - 1)
    return record["per_song"] if same else None


def grouped(table: Tensor, groups: list[str]) -> dict:
    """Mean and interval over all stems for each group of songs; `groups` names the group of each row of (songs, S)."""
    return {group: metrics.interval(table[[other == group for other in groups]].nanmean(1))
            for group in sorted(set(groups))}


def summary(table: Tensor, stems: Sequence[str]) -> dict:
    """Mean and interval over the songs of a table (songs, S), for each stem and for all; no interval below 8 songs."""
    columns = [*zip(stems, table.T, strict=True), ("all", table.nanmean(1))]
    return {name: metrics.interval(column) for name, column in columns}
