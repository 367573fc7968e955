"""Generated bands compared with real ones: audible stems, beat, pitch, and agreement between stems.

The measures are those of `msdm_lite.evaluation.coherence`. Every mean has an interval, by bootstrap over bands.
Agreement between stems is measured on the bands as they were generated, and on the same stems shuffled among the bands.
Chapter: `book/06-total-generation.ipynb`.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from msdm_lite.data import example_clips
from msdm_lite.errors import InputError
from msdm_lite.evaluation import coherence, metrics, records, separation_quality
from msdm_lite.inference import accompaniment, cascade, generation
from msdm_lite.models import weights
from msdm_lite.utils import plugins, provenance


def band_measures(bands: Tensor, names: Sequence[str], tick: Callable[[], object] = lambda: None) -> dict[str,
                                                                                                          np.ndarray]:
    """The measures of each band (n, S, T): audible (n, S); beat, pitch, onsets and chroma (n,), NaN where undefined.

    `tick` is called after each band.
    """
    found: dict[str, list] = {"audible": [], "beat": [], "pitch": []}
    for band in bands:
        audible = coherence.audible(band)
        pitches = [coherence.pitch_salience(stem) for stem, name, there in zip(band, names, audible, strict=True)
                   if there and name not in coherence.UNPITCHED]
        found["audible"].append(audible.numpy())
        found["beat"].append(coherence.beat_salience(band.sum(0)))
        found["pitch"].append(float(np.mean(pitches)) if pitches else float("nan"))
        tick()
    return {name: np.array(values) for name, values in found.items()} | agreements(bands, names)


def agreements(bands: Tensor, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Agreement of the stems of each band (n, S, T) in onsets and in pitch classes: (n,) each."""
    return {"onsets": np.array([coherence.onset_agreement(band) for band in bands]),
            "chroma": np.array([coherence.chroma_agreement(band, names) for band in bands])}


def _mean(values: np.ndarray) -> dict[str, float] | None:
    """Mean and interval; None if the measure is defined for fewer than eight bands."""
    if np.isfinite(values).sum() < 8:
        return None
    return dict(zip(("mean", "low", "high"), metrics.bootstrap(values), strict=True))


def _ratio(own: np.ndarray, other: np.ndarray, draws: int = 10000) -> tuple[float, list[float]]:
    """Ratio of two means, and its 95 % interval by bootstrap of both; NaN is skipped."""
    rng, both = np.random.default_rng(0), [values[np.isfinite(values)] for values in (own, other)]
    means = [rng.choice(values, (draws, len(values))).mean(1) for values in both]
    return (float(both[0].mean() / both[1].mean()),
            [float(end) for end in np.quantile(means[0] / means[1], [0.025, 0.975])])


def compare_bands(made: Tensor, real: Tensor, names: Sequence[str], seed: int = 0,
                  tick: Callable[[], object] = lambda: None,
                  given: Sequence[str] = ()) -> dict:
    """Compare generated bands (n, S, T) with real ones (m, S, T).

    If some stems were given, the generated stems of a band are shuffled together, against the given stems of another
    band: this measures whether they follow the given ones.

    Returns a dictionary:

    - `audible`: the share of bands in which each stem is audible, and in which all are; `heard`: the latter with its
      interval;
    - `beat`, `pitch`: mean of the generated bands, mean of the real ones, their ratio, and its `interval`;
    - `onsets`, `chroma`: mean of the generated bands, of the same bands shuffled, of the real ones, and of the
      difference to the shuffled ones band by band: above 0 the stems of a band belong together.

    Raises:
        InputError: there are fewer than eight bands of either kind.
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


def evaluate_bands(model: str = "lite", n: int = 24, *, given: Sequence[str] = (), seed: int = 0, on: str = "auto",
                   progress: bool = True, sketch: str | None = None, **settings: Any) -> dict:
    """The record of `compare_bands` for bands that a model generates from noise, or given stems of the shipped clips.

    Args:
        n: number of bands; of accompaniments at most one per clip.
        given: names of the given stems; if none, whole bands are generated.
        on: the device, by name.
        sketch: a model that first generates a sketch (a coarse spectrogram), which the other then decodes.
        settings: method, steps, and any other of `generate` or `accompany`.

    Raises:
        InputError: the model has other stems than the clips; n is below eight or, of accompaniments, above the number
            of clips; and as `generate` or `accompany`.
    """
    task = "accompany" if given else "generate"
    method, steps = settings.pop("method", None), settings.pop("steps", None)
    clips = example_clips.clips("band")
    if n < 8 or (given and n > len(clips)):
        raise InputError(f"{n} bands: eight are the least, and of accompaniments {len(clips)} the most")
    loaded = weights.load(model, on)
    separation_quality.require_corpus_stems(loaded)
    sketcher = cascade.load_sketcher(sketch, loaded)
    numbers = {name: loaded.stem_index(name) for name in given}
    begun, origin = time.perf_counter(), provenance.origin(__name__)
    real = torch.stack([example_clips.clip(entry["name"]) for entry in clips])
    with tqdm(total=3 * n + len(real), desc=task, unit="band", disable=not progress) as bar:
        made = []
        for i in range(n):
            if given:
                stems = {name: real[i, number] for name, number in numbers.items()}
                band = accompaniment.accompany(stems, loaded, seed=seed + i, method=method, steps=steps,
                                               sketcher=sketcher, **settings)
            else:
                band = generation.generate(loaded, real.shape[-1] / loaded.sample_rate, 1, seed + i,
                                           method=method or "ode", steps=steps, sketcher=sketcher, **settings)[0]
            made.append(band)
            bar.update()
        found = compare_bands(torch.stack(made), real, loaded.stems, seed, bar.update, given)
    chosen = {"method": method, "steps": steps, "sketch": sketch} | settings
    command = provenance.command_line("msdm-lite", *plugins.flags(), "evaluate", task=task, model=model, n=n, seed=seed,
                                      **chosen, given=given)
    return {"what": "made bands beside real ones: measures of msdm_lite.evaluation.coherence", "task": task,
            "model": str(model),
            "settings": chosen, "given": list(given), "n": n, "real": len(real),
            "data": "shipped band clips", "interval": "95 % percentile bootstrap over bands", **found,
            "seed": seed, **records.circumstances(loaded, begun, sketcher, records.SLIGHT, origin=origin),
            "command": command}
