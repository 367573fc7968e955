"""Measurements of the corpus: the numbers and figures of the data card (`data/README.md`).

Everything here is computed from the lists and the rendered songs, so that the card agrees with them.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from msdm_lite.audio import levels as audio_levels
from msdm_lite.audio.io import SAMPLE_RATE, STEMS
from msdm_lite.data import composed_songs, corpus, leakage, midi, render
from msdm_lite.data.recordings import recordings
from msdm_lite.notebook.plots import COLOURS
from msdm_lite.utils import paths as utils_paths

SIDES = ("train", "val", "test")
PER_SIDE = 40  # songs at most whose audio is measured for a figure


def minutes() -> dict:
    """Number of songs, minutes, and minutes in which each family plays, for each kind of music and each split."""
    out = {}
    for kind in ("band", "composed"):
        for side in SIDES:
            rows = [row for row in corpus.table(kind) if row["split"] == side]
            found = {"songs": len(rows), "minutes": round(sum(float(row["seconds"]) for row in rows) / 60, 1)}
            for stem in STEMS:
                seconds = 0.0
                for row in rows:
                    if kind == "composed":
                        seconds += float(row[stem])
                    else:
                        file = midi.read(utils_paths.data("songs", "band", f"{row['name']}.mid"))
                        seconds += midi.activity(file).get(stem, 0.0) * float(row["seconds"])
                found[stem] = round(seconds / 60, 1)
            out[f"{kind} {side}"] = found
    return out


def genres() -> dict:
    """Number of composed songs of each genre in each split."""
    rows = corpus.table("composed")
    return {genre: {side: sum(row["genre"] == genre and row["split"] == side for row in rows) for side in SIDES}
            for genre in sorted({row["genre"] for row in rows})}


def kinship() -> dict:
    """Leakage between splits: the share of four-bar windows that a held-out song has in common with a training song.

    The training song is the nearest one. Returns mean and highest share and the number of near-duplicates, for test and
    validation songs, with all stems, drums alone, and the other three (`msdm_lite.data.leakage`).
    """
    songs = corpus.songs()
    train = [song for song in songs if song.split == "train"]
    out = {}
    for side in ("test", "val"):
        held = [song for song in songs if song.split == side]
        for what, stems in (("all stems", STEMS), ("drums alone", ("drums",)),
                            ("bass, guitar and piano", ("bass", "guitar", "piano"))):
            shares = [like.share for like in leakage.similarity(held, train, stems)]
            out[f"{side}, {what}"] = {"mean": round(float(np.mean(shares)), 3), "most": round(max(shares), 3),
                                      "songs over a fifth": sum(share > leakage.NEAR_DUPLICATE for share in shares),
                                      "songs": len(shares)}
    return out


def spread(songs: Sequence[corpus.Song]) -> list[corpus.Song]:
    """At most PER_SIDE of the songs: every k-th, from the first on."""
    return list(songs)[:: max(1, len(songs) // PER_SIDE)][:PER_SIDE]


def levels() -> dict:
    """Active RMS (dB) and integrated loudness (LUFS) of each stem, as the soundfont plays it, and after balancing.

    For each measure, each way of balancing and each stem, a list of one number a song: at most PER_SIDE band songs of
    the training split.
    """
    out: dict = {when: {stem: [] for stem in STEMS} for when in (
        "rms, as played", "rms, balanced by rms", "loudness, as played", "loudness, balanced by rms",
        "loudness, balanced by loudness")}
    for song in tqdm(spread(corpus.songs("train", "band")), desc="levels", unit="song"):
        events = midi.events(midi.read(song.midi()))
        balanced = song.read()
        by_loudness = balanced * audio_levels.loudness_gains(balanced)[:, None]
        for row, stem in enumerate(STEMS):
            played = render.render_stem(events, stem, song.seconds)
            for when, wave in (("as played", played), ("balanced by rms", balanced[row]),
                               ("balanced by loudness", by_loudness[row])):
                if f"rms, {when}" in out:
                    out[f"rms, {when}"][stem].append(round(20 * np.log10(audio_levels.active_rms(wave) + 1e-9), 2))
                out[f"loudness, {when}"][stem].append(round(audio_levels.integrated_loudness(wave), 2))
    return out


def spectra(bands: int = 36) -> dict:
    """Mean power spectrum of each stem for each kind of music; and of recordings.

    In dB under the strongest frequency band; the bands are evenly spaced in pitch, from 40 Hz on.
    """
    edges = np.geomspace(40, SAMPLE_RATE / 2, bands + 1)  # no band is narrower than the line spacing of the spectrum
    frequency = np.fft.rfftfreq(4096, 1 / SAMPLE_RATE)
    which = np.clip(np.searchsorted(edges, frequency, "right") - 1, 0, bands - 1)

    def spectrum(waves: list[np.ndarray]) -> list[float]:
        power = np.zeros(len(frequency))
        for wave in waves:
            frames = wave[: len(wave) // 4096 * 4096].reshape(-1, 4096) * np.hanning(4096)
            if len(frames):
                power += np.square(np.abs(np.fft.rfft(frames))).mean(0)
        banded = np.bincount(which, power, bands) / np.maximum(np.bincount(which, minlength=bands), 1)
        return [round(v, 1) for v in 10 * np.log10(banded / max(banded.max(), 1e-12) + 1e-9)]

    out: dict = {"hertz": [round(float(v), 1) for v in np.sqrt(edges[1:] * edges[:-1])]}
    for kind in ("band", "composed"):
        stems = [song.read(0, 60 * SAMPLE_RATE) for song in tqdm(spread(corpus.songs(source=kind)), desc="spectra")]
        for row, stem in enumerate(STEMS):
            out[f"{kind} {stem}"] = spectrum([s[row] for s in stems])
    found = [recording.read(20 * SAMPLE_RATE, 60 * SAMPLE_RATE) for recording in recordings()]
    for row, name in enumerate(("guitar", "rest")):
        out[f"recorded {name}"] = spectrum([s[row] for s in found])
    return out


def tables(found: dict) -> str:
    """The card's tables, as Markdown."""
    lines = ["| songs | number | minutes | bass | drums | guitar | piano |", "|---|---|---|---|---|---|---|"]
    for name, row in found["minutes"].items():
        lines.append(f"| {name} | {row['songs']} | {row['minutes']} | "
                     + " | ".join(str(row[stem]) for stem in STEMS) + " |")
    lines += ["", "Minutes in all, and minutes in which each family plays.", "",
              "| genre of composed songs | train | val | test |", "|---|---|---|---|"]
    lines += [f"| {genre} | {' | '.join(str(row[side]) for side in SIDES)} |" for genre, row in found["genres"].items()]
    lines += ["", "| how much of them is in training songs | mean share of windows | highest | songs over a fifth |",
              "|---|---|---|---|"]
    lines += [f"| {name} | {row['mean']:.1%} | {row['most']:.0%} | {row['songs over a fifth']} of {row['songs']} |"
              for name, row in found["kinship"].items()]
    lines += ["", "| level of band stems: median (10th to 90th percentile) | bass | drums | guitar | piano |",
              "|---|---|---|---|---|"]
    for when, row in found["levels"].items():
        cells = []
        for stem in STEMS:
            low, middle, high = np.percentile(row[stem], [10, 50, 90])
            cells.append(f"{middle:.1f} ({low:.1f} to {high:.1f})")
        lines.append(f"| {when}, {'dB' if when.startswith('rms') else 'LUFS'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(found: dict, folder: Path) -> list[Path]:
    """Draw two figures as PNG files, the levels before and after balancing and the spectra; returns their paths."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(1, 5, figsize=(11, 3), layout="constrained")
    for axis, (when, row) in zip(axes, found["levels"].items(), strict=True):
        boxes = axis.boxplot([row[stem] for stem in STEMS], widths=0.6, patch_artist=True, showfliers=False)
        for box, stem in zip(boxes["boxes"], STEMS, strict=True):
            box.set_facecolor(COLOURS[stem])
        for line in boxes["medians"]:
            line.set_color("black")
        axis.set_xticks(range(1, 5), STEMS, rotation=60)
        axis.set(ylim=(-60, -15), axisbelow=True)
        axis.grid(axis="y", alpha=0.3)
        axis.set_title(when.replace(", ", ",\n"), fontsize=9)
        axis.set_ylabel("dB" if when.startswith("rms") else "LUFS")
    paths = [folder / "corpus-levels.png", folder / "corpus-spectra.png"]
    figure.savefig(paths[0], dpi=110)
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained", sharey=True)
    hertz = found["spectra"]["hertz"]
    for axis, kind in zip(axes, ("band", "composed", "recorded"), strict=True):
        for name, row in found["spectra"].items():
            if name.startswith(f"{kind} "):
                part = name.split()[1]
                axis.plot(hertz, row, label=part, color=COLOURS.get(part, "black"))
        axis.set(xscale="log", xlabel="frequency (Hz)", title=f"{kind} songs", ylim=(-70, 3))
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("power, dB under the highest band")
    figure.savefig(paths[1], dpi=110)
    plt.close("all")
    return paths


def write(folder: Path) -> Path:
    """Measure the corpus; write results/corpus.json, the figures, and the tables in README.md, all in `folder`.

    The tables replace the text between two markers. Songs that are not rendered yet are rendered first. Returns the
    path of the JSON file.

    Raises:
        InputError: songs cannot be rendered, or a package is missing.
    """
    corpus.build(corpus.songs())
    found = {"what": "the corpus: minutes, genres, kinship of the splits, levels and spectra of the stems",
             "soundfont": render.default_soundfont(), "packages": list(composed_songs.PACKAGES),
             "songs measured for levels": len(spread(corpus.songs("train", "band"))), "minutes": minutes(),
             "genres": genres(), "kinship": kinship(), "levels": levels(), "spectra": spectra(),
             "command": "msdm-lite data card"}
    path = folder / "results" / "corpus.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    draw(found, folder / "pictures")
    card = folder / "README.md"
    if card.exists():
        text = re.sub(r"(<!-- measured -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{tables(found)}\n{m[2]}",
                      card.read_text(), flags=re.DOTALL)
        card.write_text(text)
    return path
