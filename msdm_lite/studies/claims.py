"""The claims of the paper and of a summary of it, each with its outcome here, computed from the recorded results.

A claim says where it was made, which chapter tests it, and how its outcome follows from the recorded results. The
outcomes are *reproduced*, when the interval lies on the claimed side; *not reproduced*, when it lies on the other;
*partly reproduced*, when it lies on the claimed side for only a part of the claim, or when a related measure is unlike
that of real bands; *undecided*, when it includes both sides; *cannot be tested here*, with the reason.
Chapter: `book/10-measuring.ipynb`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from msdm_lite.evaluation import metrics, records
from msdm_lite.studies import published
from msdm_lite.studies.recorded_commands import other_settings

YES, NO, OPEN, NEVER = "reproduced", "not reproduced", "undecided", "cannot be tested here"
PARTLY = "partly reproduced"
MARGIN = 0.5  # dB: a result that is behind by no more counts as equally good
NEAR = 0.1  # fraction of a distance to real music: one that is larger by no more counts as equal
LIKE = 2.0  # multiple of the distance of training songs to test songs: what is farther is unlike music
ABOUT = 1.0  # dB: how near to a published difference counts as the same; a wide interval confirms nothing
# For the claim "generates": share of bands with all stems audible; regularity of the beat over that of real bands
HEARD, BEAT = 0.8, 0.7
Outcome = tuple[str, str]  # the outcome, and the figure or the reason


@dataclass(frozen=True)
class Claim:
    """What is claimed, where, the chapter (file name without suffix) that tests it, and a function of its outcome."""

    statement: str
    where: str
    chapter: str
    outcome: Callable[[], Outcome]


def clips(name: str) -> np.ndarray:
    """Improvement of each clip in a recorded separation, in dB, mean over its stems: (clips,)."""
    return np.nanmean(np.array(list(records.read(name)["clips"].values()), float), 1)


def difference(one: str, other: str) -> tuple[float, float, float]:
    """Advantage of the first result over the second, paired by clip or song: mean and 95 % interval, in dB."""
    a, b = (found.get("clips") or found["songs"] for found in map(records.read, (one, other)))
    both = [name for name in a if name in b]
    return metrics.bootstrap(np.nanmean(np.array([a[n] for n in both], float), 1)
                             - np.nanmean(np.array([b[n] for n in both], float), 1))


def side(mean: float, low: float, high: float, over: float = 0.0, unit: str = " dB", digits: int = 2) -> Outcome:
    """Reproduced if the whole interval lies above `over`, not reproduced if it lies below, else undecided."""
    outcome = YES if low > over else NO if high < over else OPEN
    return outcome, f"{mean:+.{digits}f}{unit} [{low:+.{digits}f}, {high:+.{digits}f}]"


def better(one: str, other: str, over: float = 0.0) -> Callable[[], Outcome]:
    """A claim that the first result is better than the second by more than `over` dB."""
    return lambda: side(*difference(one, other), over)


def comparison(one: str, other: str) -> Callable[[], Outcome]:
    """A question without a published answer, whether one result is better: the sign of the interval answers it."""
    def outcome() -> Outcome:
        mean, low, high = difference(one, other)
        answer = "yes" if low > 0 else "no" if high < 0 else OPEN
        found = records.read(one)
        return answer, f"{side(mean, low, high)[1]} ({found['n']} {'clips' if 'clips' in found else 'songs'})"

    return outcome


def never(reason: str) -> Callable[[], Outcome]:
    """A claim that cannot be tested here."""
    return lambda: (NEVER, reason)


def one_model_does_both() -> Outcome:
    """The model improves on the mixture, and generates bands with all stems audible and a regular beat."""
    songs, bands = records.read("published-band-joint-dirac"), records.read("distance-generate-prior")
    separated, made = songs["active"]["all"], bands["quality"]
    audible, beat = made["heard"], made["beat"]["ratio"] or 0.0
    low, high = made["beat"]["interval"] or (0.0, 0.0)
    words = (f"separates {songs['n']} songs by {separated['mean']:.2f} dB [{separated['low']:.2f}, "
             f"{separated['high']:.2f}]; all four stems are audible in {audible['mean']:.0%} [{audible['low']:.0%}, "
             f"{audible['high']:.0%}] of {bands['n']} bands, and their beat is {beat:.0%} [{low:.0%}, "
             f"{high:.0%}] as regular as that of real bands")
    if separated["low"] <= 0 or audible["mean"] < HEARD:
        return NO, words
    return YES if beat >= BEAT else PARTLY, words


def about_three_decibels() -> Outcome:
    """Reproduced if the whole interval of the joint model's lead is within `ABOUT` of 3 dB, not if it is outside."""
    mean, low, high = difference("published-band-joint-dirac", "published-band-joint-gaussian")
    alone = difference("published-band-independent-dirac", "published-band-independent-gaussian")
    songs = records.read("published-band-joint-dirac")["n"]
    pairs = [published.SEPARATION[model, "dirac", corrected] - published.SEPARATION[model, "gaussian", corrected]
             for model in ("joint", "independent") for corrected in (False, True)]
    how = "".join(f", {said}" for said in [other_settings("published-band-independent-dirac")] if said)
    words = f"{side(mean, low, high)[1]} (joint) and {side(*alone)[1]} (independent{how})"
    verdict = NO if high < 3 - ABOUT or low > 3 + ABOUT else OPEN if max(high - 3, 3 - low) > ABOUT else YES
    return verdict, (
        f"{words}, {songs} songs, without correction steps; the paper's own table says {pairs[0]:.2f} and with them "
        f"{pairs[1]:.2f} (joint), {pairs[2]:.2f} and {pairs[3]:.2f} (independent)")


def on_songs(data: str, model: str, *methods: str) -> list[str]:
    """Names of the recorded separations of all test songs by a prior, one for each method, at equal settings.

    The settings are the paper's if all methods have such a record, else those with fewer noise levels. The list is
    empty if a method lacks that record too. `data` is band or composed, `model` joint or independent.
    """
    alone = "" if model == "joint" else f"{model}-"
    for start in (f"published-{data}-{model}-", f"songs-{data}-{alone}"):
        names = [f"{start}{method}" for method in methods]
        if all(map(records.exists, names)):
            return names
    return []


def on_all_music(model: str, one: str, other: str) -> Callable[[], Outcome]:
    """A claim that one method separates better than another with the same prior, on all test songs and on the clips.

    Songs by the program decide the outcome. It is "partly reproduced" if songs by people or the clips disagree.
    If these songs were sampled with fewer noise levels than in the paper, results with more levels decide first.
    """
    def outcome() -> Outcome:
        pairs = {f"songs by {who}": on_songs(data, model, one, other)
                 for data, who in (("band", "the program"), ("composed", "people"))}
        pairs["clips"] = [f"published-{model}-{method}" for method in (one, other)]
        found = []
        for where, names in pairs.items():
            if names:
                verdict, words = side(*difference(*names))
                record = records.read(names[0])
                levels = record["settings"]["steps"]
                how = "".join(f", {said}" for said in dict.fromkeys(map(other_settings, names)) if said)
                found.append((levels, verdict, f"{words} ({record['n']} {where}, {levels} levels{how})"))
        found.sort(key=lambda one: -one[0])  # most levels first; equal ones keep the order above
        first = found[0][1]
        agreed = all(verdict == first for _, verdict, _ in found)
        return PARTLY if first == YES and not agreed else first, "; ".join(words for *_, words in found)

    return outcome


def independent_against_joint(method: str) -> Callable[[], Outcome]:
    """Independent models against a joint one as large as each (as in the paper), and one of equal training cost."""
    def outcome() -> Outcome:
        verdict, words = better(f"songs-band-independent-{method}", f"songs-band-small-{method}")()
        mean, low, high = difference(f"equal-minutes-{method}", f"separation-independent-{method}")
        who = "leads by" if low > 0 else "is behind by" if high < 0 else "is about as good:"
        songs, few = (records.read(f"{name}-{method}")["n"] for name in ("songs-band-small", "equal-minutes"))
        return verdict, (f"{words} ({songs} songs), each as large and trained as long as the joint one, as in the "
                         f"paper; a joint one that cost as much as all four together {who} "
                         f"{side(mean, low, high)[1]} ({few} clips)")

    return outcome


def keeps_up_with_supervised() -> Outcome:
    """Dirac with correction steps is at most `MARGIN` dB behind the same network trained to separate."""
    mean, low, high = difference("published-band-joint-dirac-corrected", "songs-band-supervised")
    songs = records.read("songs-band-supervised")["n"]
    words = f"Dirac, corrected: {side(mean, low, high)[1]} ({songs} songs)"
    best = difference("songs-band-mixture-known", "songs-band-supervised")
    verdict = YES if low > -MARGIN else NO if high < -MARGIN else OPEN
    return verdict, f"{words}; one network evaluation of the joint model, mixture-constrained noise: {side(*best)[1]}"


def generated() -> tuple[dict, str]:
    """Agreement between the stems of generated bands and between those of real ones; and the number of bands."""
    result = records.read("distance-generate-prior")
    return result["quality"], f"{result['n']} bands"


def accompanied() -> tuple[dict, str]:
    """The same for crops in which guitar and piano are generated; and the number of crops."""
    result = records.read("distance-accompany")
    found = result["subsets"]["guitar, piano"]
    return {kind: {"difference": found[kind], "made": found["made"][kind], "real": found["real"][kind]}
            for kind in found["made"]}, f"{result['n']} crops, guitar and piano generated"


def coheres(read: Callable[[], tuple[dict, str]]) -> Callable[[], Outcome]:
    """A claim that generated stems agree in onsets and in pitch classes better than shuffled stems do.

    More agreement than in real bands counts as partly reproduced: stems that swell together agree in all onsets.
    """
    def outcome() -> Outcome:
        found, what = read()
        verdicts, words = set(), []
        for kind, title in (("onsets", "onsets"), ("chroma", "pitch classes")):
            gain, made, real = (found[kind][which] for which in ("difference", "made", "real"))
            verdict, said = side(gain["mean"], gain["low"], gain["high"], unit="", digits=3)
            verdicts.add(PARTLY if verdict == YES and made["low"] > real["high"] else verdict)
            words.append(f"{title} {said} over shuffled stems ({made['mean']:.2f}; real bands {real['mean']:.2f})")
        sure = verdicts.pop() if len(verdicts) == 1 else PARTLY if verdicts & {YES, PARTLY} else OPEN
        return sure, f"{'; '.join(words)}; {what}"

    return outcome


def nearer_than_mismatched_stems() -> Outcome:
    """Sub-FAD of mixes with generated stems is smaller than with real stems of another song (mismatched stems).

    For each choice of stems the interval of the difference decides, if it excludes zero.
    """
    result = records.read("distance-accompany")
    found = result["subsets"]
    sure = {name: one["behind"] / (1.96 * one["errors"]["behind"]) for name, one in found.items()}
    ahead, after = (sum(sign * far < -1 for far in sure.values()) for sign in (1, -1))
    made, mismatched = (sorted(one[which] for one in found.values()) for which in ("fad", "mismatched"))
    words = (f"nearer to real mixes than mismatched stems are for {ahead} of {len(found)} choices of stems, farther in "
             f"{after}, by 95 % intervals; sub-FAD (musicnn) of {result['n']} crops {made[0]:.1f} to {made[-1]:.1f}, "
             f"of mismatched stems {mismatched[0]:.1f} to {mismatched[-1]:.1f}")
    most = PARTLY if 2 * ahead > len(found) else NO if 2 * after > len(found) else OPEN
    return YES if ahead == len(found) else most, words


def as_near_as_a_model_of_mixes() -> Outcome:
    """The joint model's FAD is at most `NEAR` larger than that of a model trained on mixes alone.

    Partly reproduced if its mixes are unlike music even so: more than `LIKE` times as far as training songs.
    """
    found = records.read("mixes")
    joint, mixes = (found["arms"][which]["made"] for which in ("joint", "mixes"))
    behind = joint["fad"] - mixes["fad"]
    half = 1.96 * float(np.hypot(joint["error"], mixes["error"]))
    margin = NEAR * mixes["fad"]
    far = found["arms"]["joint"]["train"]["fad"]
    near = YES if joint["fad"] <= LIKE * far else PARTLY
    verdict = near if behind + half < margin else NO if behind - half > margin else OPEN
    return verdict, (f"FAD (musicnn) of {found['n']} mixes: joint {joint['fad']:.1f}, mixes alone {mixes['fad']:.1f}, "
                     f"apart by {behind:+.1f} [{behind - half:+.1f}, {behind + half:+.1f}], after "
                     f"{found['settings']['steps']} steps each; training songs are at {far:.1f}")


def context_is_learned() -> Outcome:
    """The true other stems reduce the denoising error in most pairs of stem and noise level."""
    result = records.read("context-lite")
    rows = result["rows"]
    best = max(rows, key=lambda row: row["low"])
    sure = sum(row["low"] > 0 for row in rows)
    return YES if sure > len(rows) / 2 else NO, (
        f"in {sure} of {len(rows)} pairs of stem and noise level; most for the {best['stem']} at {best['sigma']:g}: "
        f"{best['saved']:.1%} of its error [{best['low']:.1%}, {best['high']:.1%}] ({result['n']} clips)")


PAPER, CARD = "paper", "summary"
CLAIMS = [
    Claim("one model generates and separates", f"{PAPER}, abstract", "06-total-generation", one_model_does_both),
    Claim("the joint model learns context: what a stem does depends on the others", f"{PAPER}, section 3",
          "09-does-context-matter", context_is_learned),
    *(Claim(f"Dirac separates better than Gaussian, {title} correction steps ({model})", f"{PAPER}, table 1",
            "07-separation", on_all_music(model, f"dirac{rounds}", f"gaussian{rounds}"))
      for model in ("joint", "independent") for title, rounds in (("without", ""), ("with", "-corrected"))),
    Claim("Dirac is about 3 dB better than Gaussian", CARD, "07-separation", about_three_decibels),
    *(Claim(f"correction steps improve {method.title()} ({model})", f"{PAPER}, table 1", "07-separation",
            on_all_music(model, f"{method}-corrected", method))
      for model in ("joint", "independent") for method in ("dirac", "gaussian")),
    Claim("independent models separate better than the joint one (Dirac)", f"{PAPER}, table 1",
          "09-does-context-matter", independent_against_joint("dirac")),
    Claim("independent models separate better than the joint one (Gaussian)", f"{PAPER}, table 1",
          "09-does-context-matter", independent_against_joint("gaussian")),
    Claim("a prior separates as well as a supervised model", f"{PAPER}, table 1", "10-measuring",
          keeps_up_with_supervised),
    Claim("asked, not claimed: is Dirac better than the same network given the mix (classifier-free guidance)?",
          CARD, "11-beyond-the-paper",
          comparison("songs-band-guided-dirac", "songs-band-guided")),
    Claim("generated stems belong together", f"{PAPER}, listening test", "06-total-generation",
          coheres(generated)),
    Claim("added stems follow the given ones", f"{PAPER}, section 5", "08-imputation", coheres(accompanied)),
    Claim("mixes with added stems are near real ones (sub-FAD {})".format(
        "; ".join(f"{stems}: {far:.2f}" for stems, far in published.SUB_FAD.items())), f"{PAPER}, section 5",
          "08-imputation", nearer_than_mismatched_stems),
    Claim("the joint model's mixes are as good as those of a model of mixes (FAD {} and {})"
          .format(*published.FAD.values()), f"{PAPER}, section 5", "10-measuring",
          as_near_as_a_model_of_mixes),
    Claim("listeners prefer its quality ({0[0]} and {1[0]} of 10) and coherence ({0[1]} and {1[1]}) to a model of mixes"
          .format(*published.LISTENING.values()), f"{PAPER}, listening test",
          "06-total-generation", never("it takes listeners")),
    Claim("the first single model of both tasks", f"{PAPER}, abstract", "06-total-generation",
          never("a matter of history")),
]


def rows() -> list[list[str]]:
    """The table of claims: statement, where it was made, link to the chapter that tests it, outcome, figure."""
    found = []
    for claim in CLAIMS:
        outcome, words = claim.outcome()
        figure = words.replace("; ", ";<br>")  # one line for each kind of music
        link = f"[{claim.chapter[:2]}]({claim.chapter}.ipynb)"
        found.append([claim.statement, claim.where, link, outcome, figure])
    return found
