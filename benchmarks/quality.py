"""Quality against evaluations, for every method on the same clips: `python benchmarks/quality.py`, in `make bench`.

Where the curve bends is where a default belongs. Other than a benchmark of speed, the figures depend on the seed and
not on the machine; `--out` keeps them.
"""

import time
from pathlib import Path

import torch
import tyro
from torch import Tensor

import msdm_lite
from msdm_lite.data import example_clips
from msdm_lite.diffusion.methods import METHODS
from msdm_lite.evaluation import metrics, records
from msdm_lite.utils import provenance

# Method, settings beside `steps`, and how many are averaged
ARMS: dict[str, tuple[str, dict, int]] = {
    "mixture-constrained, churn": ("mixture-constrained", {"churn": 5.0}, 1),
    "mixture-constrained, ODE": ("mixture-constrained", {}, 1),
    "mixture-constrained, Heun": ("mixture-constrained", {"sampler": "heun"}, 1),
    "mixture-constrained, DPM-Solver++": ("mixture-constrained", {"sampler": "dpm-solver"}, 1),
    "mixture-constrained, DPM-Solver++, mean of 8": ("mixture-constrained", {"sampler": "dpm-solver"}, 8),
    "Wiener shares": ("wiener", {}, 1),
    "PiGDM": ("pigdm", {}, 1),
    "ProjDiff": ("projdiff", {}, 1),
    "Dirac": ("dirac", {"corrections": 1}, 1),
    "Gaussian": ("gaussian", {"corrections": 1}, 1),
}
LADDER = (1, 2, 5, 10, 20, 50)
# Fresh noise in each step, as a share of its level, of those that more would blow up with few steps
SHARES = {"dirac": 0.2, "gaussian": 0.2, "pigdm": 0.2}


def score(model, stems: list[Tensor], method: str, steps: int, samples: int, settings: dict) -> Tensor:
    """SI-SDR improvement of each clip, (clips,)."""
    found = [msdm_lite.separate(x.sum(0), model, method, steps=steps, samples=samples, limit=float("inf"), **settings)
             for x in stems]  # without a limit: how bad too few steps are is measured too
    gains = [metrics.si_sdr_improvement(one, x).nanmean() for one, x in zip(found, stems, strict=True)]
    return torch.stack(gains)


def main(out: Path | None = None, clips: int = 8, most: int = 50, paper: bool = False, model: str = "lite") -> None:
    """Print SI-SDR improvement by method and evaluations.

    Args:
        out: also write a JSON file.
        clips: how many of the shipped band clips, the first ones; at least 8.
        most: leave out what takes more evaluations than this.
        paper: measure Dirac and Gaussian at the paper's 300 evaluations too, which takes long.
        model: a shipped name or a path.
    """
    begun, loaded, origin = time.perf_counter(), msdm_lite.load(model), provenance.origin(__file__)
    names = [entry["name"] for entry in example_clips.clips("band")][:clips]
    stems = [example_clips.clip(name) for name in names]
    found: dict = {"what": "SI-SDR improvement in dB against evaluations, mean over the stems that sound",
                   "data": f"the first {len(names)} shipped band clips", "n": len(names), "model": model,
                   "interval": "95 % percentile bootstrap over songs", "seed": 0,
                   "command": f"python benchmarks/quality.py --clips {clips} --most {most} --model {model}"
                              f"{' --paper' if paper else ''} --out {out}", "curves": {}}
    arms = [(arm, *ARMS[arm], number) for arm in ARMS for number in LADDER]
    if paper:
        arms += [(f"{name}, as published", name.lower(), {}, 1, METHODS[name.lower()].nfe)
                 for name in ("Dirac", "Gaussian")]
    print("evaluations  SI-SDR improvement, dB [95 %]  seconds for a second")
    for arm, method, settings, samples, number in arms:
        each = METHODS[method].replace(**settings | {"steps": 2}).nfe / 2 * samples
        steps = round(number / each)
        evaluations = METHODS[method].replace(**settings | {"steps": max(1, steps)}).nfe * samples
        if method in SHARES and "published" not in arm:
            settings = settings | {"churn": SHARES[method] * steps}
        if steps < 1 or (evaluations > most and "published" not in arm):
            continue
        begin = time.perf_counter()
        gains = score(loaded, stems, method, steps, samples, settings)
        pace = (time.perf_counter() - begin) / sum(x.shape[1] / loaded.sample_rate for x in stems)
        mean, low, high = metrics.bootstrap(gains)
        found["curves"].setdefault(arm, []).append({"evaluations": evaluations, "mean": mean, "low": low, "high": high})
        print(f"{arm:40s} {evaluations:4d}  {mean:6.2f} [{low:.2f}, {high:.2f}]  {pace:.3f}", flush=True)
        if out is not None:
            records.save(found | records.circumstances(loaded, begun, origin=origin), out)


if __name__ == "__main__":
    tyro.cli(main)
