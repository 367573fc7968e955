"""The commands that train, build and list: `msdm-lite train`, `data`, `models`, `methods` and `results`.

Chapter: `book/05-training.ipynb`.
"""

import os
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Literal

import tyro

from msdm_lite.cli import options

Fraction = Annotated[float, tyro.conf.arg(metavar="0..1")]
WIDTH = 100  # columns of the tables


def train(out: options.Folder, preset: Annotated[str, tyro.conf.arg(metavar="NAME")] = "lite",
          data: Annotated[str, tyro.conf.arg(metavar="band|composed|all|FOLDER")] = "all",
          minutes: Annotated[float | None, options.optional("MINUTES", "--steps says how long")] = None,
          steps: Annotated[int | None, options.optional("N", "--minutes says how long")] = None, resume: bool = False,
          start: Annotated[str | None, options.optional("NAME|FILE", "random weights")] = None,
          stems: Annotated[tuple[str, ...], options.optional("STEM", "all")] = (), batch: options.Count = 8,
          accumulate: options.Count = 1,
          optimizer: Annotated[Literal["muon", "adamw"] | None, options.one_of(
              "muon", "adamw", otherwise="muon for MDCT spectrograms, adamw for waveforms")] = None,
          lr: Annotated[float | None, options.optional("RATE", "3e-3 muon, 1e-3 adamw, 1e-4 for waveforms")] = None,
          cooldown: Fraction = 0.3, gain_db: Annotated[float, tyro.conf.arg(metavar="DB")] = 2.0,
          silence: Fraction = 0.04, remix: Fraction = 0.0,
          detune: Annotated[float, tyro.conf.arg(metavar="CENTS")] = 50.0, variations: options.Count = 0,
          programs: bool = True, transpose: bool = True, soundfonts: bool = True,
          balance: Literal["rms", "loudness"] = "rms", seed: options.Seed = 0, log_every: options.Count = 50,
          checkpoint_minutes: Annotated[float, tyro.conf.arg(metavar="MINUTES")] = 5.0, compile: bool = False,
          workers: options.Count = 1, resident: bool = False, device: options.Device = "auto") -> None:
    """Train a model on the corpus (`msdm-lite data build` renders it) or on a folder of stems.

    A run can be killed and resumed. Several GPUs or machines: `torchrun --nproc_per_node 8 -m msdm_lite train` with
    these options, or `accelerate launch`.

    Args:
        out: folder for the checkpoint, the log (JSON lines and TensorBoard) and the weights.
        preset: configuration of the model: tiny, lite, lite-single (one stem), lite-small (all stems, as large as
            that), lite-supervised (separation only), lite-guided (for classifier-free guidance), lite-sketch (coarse
            spectrograms), lite-mix (the mixture only), tiny-wave (waveforms); for a GPU large, base and paper.
        data: training songs: of the corpus, or a folder of stems such as Slakh2100.
        minutes: length of the run, without validation.
        steps: length of the run in optimizer steps.
        resume: resume from the checkpoint in --out.
        start: fine-tune the weights of this model; its minutes or steps count as part of the run.
        stems: train on these stems only. A folder of models of one stem each is a model of all of them.
        batch: crops per process in a batch.
        accumulate: batches whose gradients are accumulated in one step.
        optimizer: the optimizer of the weight matrices.
        lr: peak learning rate.
        cooldown: last fraction of the run, in which the learning rate falls to a hundredth; a resumed run may have
            another.
        gain_db: augmentation: standard deviation of a random gain of each stem.
        silence: augmentation: probability that a stem is silenced.
        remix: augmentation: probability that the stems of a crop come from different songs.
        detune: augmentation: half the crops are detuned, all stems alike, by at most this much.
        variations: augmentation: further versions of each song, in other keys and sounds (build them first).
        programs: variations have other instruments of the family.
        transpose: variations are in other keys.
        soundfonts: variations come from either of two soundfonts.
        balance: measure in which the stems of the corpus are equal: active RMS or integrated loudness.
        seed: seed of weights, crops and noise.
        log_every: steps between two lines of the log.
        checkpoint_minutes: time between two checkpoints, each followed by a validation.
        compile: compile the denoiser with torch.compile.
        workers: processes that read crops.
        resident: keep all songs in the memory of the GPU (8 GB for the corpus), and cut crops there.
        device: where to compute.
    """
    from msdm_lite.training.loop import train as run
    from msdm_lite.training.recipe import Recipe

    recipe = Recipe(preset=preset, data=data, minutes=minutes, steps=steps, start=start, stems=stems or None,
                    batch=batch, accumulate=accumulate, optimizer=optimizer, lr=lr, cooldown=cooldown, seed=seed,
                    gain_db=gain_db, silence=silence, remix=remix, detune=detune, variations=variations,
                    programs=programs, transpose=transpose, soundfonts=soundfonts, balance=balance,
                    log_every=log_every)
    path = run(recipe, out, resume, device, sys.stderr.isatty(), checkpoint_minutes, compile, workers, resident)
    if os.environ.get("RANK", "0") == "0":  # the first of several processes writes the weights
        print(path)


def data(action: Annotated[Literal["build", "compose", "clips", "card"], tyro.conf.Positional],
         source: Annotated[str, tyro.conf.arg(metavar="all|band|composed|PACKAGE")] = "all",
         variations: options.Count = 0, programs: bool = True, transpose: bool = True, soundfonts: bool = True,
         balance: Literal["rms", "loudness"] = "rms", skip: bool = False, songs: options.Count = 500,
         seed: options.Seed = 0, workers: Annotated[int | None, options.optional("N", "one for each core")] = None,
         out: Annotated[Path | None, options.optional("FOLDER", "the data folder of the checkout")] = None) -> None:
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
    """
    from msdm_lite.data import corpus
    from msdm_lite.utils import paths

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
           out: Annotated[Path | None, options.optional("FOLDER", "the data folder of the checkout")] = None) -> None:
    """List the models that ship: name, parameters, size of the file, training, purpose.

    Args:
        card: write the model card and its figures instead.
        out: with --card: where they go.
    """
    from msdm_lite.studies import model_card
    from msdm_lite.utils import paths

    if card:
        print(model_card.write(out or paths.sources()))
        return
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in model_card.overview()
            if not line.startswith("|---")]
    print(_table(rows, (17, 10, 8, 21)))


def methods() -> None:
    """List the methods of each task: name, network evaluations (NFE) at default settings, and description."""
    from msdm_lite.diffusion.methods import GENERATIONS, IMPUTATIONS, METHODS

    rows = [["task", "method", "NFE", "what it is"]]
    for task, table in (("separate", METHODS), ("generate", GENERATIONS), ("accompany", IMPUTATIONS)):
        rows += [[task, name, str(method.nfe), method.summary] for name, method in table.items()]
    print(_table(rows, (9, 19, 4)))


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

    Args:
        names: results to compute, by the names of their files.
        everything: compute those that are up to date too.
        check: change nothing: compute some results and compare them with the record; exit code 2 if they differ.
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
        for name in studies_results.COMMANDS:
            print(f"{name}: {studies_results.state(name)}")
        return
    found = studies_results.check(count, seconds, seed, sys.stderr.isatty())
    for name, problems in found.items():
        print(f"{name}: {'as recorded' if not problems else '; '.join(problems[:5])}")
    if wrong := [name for name, problems in found.items() if problems]:
        raise InputError(f"not as recorded: {', '.join(wrong)}")
