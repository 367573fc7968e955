"""The command line: `msdm-lite separate | generate | accompany | train | evaluate | data | models | results`.

One line of error and exit code 2 on bad input. Chapter: `book/13-scaling-up.ipynb`.
"""

import sys
from pathlib import Path
from typing import Any, Literal

import tyro

from msdm_lite.cli_make import data, models, results, train
from msdm_lite.errors import InputError
from msdm_lite.terminal import guarded


def separate(file: tyro.conf.Positional[Path], out: Path, model: str = "lite", method: str | None = None,
             steps: int | None = None, samples: int = 1, given: tuple[str, ...] = (), stereo: bool = False,
             churn: float | None = None, corrections: int | None = None, high: float | None = None,
             low: float | None = None, sampler: str | None = None, seed: int = 0, device: str = "auto") -> None:
    """Separate a mix into bass, drums, guitar and piano.

    Args:
        file: the mix: wav, flac, ogg or mp3, any sample rate, any number of channels, 0.1 s or longer.
        out: folder for the stems, mono at 22 050 Hz; it is made if need be. But for gaussian, pigdm and guided, which
            come near, they sum to the mix.
        model: a model that ships with the package, the path of a .safetensors file, or a folder of them, one a stem.
        method: mixture-known (the posterior mean in one evaluation; what models that can do it are asked if nothing is
            said), guided (what models that take the mix in are asked), dirac (what others are asked) or gaussian (the
            paper's), wiener, pigdm, projdiff.
        steps: noise levels to sample at; more is slower. Each method has its own default.
        samples: how many separations are averaged.
        given: stems of this mix that you have already: drums=kick.wav, or a file called drums.wav.
        stereo: keep the stems where they stand between left and right.
        churn: fresh noise added on the way (S_churn); the method's own if not given.
        corrections: how often each noise level is sampled (R); the method's own if not given.
        high: the first noise level; the method's own if not given.
        low: the last noise level; the method's own if not given.
        sampler: euler, heun or dpm-solver; the method's own if not given.
        seed: the same seed gives the same stems.
        device: auto, cpu or cuda.
    """
    from msdm_lite import audio, folders, weights
    from msdm_lite.separation import method_for
    from msdm_lite.separation import separate as run

    settings = {"churn": churn, "corrections": corrections, "high": high, "low": low, "sampler": sampler}
    loaded = weights.load(model, device)
    # Whatever can be wrong is found before the long part
    method_for(loaded, method, bool(given), steps=steps, **settings)
    mix = audio.load(file, loaded.sample_rate, mono=not stereo)
    known = {name: audio.load(path, loaded.sample_rate) for name, path in named_files(given).items()}
    with folders.claimed(out) as folder:
        stems = run(mix, loaded, method, steps, seed, sys.stderr.isatty(), samples, known, stereo, **settings)
        for path in audio.save_stems(folder, stems, loaded.sample_rate, loaded.stems):
            print(path)


def generate(out: Path, model: str = "lite", sketch: str | None = None, seconds: float = 6.0, n: int = 1,
             tempo: float | None = None, metre: int | None = None, method: str = "ode", steps: int | None = None,
             churn: float | None = None, high: float | None = None, low: float | None = None,
             sampler: str | None = None, batch: int | None = None, seed: int = 0, device: str = "auto") -> None:
    """Make bands from noise: for each its stems and their mix.

    Args:
        out: folder; band 1 goes to 01/, with a file for each stem and mix.wav.
        model: a model that ships with the package, the path of a .safetensors file, or a folder of them, one a stem.
        sketch: a model that makes a sketch of each band first, by name or path; without one the prior is alone.
        seconds: length of each.
        n: how many.
        tempo: beats per minute, for a sketch that hears a click (lite-sketch does); that of a training song, another
            for each band, if not given; 0 for no click.
        metre: beats in a bar of that click; four if not given.
        method: ode (no fresh noise on the way) or paper (as published).
        steps: noise levels to sample at; more is slower. Each method has its own default.
        churn: fresh noise added on the way (S_churn); the method's own if not given.
        high: the first noise level; the method's own if not given.
        low: the last noise level; the method's own if not given.
        sampler: euler, heun or dpm-solver; the method's own if not given.
        batch: bands that go through the model together; if not given, one by one on a CPU and 16 on a GPU. It changes
            nothing but the time, and how many are lost where it is stopped.
        seed: the same seed gives the same bands.
        device: auto, cpu or cuda.
    """
    from msdm_lite import folders, generation, weights

    settings: dict[str, Any] = {"churn": churn, "high": high, "low": low, "sampler": sampler}
    loaded = weights.load(model, device)
    sketcher = generation.pair(sketch, loaded)
    with folders.claimed(out) as folder:
        bands = generation.generated(loaded, seconds, n, seed, method, steps, sys.stderr.isatty(), sketcher, tempo,
                                     metre, batch, **settings)
        for number, band in enumerate(bands, 1):  # each is kept before the next is begun
            place = folder / f"{number:02d}"
            generation.save_band(place, band, loaded)
            print(place)


def accompany(files: tyro.conf.Positional[tuple[str, ...]], out: Path, model: str = "lite", sketch: str | None = None,
              method: str | None = None, steps: int | None = None, churn: float | None = None,
              corrections: int | None = None, high: float | None = None, low: float | None = None,
              weight: float | None = None, sampler: str | None = None, seed: int = 0, device: str = "auto") -> None:
    """Add the players that are missing: given some stems of a band, make the others.

    Args:
        files: the stems that are there: drums=kick.wav, or files called bass.wav, drums.flac, ... Any rate; where
            their lengths differ, silence follows the shorter ones.
        out: folder for all stems and their mix; it is made if need be.
        model: a model that ships with the package, the path of a .safetensors file, or a folder of them, one a stem.
        sketch: a model that first sketches what the new players do, by name or path.
        method: stems-known (what models that can do it are asked if nothing is said) or replacement (the paper's).
        steps: noise levels to sample at; more is slower. Each method has its own default.
        churn: fresh noise added on the way (S_churn); the method's own if not given.
        corrections: how often each noise level is sampled (R); the method's own if not given.
        high: the first noise level; the method's own if not given.
        low: the last noise level; the method's own if not given.
        weight: more than 1 exaggerates what the given stems say, at twice the cost; only for stems-known.
        sampler: euler, heun or dpm-solver; the method's own if not given.
        seed: the same seed gives the same players.
        device: auto, cpu or cuda.
    """
    from msdm_lite import folders, generation, weights

    settings = {"churn": churn, "corrections": corrections, "high": high, "low": low, "weight": weight,
                "sampler": sampler}
    loaded = weights.load(model, device)
    generation.method_for(loaded, method, steps=steps, **settings)
    sketcher = generation.pair(sketch, loaded)
    waves = generation.collect(named_files(files), loaded)
    with folders.claimed(out) as folder:
        band = generation.accompany(waves, loaded, seed, method, steps, sys.stderr.isatty(), sketcher, **settings)
        for path in generation.save_band(folder, band, loaded):
            print(path)


def named_files(words: tuple[str, ...]) -> dict[str, Path]:
    """"drums=kick.wav" and "drums.wav" both name the drums.

    Raises:
        InputError: a stem named twice.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or Path(word).exists():
            name, path = Path(word).stem, word
        if name in found:
            raise InputError(f"{name} is given twice: {found[name]} and {path}")
        found[name] = Path(path)
    return found


def evaluate(task: Literal["separate", "generate", "accompany"] = "separate", method: str | None = None,
             model: str = "lite", clips: str | None = None, steps: int | None = None, churn: float | None = None,
             corrections: int | None = None, high: float | None = None, c: float | None = None,
             constrained: int | None = None, weight: float | None = None, samples: int | None = None,
             given: tuple[str, ...] | None = None, sketch: str | None = None, n: int | None = None,
             songs: str | None = None, seconds: float | None = None, whole: bool = False, chunks: bool = False,
             batch: int | None = None, seed: int = 0, device: str = "auto", out: Path | None = None) -> None:
    """Score a method on clips or songs, or the bands that a model makes, and write the result as JSON.

    Args:
        task: separate (SI-SDR improvement), generate or accompany (are all players heard, is there a beat, a pitch,
            do the stems agree better than dealt anew).
        method: separate: mixture-known, dirac, gaussian, wiener, pigdm, projdiff or guided; of songs also mixture
            (nothing is done) and ideal-mask (a ceiling), which ask no model. Others: as for those commands. If not
            given, mixture-known, or what suits the model.
        model: a model that ships with the package, or the path of a .safetensors file.
        clips: band or composed; band if not given, and always of bands that are made.
        steps: noise levels; the method's own number if not given.
        churn: fresh noise added on the way (S_churn); the method's own if not given.
        corrections: how often each noise level is sampled (R); the method's own if not given.
        high: the first noise level; the method's own if not given.
        c: gaussian: the factor in gamma = c sigma.
        constrained: dirac: the stem that is the mixture minus the others, by number from 0.
        weight: guided: 1 is the model that is told the mixture, 0 the one that is not, more exaggerates.
        samples: separate: how many separations are averaged.
        given: stems that are given: besides the mixture, none if not named, and the others are scored; to accompany,
            bass and drums.
        sketch: a model that makes sketches first, for generate and accompany.
        n: how many bands are made, 24 if not given; how many songs are separated, all if not given.
        songs: in place of clips, test songs: band, composed, all, or a folder of stems such as Slakh2100.
        seconds: of each song, from its middle; 12 if not given.
        whole: songs from beginning to end.
        chunks: separate songs in segments that know nothing of each other, as the paper does.
        batch: songs that go through the model together, where all are cut to one length; if not given, one by one on
            a CPU and 62 on a GPU. It changes nothing but the time.
        seed: of the noise.
        device: auto, cpu or cuda.
        out: the JSON file; printed only if not given.
    """
    from msdm_lite import evaluate as ev
    from msdm_lite import folders, judge, recorded
    from msdm_lite.baselines import BASELINES

    chosen = {"churn": churn, "corrections": corrections, "high": high, "c": c, "constrained": constrained,
              "weight": weight, "samples": samples}
    chosen = {key: value for key, value in chosen.items() if value is not None}
    shown = sys.stderr.isatty()
    # What the task does not read is refused; and so is a place that takes no file, before hours of work
    unread = {"--songs": songs and task != "separate", "--clips": clips and (songs is not None or task != "separate"),
              "--model": model != "lite" and method in BASELINES, "--sketch": sketch and task == "separate",
              "--n": n is not None and task == "separate" and songs is None,
              "--given": given and (songs is not None or task == "generate"),
              "--seconds": seconds is not None and (songs is None or whole), "--whole": whole and songs is None,
              "--chunks": chunks and songs is None,
              "--batch": batch is not None and (songs is None or whole or chunks or method in BASELINES)}
    if useless := [flag for flag, there in unread.items() if there]:
        raise InputError(f"{useless[0]} has no use here: {task} of {'songs' if songs is not None else 'clips'}"
                         f"{', whole' if whole else ''}")
    if out is not None:
        folders.writable_file(out)
    if songs is not None:
        from msdm_lite.evaluate_songs import evaluate_songs

        length = None if whole else 12.0 if seconds is None else seconds
        made = evaluate_songs(songs, model, method, steps, seed, n, length, chunks, device, shown, batch,
                              **chosen)
        says = "; ".join(f"{kind} {made[kind]['all']['mean']:.2f} dB" for kind in ("published", "active"))
        says += f", n = {made['n']} songs"
    elif task == "separate":
        made = ev.evaluate(method, model, clips or "band", steps, seed, device, shown, given or (), **chosen)
        sure = f" [{made['low']:.2f}, {made['high']:.2f}]" if made["low"] is not None else ""
        says = f"{made['method']}: {made['mean']:.2f} dB{sure}, n = {made['n']}"
    else:
        made = judge.evaluate_bands(task, model, 24 if n is None else n, method, steps, given or ("bass", "drums"),
                                    seed, device, shown, sketch, **chosen)
        says = f"{task}: all stems heard in {100 * made['audible']['all']:.0f} %, n = {made['n']}"
    if out is not None:
        print(recorded.save(made, out))
    print(says)


def main(args: list[str] | None = None) -> int:
    """Run a command line (the process's own if None). Returns the exit code: 0, 2 on bad input, 130 if interrupted."""
    commands = {f.__name__: f for f in (separate, generate, accompany, train, evaluate, data, models, results)}
    words = sys.argv[1:] if args is None else args
    if words and words[0] in commands and not {"-h", "--help"}.intersection(words):
        # A parser of that command alone is much sooner made than those of all eight
        name, *rest = words
        return guarded(lambda: tyro.cli(commands[name], prog=f"msdm-lite {name}", args=rest))
    return guarded(lambda: tyro.extras.subcommand_cli_from_dict(commands, prog="msdm-lite", args=words))


def command() -> None:
    """The installed command `msdm-lite`."""
    sys.exit(main())

