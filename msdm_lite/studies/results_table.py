"""The results in one small table, as the README shows it. Chapter: `book/10-measuring.ipynb`."""

from msdm_lite.evaluation import records
from msdm_lite.studies import published
from msdm_lite.studies.recorded_commands import other_settings


def results_table() -> str:
    """The results in one small table, as the README shows it: Markdown."""
    lines = ["| on held-out songs | |", "|---|---|"]
    for title, name in (("`lite`, mixture-constrained noise, one evaluation", "songs-band-mixture-known"),
                        ("`lite-supervised`, which does nothing else", "songs-band-supervised"),
                        ("`lite` as a prior, Dirac", "published-band-joint-dirac"),
                        ("`lite` as a prior, Gaussian", "published-band-joint-gaussian"),
                        ("`lite-independent`, four models, Dirac", "published-band-independent-dirac")):
        found = records.read(name)
        steps, minutes = found["settings"]["steps"], found["model_record"]["minutes"]
        levels = f", {steps} levels" if steps > 1 else ""
        levels += f", {other}" if (other := other_settings(name)) else ""
        lines.append(f"| {title}{levels} ({minutes:.0f} min of training) | "
                     f"{_decibels(found['active']['all'])} |")
    composed, made = records.read("songs-composed-mixture-known"), records.read("distance-generate")
    n, made, alone = made["n"], made["quality"], records.read("distance-generate-prior")["quality"]
    beats = [f"{one['beat']['ratio']:.0%} [{low:.0%}, {high:.0%}]"
             for one in (made, alone) for low, high in [one["beat"]["interval"]]]
    lines += [f"| `lite`, mixture-constrained noise, {composed['n']} songs that people wrote for games | "
              f"{_decibels(composed['active']['all'])} |",
              "| the paper's Dirac: a model 65 times as large, other music, other scoring | "
              f"{published.SEPARATION['joint', 'dirac', True]:.1f} dB |",
              f"| {n} bands from noise, `lite-sketch` first: all four stems audible | "
              f"{made['heard']['mean']:.0%} [{made['heard']['low']:.0%}, {made['heard']['high']:.0%}] |",
              f"| regularity of their beat relative to real bands (`lite` alone: {beats[1]}) | {beats[0]} |"]
    songs, seconds = found["n"], found["settings"]["seconds"]
    note = (f"SI-SDR improvement over the mix, of {seconds:g} s of each of {songs} songs by the program, if nothing "
            "else is said; 95 % intervals.")
    return "\n".join([*lines, "", note])


def _decibels(found: dict) -> str:
    return f"{found['mean']:.1f} dB [{found['low']:.1f}, {found['high']:.1f}]"
