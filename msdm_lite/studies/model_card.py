"""The model card: for each shipped model its purpose, its training runs with their commands, and its results.

Everything except the sentences in PURPOSES and LIMITS is read from the weights, their training records and logs, and
the recorded results, so that the card agrees with them. The parts of a model card are those of Mitchell et al. (arXiv
1810.03993). Model card: `data/weights/README.md`.
"""

import json
import math
from pathlib import Path

from safetensors import safe_open

from msdm_lite.evaluation import records
from msdm_lite.models import weights
from msdm_lite.utils import paths

PURPOSES = {
    "lite": "the joint model of four stems: generates, separates, accompanies; small enough for a laptop",
    "lite-sketch": "generates sketches of a band, which lite decodes into sound",
    "lite-single": "one stem without the others: four of them are the independent models that a joint one is "
                   "compared with",
    "lite-small": "a joint model that cost as much as a single one of the independent models, for comparison",
    "lite-supervised": "the same network trained to separate and nothing else: the reference for a prior",
    "lite-guided": "all stems noisy, the mixture an extra input: for classifier-free guidance",
    "tiny": "small enough to be trained while one waits: for tests and the chapter on training",
    "tiny-wave": "tiny on waveforms: for the comparison of front ends",
    "lite-mix": "one channel, the mixture: the reference for the bands of a joint model",
    "large": "lite at twice the width, for a GPU",
    "base": "waveforms, for a Colab GPU",
    "paper": "waveforms, as large as published",
}
LIMITS = """\
All of them were trained on rendered MIDI (the data card, `../README.md`, says which): instruments of one soundfont,
without singers, effects or a room. {recordings} What is neither bass, drums, guitar nor piano goes to
whichever of these it is most like. Stems are mono at 22 050 Hz: nothing above 11 kHz is in them. They are for
teaching and research. The weights are under the MIT licence, as the code is. Part of the training data is under
GPL 2, the Artistic License, BSD and Creative Commons Attribution: the data card names it."""


def files(name: str) -> list[Path]:
    """Paths of the weights of a shipped model: one file, or one file for each stem."""
    place = paths.data("weights")
    whole = place / f"{name}.safetensors"
    return [whole] if whole.exists() else sorted((place / name).glob("*.safetensors"))


def opened(path: Path) -> tuple[int, dict, dict]:
    """Number of parameters (with buffers), configuration and training record of a model file."""
    with safe_open(path, framework="pt") as file:
        meta = file.metadata()
        count = sum(math.prod(file.get_slice(key).get_shape()) for key in list(file.keys()))
    return count, json.loads(meta["config"]), json.loads(meta.get("record", "{}"))


def stretches(record: dict) -> list[dict]:
    """The training runs of a model, the first one first. Each continues from the weights of the one before."""
    found = [record]
    while "before" in found[-1]:
        found.append(found[-1]["before"])
    return found[::-1]


def row(run: dict, before: dict | None) -> str:
    """A row of the table of runs: the steps and minutes since the run before (None for the first), and the recipe."""
    past_steps, past_minutes = (before["steps"], before["minutes"]) if before else (0, 0.0)
    recipe = run["recipe"]
    shapes = recipe.get("shapes") or [1 - recipe.get("known_share", 0), recipe.get("known_share", 0), 0, 0]
    cells = (f"{run['steps'] - past_steps}", f"{run['minutes'] - past_minutes:.0f}", f"{recipe['batch']}",
             recipe.get("optimizer") or "adamw", f"{recipe['lr']:g}", " / ".join(f"{share:g}" for share in shapes),
             f"{run['songs']} ({run['hours_of_music']:.1f} h)",
             f"{run.get('processor', '')}, {run['device']}, {run['precision']}", f"`{run['commit']}`",
             run.get("narrowed", ""))
    return f"| {' | '.join(cells)} |"


def results(name: str) -> list[str]:
    """Rows of a table: every recorded result that scores this model with a mean and an interval."""
    found = []
    for path in sorted(paths.data("results").glob("*.json")):
        result = records.read(path.stem)
        if result.get("model") == name and {"mean", "n", "command"} <= result.keys() and result.get("low") is not None:
            found.append(f"| {result['method']} | {result['mean']:.2f} [{result['low']:.2f}, {result['high']:.2f}] | "
                         f"{result['n']} | `{result['command']}` |")
    return found


def overview() -> list[str]:
    """A table as lines of Markdown: every shipped model with its size, its training and its purpose."""
    lines = ["| model | parameters | file | trained | for |", "|---|---|---|---|---|"]
    for name in weights.shipped():
        parts = [opened(path) for path in files(name)]
        size = sum(path.stat().st_size for path in files(name))
        minutes = sum(record["minutes"] for _, _, record in parts)
        steps = sum(record["steps"] for _, _, record in parts)
        lines.append(f"| {name} | {sum(count for count, _, _ in parts) / 1e6:.2f} M | {size / 1e6:.1f} MB | "
                     f"{minutes:.0f} min, {steps} steps | {PURPOSES.get(parts[0][1]['preset'], '')} |")
    return lines


def made_by(run: dict, number: int = 1) -> str:
    """The command that repeats a training run with the options of today, with an output folder of its own.

    A run from before the option `--detune` gets `--detune 0`. If `number` is above 1, the run starts from the output of
    the run before it.
    """
    before_detuning = " --detune 0" if "detune" not in run["recipe"] else ""
    preset = run["recipe"].get("preset", "lite")
    here, past = ("runs/" + "-".join([preset, *(run["recipe"].get("stems") or ()), *([str(n)] * (n > 1))])
                  for n in (number, number - 1))
    command = run["command"]
    if number > 1:  # it started from the model that shipped then, the output of the run before it
        command = command.replace(f"--start {run['recipe'].get('start')}", f"--start {past}/{preset}.safetensors")
    return f"{command}{before_detuning} --out {here}"


def section(name: str) -> list[str]:
    """The section of the card about one model, as lines of Markdown."""
    lines = [f"## {name}", ""]
    for path in files(name):
        count, config, record = opened(path)
        runs = stretches(record)
        said = f" ({', '.join(config['stems'])})" if len(files(name)) > 1 else ""
        lines += [f"**Preset** `{config['preset']}`{said}, {count:,} parameters, stems {', '.join(config['stems'])}, "
                  f"{config['sample_rate']} Hz. In all {record['steps']} steps in {record['minutes']:.0f} minutes.", "",
                  "| steps | minutes | batch | optimizer | learning rate | given: nothing / mixture / stems / both | "
                  "songs | machine | commit | before it |", "|---|---|---|---|---|---|---|---|---|---|"]
        lines += [row(run, before) for run, before in zip(runs, [None, *runs], strict=False)]
        lines += ["", "Trained by, one after the other:" if len(runs) > 1 else "Trained by:", "", "```",
                  *(made_by(run, n) for n, run in enumerate(runs, 1)), "```", ""]
    if found := results(name):
        lines += ["| method | SI-SDR improvement, dB [95 %] | songs | command |", "|---|---|---|---|", *found, ""]
    if curves(name):
        lines += [f"![What {name} scored on validation crops during training](../pictures/model-{name}.png)", ""]
    return lines


def on_recordings() -> str:
    """How well `lite` separates real recordings, as text of LIMITS.

    The numbers are from the record of `msdm_lite.studies.real_recordings`. Without that record the text has none.
    """
    if not records.exists("played-lite"):
        return "On recordings they do worse."
    found = records.read("played-lite")["music"]
    ours, theirs = (found[music]["model"]["guitar"] for music in ("by the program", "played"))
    return (f"On recordings they do far worse:\n`lite` finds the guitar {theirs['mean']:.1f} dB better than the mix "
            f"[{theirs['low']:.1f}, {theirs['high']:.1f}] in {theirs['n']} songs, and {ours['mean']:.1f} dB in songs\n"
            "like its training data.")


def curves(name: str) -> list[dict]:
    """The lines with validation scores in the log of a model's last run; none if the log does not ship."""
    path = paths.data_folder() / "weights" / f"{name}.log.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if any(key.startswith("val_") for key in line)]


def draw(name: str, path: Path) -> Path:
    """Plot a model's validation errors by noise level and its SI-SDR improvement to a PNG file. Returns the path."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    log = curves(name)
    steps = [line["step"] for line in log]
    score = "val_si_sdr_improvement"
    kinds = sorted({key.split("_")[1] for line in log for key in line if key.startswith("val_") and key != score})
    scored = any(score in line for line in log)
    figure, axes = plt.subplots(1, len(kinds) + scored, figsize=(3.4 * (len(kinds) + scored), 3), layout="constrained",
                                squeeze=False)
    titles = {"free": "nothing given", "known": "mixture given", "stems": "stems given", "sketch": "sketch given"}
    for axis, kind in zip(axes[0], kinds, strict=False):
        levels = sorted({float(key.split("_")[2]) for line in log for key in line if key.startswith(f"val_{kind}_")})
        for n, level in enumerate(levels):
            key = next(key for line in log for key in line
                       if key.startswith(f"val_{kind}_") and float(key.split("_")[2]) == level)
            axis.plot(steps, [line.get(key, float("nan")) for line in log], label=f"{level:g}",
                      color=plt.cm.viridis(n / max(1, len(levels))))
        axis.set(xlabel="step", title=titles.get(kind, kind), ylabel="squared error; Wiener filter: 1")
        axis.grid(alpha=0.3)
    figure.legend(*axes[0][0].get_legend_handles_labels(), title="noise level", loc="outside right center")
    if scored:
        axes[0][-1].plot(steps, [line.get(score, float("nan")) for line in log], color="black")
        axes[0][-1].set(xlabel="step", title="separation, one evaluation", ylabel="SI-SDR improvement (dB)")
        axes[0][-1].grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)
    return path


def card() -> str:
    """The whole card, as Markdown."""
    lines = ["# Model card", "",
             "Written by `msdm-lite models --card` from the weights, their training records and the recorded results.",
             "", *overview(), "", LIMITS.format(recordings=on_recordings()), ""]
    for name in weights.shipped():
        lines += section(name)
    return "\n".join(lines).rstrip() + "\n"


def write(folder: Path) -> Path:
    """Write the card to `weights/README.md` of a data folder, its figures to `pictures/`. Returns the card's path."""
    for name in weights.shipped():
        if curves(name):
            draw(name, folder / "pictures" / f"model-{name}.png")
    path = folder / "weights" / "README.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(card())
    return path
