"""The effect of each setting of the Dirac and the Gaussian method.

`python -m msdm_lite.studies sampling-ablations --out FILE` changes one setting at a time. All arms separate the same
clips from the same noise, so that differences are due to the setting. The paper searched the same settings on a part of
its test split (arXiv 2302.02257, appendix). Chapter: `book/07-separation.ipynb`.
"""

from functools import partial
from typing import Any

from tqdm import tqdm

from msdm_lite.data import example_clips
from msdm_lite.diffusion.methods import METHODS, Method
from msdm_lite.evaluation import separation_quality
from msdm_lite.studies.runner import Run, study

GAUSSIAN: Any = METHODS["gaussian"].guidance
BASE = {"dirac": {"steps": 50, "churn": 10.0, "corrections": 1, "constrained_stem": 0},
        "gaussian": {"steps": 50, "churn": 10.0, "corrections": 1}}
SWEEPS: dict[tuple[str, str], list] = {  # (method, setting) -> values; the others stay as in BASE
    ("dirac", "churn"): [0.0, 2.5, 5.0, 10.0, 20.0],
    ("dirac", "corrections"): [1, 2],
    ("dirac", "steps"): [10, 25, 50, 100],
    ("dirac", "sigma_max"): [0.3, 1.0, 3.0, 10.0],
    ("dirac", "constrained_stem"): [0, 1, 2, 3],
    ("gaussian", "c"): [0.35, 0.5, 0.75, GAUSSIAN.c, 1.5, 2.1],
    ("gaussian", "churn"): [0.0, 5.0, 10.0, 20.0],
    ("gaussian", "corrections"): [1, 2],
    ("gaussian", "steps"): [10, 25, 50, 100],
    ("gaussian", "sigma_max"): [0.3, 1.0, 3.0, 10.0],
}


def settings(method: str, name: str, value: float | int) -> dict:
    """All settings of one arm. Churn is a share of the steps, as in the paper, so it grows with their number."""
    found = BASE[method] | {name: value}
    if name == "steps":
        found["churn"] = BASE[method]["churn"] * value / BASE[method]["steps"]
    return found


@study("sampling-ablations", records=("ablations",), measures="each setting of Dirac and of Gaussian")
def main(run: Run, model: str = "lite", clips: str = "band", seed: int = 0) -> dict:
    """Run every arm and write one JSON file. A stopped run resumes with the arms that it has not run.

    An arm whose states diverge has a mean of None and the error in `blew_up`.

    Args:
        model: a shipped name or a path.
        clips: band or composed.
        seed: of the noise, the same for all arms.
    """
    run.load(model)
    arms: dict[str, dict] = {}
    same: dict[Method, dict] = {}  # arms with equal settings, such as those of the base, are run once
    for method, name in tqdm(SWEEPS, unit="setting"):
        for value in SWEEPS[method, name]:
            arm, used = f"{method}, {name} {value:g}", METHODS[method].replace(**settings(method, name, value))
            if used not in same:
                same[used] = run.keep(arm, partial(_arm, method, name, value, model, clips, seed))
            arms[arm] = same[used] | {"setting": name, "value": value}
    return {"what": "SI-SDR improvement in dB with one setting changed at a time, the others as in `base`",
            "data": f"shipped {clips} clips", "interval": "95 % percentile bootstrap over songs", "model": model,
            "n": len(example_clips.clips(clips)), "base": BASE, "seed": seed, "arms": arms}


def _arm(method: str, name: str, value: float | int, model: str, clips: str, seed: int) -> dict:
    chosen = settings(method, name, value) | {"limit": float("inf")}  # how bad it becomes is measured too
    arm = {"method": method, "setting": name, "value": value}
    try:
        found = separation_quality.evaluate_clips(method, model, clips, seed=seed, progress=False, **chosen)
    except FloatingPointError as error:  # divergence is a result too
        return arm | {"mean": None, "low": None, "high": None, "blew_up": str(error)}
    return arm | {key: found[key] for key in ("mean", "low", "high", "n", "stems", "clips")}
