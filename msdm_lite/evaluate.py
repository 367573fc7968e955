"""A method scored on the shipped clips, as a result that can be kept on record.

Chapter: `book/10-measuring.ipynb`.
"""

import json
import time
from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from msdm_lite import audio, metrics, recorded, resources, weights
from msdm_lite.audio import STEMS
from msdm_lite.errors import InputError
from msdm_lite.methods import METHODS, named
from msdm_lite.separation import separate, suits


def clips(kind: str = "band") -> list[dict]:
    """The shipped clips of held-out songs: name, song, style, start in seconds.

    Args:
        kind: "band"; "composed" for music written by people; "recording" for music that people play.

    Raises:
        InputError: there is no such kind.
    """
    with open(resources.data("clips", "clips.json")) as file:
        found = [clip for clip in json.load(file)["clips"] if clip["kind"] == kind]
    if not found:
        raise InputError(f"there are no clips of kind {kind!r}: band, composed or recording")
    return found


def clip(name: str) -> Tensor:
    """The stems of a shipped clip, in the order that it names: (4, T) at 22 050 Hz; of a recording (2, T)."""
    return audio.load(resources.data("clips", f"{name}.flac"), mono=False)


def evaluate(method: str | None = None, model: str = "lite", kind: str = "band", steps: int | None = None,
             seed: int = 0, on: str = "auto", progress: bool = True, given: Sequence[str] = (), **settings) -> dict:
    """SI-SDR improvement of a method on the shipped clips, as a result that can be written and made again.

    There is no interval of fewer than eight clips.

    Args:
        method: what suits the model, if None.
        given: stems that the method is given besides the mixture; the others are scored.

    Raises:
        InputError: an unknown method, model, stem or kind of clip, or a model of other stems than the clips'.
    """
    if method:
        named(method)
    if kind == "recording":
        raise InputError("the recordings have two stems, a guitar and the rest: chapter 12 scores them")
    loaded = weights.load(model, on)
    loaded.must_play(STEMS)
    method = method or suits(loaded, bool(given))
    numbers = [loaded.number(name) for name in given]
    begun = time.perf_counter()
    names, gains = [], []
    for entry in tqdm(clips(kind), desc=method, unit="clip", disable=not progress):
        stems = clip(entry["name"])
        told = {name: stems[n] for name, n in zip(given, numbers, strict=True)}
        got = separate(stems.sum(0), loaded, method, steps, seed, given=told, **settings)
        gain = metrics.si_sdr_improvement(got, stems)
        if numbers:  # what was given is no find
            gain[numbers] = torch.nan
        gains.append(gain)
        names.append(entry["name"])
    table = torch.stack(gains)  # (clips, S)
    options = {"steps": METHODS[method].steps if steps is None else steps, "seed": seed, **settings}
    whole = metrics.interval(table.nanmean(1))
    per_stem = {stem: found for stem, column in zip(loaded.stems, table.T, strict=True)
                if (found := metrics.interval(column))["n"]}
    words = recorded.command("msdm-lite", "evaluate", method=method, model=model, clips=kind, **options, given=given)
    return {
        "what": "SI-SDR improvement in dB over the mixture, mean over the stems that sound; one clip a song",
        "method": method, "model": str(model), "settings": options, "given": list(given),
        "data": f"shipped {kind} clips", "n": len(names),
        **{key: whole[key] for key in ("mean", "low", "high")},
        "interval": "95 % percentile bootstrap over songs",
        "stems": per_stem,
        "clips": {name: [round(v, 3) for v in row] for name, row in zip(names, table.tolist(), strict=True)},
        **recorded.circumstances(loaded, begun), "command": words,
    }
