"""The command of each recorded result, without its `--out`. `msdm_lite.studies.results` runs them.

Those of results "as published" have the settings of `msdm_lite.studies.published.SETTINGS`. Chapter:
`book/10-measuring.ipynb`.
"""

import shlex
from itertools import pairwise

from msdm_lite.evaluation import records
from msdm_lite.studies import published

SEPARATE = "msdm-lite evaluate --method"
ONE = "--model lite --clips band --steps 20 --seed 0 --churn 5"  # one sample of the posterior
SAMPLED = "--clips band --steps 50 --seed 0 --churn 10 --corrections 1"
PRIOR = "--steps 50 --churn 10 --corrections 1"  # the same settings, on songs
CORRECTED, TWICE = (prior.replace("--corrections 1", "--corrections 2") for prior in (SAMPLED, PRIOR))
SONGS = "msdm-lite evaluate --songs"
DISTANCE = "python -m msdm_lite.studies distance --task"
LENGTHS = (3, 6, 12, 30, 60, 120)  # seconds
MODELS = {"joint": "lite", "independent": "lite-independent"}
ROUNDS = (("", False), ("-corrected", True))  # the end of a name, and whether there are correction steps


def _as_published(which: str, method: str, corrected: bool) -> str:
    """The options of a method as published, for a joint model or independent ones."""
    found = published.SETTINGS[which, method]
    return f"--steps {found.steps} --churn {found.churn:g} --corrections {found.corrections if corrected else 1}"


COMMANDS = {
    "oracle-convergence": "python -m msdm_lite.studies oracle-convergence --count 10000",
    "context-lite": "python -m msdm_lite.studies context --model lite --clips 24 --seed 0",
    "separation-mixture-known": f"{SEPARATE} mixture-constrained --model lite --clips band --steps 1 --seed 0",
    "separation-dirac": f"{SEPARATE} dirac --model lite {SAMPLED}",
    "separation-gaussian": f"{SEPARATE} gaussian --model lite {SAMPLED}",
    "separation-sample": f"{SEPARATE} mixture-constrained {ONE}",
    "separation-mean-of-8": f"{SEPARATE} mixture-constrained {ONE} --samples 8",
    "separation-wiener": f"{SEPARATE} wiener --model lite --clips band --steps 50 --seed 0",
    "separation-wiener-mean": f"{SEPARATE} wiener --model lite --clips band --steps 20 --seed 0 --samples 3",
    "separation-projdiff": f"{SEPARATE} projdiff --model lite --clips band --steps 30 --seed 0",
    "separation-pigdm": f"{SEPARATE} pigdm --model lite --clips band --steps 50 --seed 0 --churn 10",
    "separation-drums-given": f"{SEPARATE} mixture-constrained --model lite --clips band --steps 1 --seed 0 "
                              "--given drums",
    "separation-dirac-corrected": f"{SEPARATE} dirac --model lite {CORRECTED}",
    "separation-gaussian-corrected": f"{SEPARATE} gaussian --model lite {CORRECTED}",
    "separation-independent-dirac": f"{SEPARATE} dirac --model lite-independent {SAMPLED}",
    "separation-independent-gaussian": f"{SEPARATE} gaussian --model lite-independent {SAMPLED}",
    "separation-small-dirac": f"{SEPARATE} dirac --model lite-small {SAMPLED}",
    "separation-small-gaussian": f"{SEPARATE} gaussian --model lite-small {SAMPLED}",
    "separation-supervised": f"{SEPARATE} mixture-constrained --model lite-supervised --clips band --steps 1 --seed 0",
    "separation-guided": f"{SEPARATE} guided --model lite-guided --clips band --steps 20 --seed 0",
    "separation-guided-strongly": f"{SEPARATE} guided --model lite-guided --clips band --steps 20 --seed 0 --weight 2",
    "separation-guided-dirac": f"{SEPARATE} dirac --model lite-guided {SAMPLED}",
    "distance-generate": f"{DISTANCE} generate --model lite --sketch lite-sketch --n 300 --seed 0",
    "distance-generate-prior": f"{DISTANCE} generate --model lite --n 300 --seed 0",
    "distance-paint": f"{DISTANCE} decode --model lite --n 300 --seed 0",
    "ablations": "python -m msdm_lite.studies sampling-ablations --model lite --clips band",
    "distance-accompany": f"{DISTANCE} accompany --model lite --n 300 --seconds 3 --seed 0",
    "separation-tiny": f"{SEPARATE} mixture-constrained --model tiny --clips band --steps 1 --seed 0",
    "separation-tiny-wiener": f"{SEPARATE} wiener --model tiny --clips band --steps 50 --seed 0",
    "separation-tiny-wave": f"{SEPARATE} wiener --model tiny-wave --clips band --steps 50 --seed 0",
    **{f"songs-{data}-{title}": f"{SONGS} {data} --seed 0 --seconds 12 --method {method}"
       for data in ("band", "composed")
       for title, method in (("mixture-known", "mixture-constrained --model lite --steps 1"),
                             ("supervised", "mixture-constrained --model lite-supervised --steps 1"),
                             ("sample", "mixture-constrained --model lite --steps 20 --churn 5"),
                             ("mean-of-8", "mixture-constrained --model lite --steps 20 --churn 5 --samples 8"),
                             ("projdiff", "projdiff --model lite --steps 30"),
                             ("pigdm", "pigdm --model lite --steps 50 --churn 10"),
                             ("wiener", "wiener --model lite --steps 50"),
                             ("dirac", f"dirac --model lite {PRIOR}"),
                             ("gaussian", f"gaussian --model lite {PRIOR}"),
                             ("independent-dirac", f"dirac --model lite-independent {PRIOR}"),
                             ("independent-gaussian", f"gaussian --model lite-independent {PRIOR}"),
                             ("independent-dirac-corrected", f"dirac --model lite-independent {TWICE}"),
                             ("independent-gaussian-corrected", f"gaussian --model lite-independent {TWICE}"),
                             ("guided", "guided --model lite-guided --steps 20"),
                             ("guided-dirac", f"dirac --model lite-guided {PRIOR}"), ("ideal-mask", "ideal-mask"))},
    **{f"songs-band-small-{method}": f"{SONGS} band --seed 0 --seconds 12 --method {method} --model lite-small {PRIOR}"
       for method in ("dirac", "gaussian")},
    **{f"published-{which}-{method}{title}":
       f"{SEPARATE} {method} --model {model} --clips band --seed 0 {_as_published(which, method, corrected)}"
       for which, model in MODELS.items() for method in ("dirac", "gaussian") for title, corrected in ROUNDS},
    **{f"published-{data}-{which}-{method}{title}":
       f"{SONGS} {data} --seed 0 --seconds 12 --method {method} --model {MODELS[which]} "
       f"{_as_published(which, method, corrected)}"
       for data, which in (("band", "joint"), ("composed", "joint"), ("band", "independent"))
       for method in ("dirac", "gaussian") for title, corrected in ROUNDS},
    **{f"length-{model}-{seconds}": f"{SONGS} band --seed 0 --seconds {seconds} --method mixture-constrained "
                                    f"--model {model} --steps 1"
       for model in ("lite", "lite-supervised") for seconds in LENGTHS},
    **{f"domain-{model}": f"python -m msdm_lite.studies domain-shift --model {model} --n 62 --seconds 12"
       for model in ("lite", "lite-supervised")},
    **{f"played-{model}": f"python -m msdm_lite.studies real-recordings --model {model} --seconds 60"
       for model in ("lite", "lite-supervised")},
    "lineup-guided": "python -m msdm_lite.studies guidance-vs-dirac --model lite-guided --n 24 --seed 0",
    "pairs-widening": "python -m msdm_lite.studies training-ablations --preset tiny --data all --steps 750 --seed 0 "
                      "--of widening",
    "mixes": "python -m msdm_lite.studies joint-vs-mixture --steps 5000 --batch 8 --n 300 --seconds 6 --data band "
             "--seed 0",
    "quality-evaluations": "python benchmarks/quality.py --clips 8 --most 50 --model lite --paper",
}
# Recorded with other settings than those of the command, and not computed again yet. No other record may differ
PENDING = ("published-band-independent-dirac", "published-band-independent-dirac-corrected")


def other_settings(name: str) -> str:
    """Where the settings of a record differ from those of its command, such as "churn 20"; empty if nowhere.

    A result without a command has no such settings.
    """
    words = shlex.split(COMMANDS.get(name, ""))
    wanted = {word.removeprefix("--").replace("-", "_"): value for word, value in pairwise(words)
              if word.startswith("--")}
    kept = records.read(name).get("settings", {})
    return ", ".join(f"{key} {value:g}" for key, value in kept.items()
                     if key in wanted and isinstance(value, int | float) and float(wanted[key]) != value)
