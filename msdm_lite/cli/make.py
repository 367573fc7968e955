"""The commands that build and list: `msdm-lite data`, `models`, `methods` and `results`.

Chapter: `book/13-scaling-up.ipynb`.
"""

import sys
import textwrap
from pathlib import Path
from typing import Annotated, Literal

import tyro

from msdm_lite.cli import options

WIDTH = 100  # columns of the tables


def data(action: Annotated[Literal["build", "compose", "clips", "card"], tyro.conf.Positional],
         source: Annotated[str, tyro.conf.arg(metavar="all|band|composed|PACKAGE")] = "all",
         variations: options.Count = 0, programs: bool = True, transpose: bool = True, soundfonts: bool = True,
         balance: Literal["rms", "loudness"] = "rms", skip: bool = False, songs: options.Count = 500,
         seed: options.Seed = 0, workers: Annotated[int | None, options.optional("N", "one for each core")] = None,
         out: Annotated[Path | None, options.optional("FOLDER", "the data folder of the checkout")] = None,
         overwrite: bool = False) -> None:
    """Build the corpus, write the band songs' MIDI, cut the test clips, or measure for the data card.

    Args:
        action: build renders songs into the cache, and resumes where it was stopped. compose writes the MIDI of the
            band songs. clips cuts the test clips. card measures the corpus, and writes numbers and figures for the
            data card.
        source: build: which songs; PACKAGE is a Debian package.
        variations: build: further versions of each training song, in other keys and sounds.
        programs: build: variations have other instruments of the family.
        transpose: build: variations are in other keys.
        soundfonts: build: variations come from either of two soundfonts.
        balance: build: measure in which stems are equal: active RMS, or integrated loudness as in Slakh2100.
        skip: build: leave out the songs whose package cannot be fetched here.
        songs: compose: number of songs.
        seed: compose, clips: seed of the songs, or of the places of the clips.
        workers: build: number of processes.
        out: compose, clips, card: where the files go.
        overwrite: compose, clips, card: write over such files in the folder of --out.
    """
    from msdm_lite.data import corpus
    from msdm_lite.utils import manifest, paths

    if out is not None:
        written = {"compose": ["band.tsv", "band"], "clips": ["clips.json"], "card": ["results/corpus.json"]}
        manifest.require_own(out, written.get(action, ()), overwrite=overwrite)
    if action == "build":
        wanted = corpus.songs(None, None if source == "all" else source, variations, balance,
                              programs=programs, transpose=transpose, soundfonts=soundfonts)
        made = corpus.build(wanted, workers, skip, progress=sys.stderr.isatty())
        print(f"{made} songs rendered, {sum(song.ready for song in wanted)} of {len(wanted)} "
              f"in {paths.cache('corpus')}")
    elif action == "compose":
        from msdm_lite.data import band_songs

        print(band_songs.write(out or paths.sources() / "songs", songs, seed))
    elif action == "clips":
        from msdm_lite.data import example_clips

        print(example_clips.write(out or paths.sources() / "clips", seed=seed))
    else:
        from msdm_lite.studies import data_card

        print(data_card.write(out or paths.sources()))


def models(card: bool = False,
           out: Annotated[Path | None, options.optional("FOLDER", "the data folder of the checkout")] = None,
           overwrite: bool = False) -> None:
    """List the models that ship: name, parameters, size of the file, training, purpose.

    Args:
        card: write the model card and its figures instead.
        out: with --card: where they go.
        overwrite: with --card: write over a card in the folder of --out.
    """
    from msdm_lite.studies import model_card
    from msdm_lite.utils import manifest, paths

    if card:
        if out is not None:
            manifest.require_own(out, ["weights/README.md"], overwrite=overwrite)
        print(model_card.write(out or paths.sources()))
        return
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in model_card.overview()
            if not line.startswith("|---")]
    print(_table(rows, (17, 10, 8, 21)))


def methods() -> None:
    """List the methods of each task, and what they and models can be made of: guidances, samplers, front ends, ...

    For each method its name, network evaluations (NFE) at default settings, and a description.
    """
    from msdm_lite.audio.front_end import FRONT_ENDS
    from msdm_lite.diffusion.guidances import GUIDANCES
    from msdm_lite.diffusion.methods import GENERATIONS, IMPUTATIONS, METHODS
    from msdm_lite.diffusion.samplers import SAMPLERS
    from msdm_lite.diffusion.schedules import SCHEDULES
    from msdm_lite.models.config import PRESETS, WAVE_PRESETS

    rows = [["task", "method", "NFE", "what it is"]]
    for task, table in (("separate", METHODS), ("generate", GENERATIONS), ("accompany", IMPUTATIONS)):
        rows += [[task, name, str(method.nfe), method.summary] for name, method in table.items()]
    print(_table(rows, (9, 19, 4)))
    print()
    for title, names in (("guidances", GUIDANCES), ("samplers", SAMPLERS), ("schedules", SCHEDULES),
                         ("front ends", FRONT_ENDS), ("presets", PRESETS | WAVE_PRESETS)):
        print(textwrap.fill(", ".join(names), WIDTH, initial_indent=f"{title:<11}", subsequent_indent=" " * 11))


def _table(rows: list[list[str]], widths: tuple[int, ...]) -> str:
    """Rows of cells as lines of at most `WIDTH` columns; the last cell is wrapped."""
    lines = []
    for *cells, last in rows:
        start = "".join(f"{cell:<{width}} " for cell, width in zip(cells, widths, strict=True))
        lines += textwrap.wrap(last, WIDTH, initial_indent=start,
                               subsequent_indent=" " * len(start)) or [start.rstrip()]
    return "\n".join(lines)


def results(names: tyro.conf.Positional[Annotated[tuple[str, ...], options.optional(
                "NAME", "those that are missing or stale")]] = (), everything: bool = False, check: bool = False,
            table: bool = False, count: options.Count = 2, seconds: options.Seconds = 300.0,
            seed: Annotated[int | None, options.optional("N", "another draw each time")] = None) -> None:
    """Compute the recorded results again: those named, or those that are missing or made with other weights.

    Each is listed with its state, and whether the code that computed it has changed since.

    Args:
        names: results to compute, by the names of their files.
        everything: compute those that are up to date too.
        check: compute some results and compare them with the record; exit code 2 if they differ. Those that are named
            and do not differ are stamped with the code of now; without names some are drawn, and nothing is changed.
        table: change nothing: print the small table of the README.
        count: with --check: number of results, drawn at random.
        seconds: with --check: only results that took no longer.
        seed: with --check: seed of the draw.
    """
    from msdm_lite.errors import InputError
    from msdm_lite.studies import results as studies_results

    if table:
        from msdm_lite.studies import results_table

        print(results_table.results_table())
        return
    if not check:
        for path in studies_results.make(names, everything, sys.stderr.isatty()):
            print(path)
        print("\n".join(studies_results.overview()))
        return
    found = studies_results.check(names, count, seconds, seed, sys.stderr.isatty())
    for name, problems in found.items():
        said = "as recorded" + (", and stamped" if names else "")
        print(f"{name}: {'; '.join(problems[:5]) or said}")
    if wrong := [name for name, problems in found.items() if problems]:
        raise InputError(f"not as recorded: {', '.join(wrong)}")
