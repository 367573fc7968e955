"""Bands that a model made, held beside real ones: are all players heard, is there a beat, a pitch, do they agree?

The measures are those of `msdm_lite.evaluation.coherence`. Every mean has its interval, by bootstrap over bands.
Whether stems belong together is asked twice: of the bands as they were made, and of the same stems shuffled among them.
Chapter: `book/06-total-generation.ipynb`.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from msdm_lite.audio.io import STEMS
from msdm_lite.data import example_clips
from msdm_lite.errors import InputError
from msdm_lite.evaluation import coherence, metrics, records
from msdm_lite.inference import accompaniment, cascade, generation
from msdm_lite.models import weights
from msdm_lite.utils import provenance


def band_measures(bands: Tensor, names: Sequence[str], tick: Callable[[], object] = lambda: None) -> dict[str,
                                                                                                          np.ndarray]:
    """Of bands (n, S, T), for each: audible (n, S); beat, pitch, onsets and chroma (n,), nan where there is none."""
    found: dict[str, list] = {"audible": [], "beat": [], "pitch": []}
    for band in bands:
        heard = coherence.audible(band)
        pitches = [coherence.pitch_salience(stem) for stem, name, there in zip(band, names, heard, strict=True)
                   if there and name in coherence.PITCHED]
        found["audible"].append(heard.numpy())
        found["beat"].append(coherence.beat_salience(band.sum(0)))
        found["pitch"].append(float(np.mean(pitches)) if pitches else float("nan"))
        tick()
    return {name: np.array(values) for name, values in found.items()} | agreements(bands, names)


def agreements(bands: Tensor, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Of bands (n, S, T): how far their stems agree in onsets and in pitch classes, (n,) each."""
    return {"onsets": np.array([coherence.onset_agreement(band) for band in bands]),
            "chroma": np.array([coherence.chroma_agreement(band, names) for band in bands])}


def _mean(values: np.ndarray) -> dict[str, float] | None:
    """Mean and interval; None where fewer than eight bands have the measure."""
    if np.isfinite(values).sum() < 8:
        return None
    return dict(zip(("mean", "low", "high"), metrics.bootstrap(values), strict=True))


def _ratio(own: np.ndarray, other: np.ndarray, draws: int = 10000) -> tuple[float, list[float]]:
    """Ratio of two means, and its 95 % interval by bootstrap of both; nan is skipped."""
    rng, both = np.random.default_rng(0), [values[np.isfinite(values)] for values in (own, other)]
    means = [rng.choice(values, (draws, len(values))).mean(1) for values in both]
    return (float(both[0].mean() / both[1].mean()),
            [float(end) for end in np.quantile(means[0] / means[1], [0.025, 0.975])])


def compare_bands(made: Tensor, real: Tensor, names: Sequence[str], seed: int = 0,
                  tick: Callable[[], object] = lambda: None,
          given: Sequence[str] = ()) -> dict:
    """Made bands (n, S, T) beside real ones (m, S, T).

    Where some stems were given, only the others are shuffled, together: the question is whether they follow.

    What is returned:

    - `audible`, the share of bands in which each stem is heard, and in which all are; `heard`, that with its interval;
    - `beat`, `pitch`: mean of the made, mean of the real, their ratio, and its `interval`;
    - `onsets`, `chroma`: mean of the made, of the same shuffled, and of the difference band by band: above 0 the
      stems of a band belong together.

    Raises:
        InputError: fewer than eight bands of either.
    """
    if min(len(made), len(real)) < 8:
        raise InputError(f"bands are compared by eight or more, not by {min(len(made), len(real))}")
    own, theirs = band_measures(made, names, tick), band_measures(real, names, tick)
    if given:
        new = [n for n, name in enumerate(names) if name not in given]
        mismatched = made.clone()
        mismatched[:, new] = made.roll(1, 0)[:, new]
    else:
        mismatched = coherence.shuffled(made, seed)
    shuffled = agreements(mismatched, names)
    for _ in mismatched:
        tick()
    found: dict = {"audible": dict(zip(names, own["audible"].mean(0).tolist(), strict=True))
                   | {"all": own["audible"].all(1).mean().item()},
                   "heard": _mean(own["audible"].all(1).astype(float))}
    for name in ("beat", "pitch"):
        mine, other = _mean(own[name]), _mean(theirs[name])
        ratio, interval = _ratio(own[name], theirs[name]) if mine and other else (None, None)
        found[name] = {"made": mine, "real": other, "ratio": ratio, "interval": interval}
    for name in ("onsets", "chroma"):
        found[name] = {"made": _mean(own[name]), "shuffled": _mean(shuffled[name]), "real": _mean(theirs[name]),
                       "difference": _mean(own[name] - shuffled[name])}
    return found


def evaluate_bands(task: str = "generate", model: str = "lite", n: int = 24, method: str | None = None,
                   steps: int | None = None, given: Sequence[str] = ("bass", "drums"), seed: int = 0, on: str = "auto",
                   progress: bool = True, sketch: str | None = None, **settings) -> dict:
    """`compare_bands` of bands that a model makes from noise, or around stems of the shipped clips, as a result.

    Args:
        task: "generate" or "accompany".
        n: how many bands; of accompaniments at most one a clip.
        given: for "accompany", the stems that are given.
        sketch: a model that makes sketches first, which the other then decodes.

    Raises:
        InputError: another task, fewer than eight bands, more than there are clips; and what the task itself refuses.
    """
    clips = example_clips.clips("band")
    if task not in ("generate", "accompany"):
        raise InputError(f"bands are made by generate or accompany, not by {task!r}")
    if n < 8 or (task == "accompany" and n > len(clips)):
        raise InputError(f"{n} bands: eight are the least, and of accompaniments {len(clips)} the most")
    loaded = weights.load(model, on)
    loaded.require_stems(STEMS)
    sketcher = cascade.load_sketcher(sketch, loaded)
    numbers = {name: loaded.stem_index(name) for name in given} if task == "accompany" else {}
    begun = time.perf_counter()
    real = torch.stack([example_clips.clip(entry["name"]) for entry in clips])
    with tqdm(total=3 * n + len(real), desc=task, unit="band", disable=not progress) as bar:
        made = []
        for i in range(n):
            if task == "generate":
                band = generation.generate(loaded, real.shape[-1] / loaded.sample_rate, 1, seed + i,
                                           method or "ode", steps, sketcher=sketcher, **settings)[0]
            else:
                stems = {name: real[i, number] for name, number in numbers.items()}
                band = accompaniment.accompany(stems, loaded, seed + i, method, steps, sketcher=sketcher, **settings)
            made.append(band)
            bar.update()
        found = compare_bands(torch.stack(made), real, loaded.stems, seed, bar.update,
                              given if task == "accompany" else ())
    chosen = {"method": method, "steps": steps, "sketch": sketch} | settings
    given = given if task == "accompany" else ()
    command = provenance.command_line("msdm-lite", "evaluate", task=task, model=model, n=n, seed=seed, **chosen,
                                      given=given)
    return {"what": "made bands beside real ones: measures of msdm_lite.evaluation.coherence", "task": task,
            "model": str(model),
            "settings": chosen, "given": list(given), "n": n, "real": len(real),
            "data": "shipped band clips", "interval": "95 % percentile bootstrap over bands", **found,
            "seed": seed, **records.circumstances(loaded, begun, sketcher, records.SLIGHT), "command": command}
