"""The command `msdm-lite evaluate`. Chapter: `book/10-measuring.ipynb`."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from msdm_lite.cli import options
from msdm_lite.errors import InputError


def evaluate(task: Literal["separate", "generate", "accompany"] = "separate",
             method: Annotated[str | None, options.optional("NAME", "what the model was trained for")] = None,
             model: options.Model = "lite",
             clips: Annotated[str | None, options.one_of("band", "composed", otherwise="band")] = None,
             steps: options.Steps = None, churn: options.Setting = None, corrections: options.Corrections = None,
             sigma_max: options.Setting = None, c: options.Setting = None,
             constrained_stem: Annotated[int | None, options.optional("STEM", "0")] = None,
             weight: options.Setting = None,
             samples: Annotated[int | None, options.optional("N", "1")] = None,
             given: Annotated[tuple[str, ...] | None, options.optional("STEM", "none; accompany: bass drums")] = None,
             sketch: options.Sketcher = None,
             n: Annotated[int | None, options.optional("N", "all songs; 24 bands")] = None,
             songs: Annotated[str | None, options.optional("band|composed|all|FOLDER", "the clips")] = None,
             stems: Annotated[tuple[str, ...], options.optional("STEM", "those of the model")] = (),
             seconds: Annotated[float | None, options.optional("SECONDS", "12")] = None, whole: bool = False,
             chunks: bool = False,
             batch: Annotated[int | None, options.optional("N", "1 on a CPU, 62 on a GPU; of segments 1")] = None,
             seed: options.Seed = 0, device: options.Device = "auto",
             out: Annotated[Path | None, options.optional("FILE", "print the summary only")] = None,
             overwrite: bool = False) -> None:
    """Score a method on clips, on songs or on generated bands, and write the result as JSON.

    Args:
        task: separate measures SI-SDR improvement in dB; generate and accompany measure how many stems are audible,
            how regular the beat and how clear the pitch is, and whether the stems of a band agree better than shuffled
            ones.
        method: a method of the task (see `msdm-lite methods`); of songs also mixture (no separation) and ideal-mask
            (an upper bound), which need no model.
        model: a model that ships (see `msdm-lite models`), a .safetensors file, a .ckpt file of the official code, or
            a folder of such files, one a stem.
        clips: which of the shipped clips to score on.
        steps: number of noise levels.
        churn: S_churn of EDM, the noise added while sampling; 0 is an ODE.
        corrections: R, how often each noise level is sampled.
        sigma_max: the first noise level.
        c: gaussian: the factor in gamma = c sigma.
        constrained_stem: dirac: the stem that is the mixture minus the others, by number from 0.
        weight: guided: guidance weight; 0 is the unconditional model, 1 the conditional one, more extrapolates.
        samples: separate: number of separations that are averaged.
        given: stems that are given beside the mixture (the others are scored), or to accompany.
        sketch: generate, accompany: a model that first generates coarse spectrograms, which the other decodes.
        n: number of songs, in order of name, or of bands.
        songs: score on test songs in place of clips: of the corpus, or a folder of the model's stems such as Slakh2100.
        stems: of songs, mixture and ideal-mask: the stems in the folder, by the names of their files.
        seconds: excerpt of each song, from its middle.
        whole: score whole songs.
        chunks: separate songs in independent segments, as the paper does; a song shorter than one is left out.
        batch: songs of one length, or with --chunks segments of a song, that go through the model together; it changes
            nothing but time and memory.
        seed: seed of the noise.
        device: where to compute.
        out: the JSON file to write. Of songs, the scores of each are kept in a folder beside it until it is there, so
            that the same command goes on where it was stopped.
        overwrite: write over a file that is no record.
    """
    from msdm_lite.evaluation import band_quality, records, separation_quality
    from msdm_lite.evaluation.separation_quality import BASELINES
    from msdm_lite.utils import files as utils_files
    from msdm_lite.utils import manifest

    chosen: dict[str, Any] = {"steps": steps, "churn": churn, "corrections": corrections, "sigma_max": sigma_max,
                              "c": c, "constrained_stem": constrained_stem, "weight": weight, "samples": samples}
    chosen = {key: value for key, value in chosen.items() if value is not None}
    shown = sys.stderr.isatty()
    # Options that the task does not use, and paths that cannot be written to, are refused before the work
    ignored_settings = {"--songs": songs and task != "separate",
                        "--clips": clips and (songs is not None or task != "separate"),
                        "--model": model != "lite" and method in BASELINES, "--sketch": sketch and task == "separate",
                        "--n": n is not None and task == "separate" and songs is None,
                        "--given": given and (songs is not None or task == "generate"),
                        "--stems": stems and (songs is None or method not in BASELINES),
                        "--seconds": seconds is not None and (songs is None or whole),
                        "--whole": whole and songs is None,
                        "--chunks": chunks and songs is None,
                        "--batch": batch is not None and (songs is None or (whole and not chunks)
                                                           or method in BASELINES)}
    if useless := [flag for flag, there in ignored_settings.items() if there]:
        raise InputError(f"{useless[0]} has no use here: {task} of {'songs' if songs is not None else 'clips'}"
                         f"{', whole' if whole else ''}")
    if out is not None:
        manifest.require_record(utils_files.writable_file(out), overwrite)
    if songs is not None:
        from msdm_lite.evaluation.separation_quality import Songs, evaluate_songs

        length = None if whole else 12.0 if seconds is None else seconds
        with contextlib.ExitStack() as stack:
            if out is not None:
                folder = stack.enter_context(utils_files.claimed(records.PartialResults.folder_of(out), out))
            made = evaluate_songs(Songs(songs, n, length, chunks, batch, stems, out), model, method, seed=seed,
                                  on=device, progress=shown, **chosen)
            if out is not None:
                records.save(made, out)
                records.remove_parts(folder)
        says = "; ".join(f"{title} {made[kind]['all']['mean']:.2f} dB" for title, kind in
                         (("as published", "per_window"), ("active stems", "active")))
        says += f", n = {made['n']} songs" + f", {len(made['left_out'])} left out" * bool(made["left_out"])
    elif task == "separate":
        made = separation_quality.evaluate_clips(method, model, clips or "band", seed=seed, on=device,
                                                 progress=shown, given=given or (), **chosen)
        sure = f" [{made['low']:.2f}, {made['high']:.2f}]" if made["low"] is not None else ""
        says = f"{made['method']}: {made['mean']:.2f} dB{sure}, n = {made['n']}"
    else:
        known = given or ("bass", "drums") if task == "accompany" else ()
        made = band_quality.evaluate_bands(model, 24 if n is None else n, given=known, seed=seed, on=device,
                                           progress=shown, sketch=sketch, method=method, **chosen)
        says = f"{task}: all stems audible in {100 * made['audible']['all']:.0f} %, n = {made['n']}"
    if out is not None:
        print(out if songs is not None else records.save(made, out))
    print(says)
