import pytest

from msdm_lite.evaluation import records
from msdm_lite.studies import claims
from msdm_lite.utils.paths import data_folder


@pytest.mark.parametrize("interval, outcome", [((1.0, 0.5, 1.5), claims.YES), ((-1.0, -1.5, -0.5), claims.NO),
                                               ((0.1, -0.5, 0.7), claims.OPEN)])
def test_an_interval_decides_or_does_not(interval, outcome):
    said, figure = claims.side(*interval)
    assert said == outcome and figure == "{:+.2f} dB [{:+.2f}, {:+.2f}]".format(*interval)


@pytest.fixture
def recorded(monkeypatch):
    """Results with ten clips each, in which one is always three decibels better than the other."""
    values = {"good": 8.0, "bad": 5.0}

    def result(name):
        extra = {"third": [0.0, 0.0]} if name == "bad" else {}  # only clips that both have are compared
        return {"clips": {f"{i}": [values[name] + i, float("nan")] for i in range(10)} | extra}

    monkeypatch.setattr("msdm_lite.evaluation.records.read", result)


def test_differences_are_taken_clip_by_clip(recorded):
    assert claims.difference("good", "bad") == pytest.approx((3, 3, 3))  # the clips differ by 9 dB, their pairs do not
    assert claims.better("good", "bad")()[0] == claims.YES and claims.better("bad", "good")()[0] == claims.NO
    assert claims.better("good", "bad", over=3.5)()[0] == claims.NO


@pytest.mark.parametrize("band, composed, clips, outcome", [
    (2.0, 1.0, 3.0, claims.YES), (2.0, -1.0, 3.0, claims.PARTLY), (2.0, None, 0.5, claims.YES),
    (None, None, 1.0, claims.YES), (None, None, -1.0, claims.NO), (-2.0, 1.0, 1.0, claims.NO)])
def test_songs_by_the_program_decide_and_the_others_may_disagree(monkeypatch, band, composed, clips, outcome):
    """Songs at the paper's settings if they are on record so, else with fewer levels; none at all may be there."""
    leads = {"published-band-joint": band, "songs-composed": composed, "published-joint": clips}
    there = {f"{where}-{method}": lead * (method == "dirac") for where, lead in leads.items() if lead is not None
             for method in ("dirac", "gaussian")}
    monkeypatch.setattr("msdm_lite.evaluation.records.exists", there.__contains__)
    monkeypatch.setattr("msdm_lite.evaluation.records.read", lambda name: {
        "songs": {f"{i}": [there[name] + i, float("nan")] for i in range(10)}, "n": 10,
        "settings": {"steps": 150 if "published" in name else 50}})
    verdict, words = claims.on_all_music("joint", "dirac", "gaussian")()
    assert verdict == outcome and words.count("dB") == len(there) / 2
    assert ("songs by people, 50 levels" in words) == (composed is not None)


def test_what_was_sampled_as_the_paper_does_decides_before_what_was_not(monkeypatch):
    leads = {"songs-band": -2.0, "published-joint": 1.0}
    there = {f"{where}-{method}": lead * (method == "dirac") for where, lead in leads.items()
             for method in ("dirac", "gaussian")}
    monkeypatch.setattr("msdm_lite.evaluation.records.exists", there.__contains__)
    monkeypatch.setattr("msdm_lite.evaluation.records.read", lambda name: {
        "songs": {f"{i}": [there[name]] for i in range(10)}, "n": 10,
        "settings": {"steps": 150 if "published" in name else 50}})
    verdict, words = claims.on_all_music("joint", "dirac", "gaussian")()
    assert verdict == claims.PARTLY and words.index("clips") < words.index("songs by the program")


def test_no_method_is_held_to_another_with_other_levels(monkeypatch):
    """Of one there are both, of the other the fewer levels alone: then both are those."""
    there = {"published-band-joint-dirac", "songs-band-dirac", "songs-band-gaussian"}
    monkeypatch.setattr("msdm_lite.evaluation.records.exists", there.__contains__)
    assert claims.on_songs("band", "joint", "dirac", "gaussian") == ["songs-band-dirac", "songs-band-gaussian"]
    assert claims.on_songs("band", "joint", "dirac") == ["published-band-joint-dirac"]
    assert claims.on_songs("band", "independent", "dirac", "gaussian") == []


@pytest.mark.parametrize("interval, answer", [((1.0, 0.5, 1.5), "yes"), ((-1.0, -1.5, -0.5), "no"),
                                              ((0.1, -0.5, 0.7), claims.OPEN)])
def test_a_question_is_answered_by_the_sign_of_its_interval(monkeypatch, interval, answer):
    monkeypatch.setattr(claims, "difference", lambda one, other: interval)
    verdict, words = claims.comparison("songs-band-guided-dirac", "songs-band-guided")()
    assert verdict == answer and "(62 songs)" in words


def test_claims_say_under_which_conditions_they_were_tested():
    assert "150 levels" in claims.on_all_music("joint", "dirac-corrected", "dirac")()[1]
    assert "trained as long" in claims.independent_against_joint("dirac")()[1]
    assert "beat" in claims.one_model_does_both()[1]


@pytest.mark.parametrize("onsets, chroma, real, outcome", [
    ((0.2, 0.1, 0.3), (0.2, 0.1, 0.3), 0.5, claims.YES), ((0.2, 0.1, 0.3), (0.0, -0.1, 0.1), 0.5, claims.PARTLY),
    ((0.2, 0.1, 0.3), (0.2, 0.1, 0.3), 0.2, claims.PARTLY),  # more alike than the stems of real bands are
    ((0.0, -0.1, 0.1), (-0.2, -0.3, -0.1), 0.5, claims.OPEN),
    ((-0.2, -0.3, -0.1), (-0.2, -0.3, -0.1), 0.5, claims.NO)])
def test_coherence_is_measured_by_onsets_and_pitch_classes(monkeypatch, onsets, chroma, real, outcome):
    found = {kind: {"difference": dict(zip(("mean", "low", "high"), values, strict=True)),
                    "made": {"mean": 0.4, "low": 0.3, "high": 0.5}, "real": {"mean": real, "low": real, "high": real}}
             for kind, values in (("onsets", onsets), ("chroma", chroma))}
    verdict, words = claims.coheres(lambda: (found, "8 bands"))()
    assert verdict == outcome and f"real bands {real:.2f}" in words


@pytest.mark.parametrize("low, high, outcome", [(-0.4, 2.0, claims.YES), (-2.0, -0.6, claims.NO),
                                                (-2.0, 1.0, claims.OPEN)])
def test_as_good_wants_more_than_a_wide_interval(monkeypatch, low, high, outcome):
    monkeypatch.setattr(claims, "difference", lambda one, other: (0.0, low, high))
    monkeypatch.setattr("msdm_lite.evaluation.records.read", lambda name: {"n": 62})
    assert claims.keeps_up_with_supervised()[0] == outcome


@pytest.mark.parametrize("gain, heard, beat, outcome", [(1.0, 1.0, 0.8, claims.YES), (1.0, 1.0, 0.3, claims.PARTLY),
                                                        (1.0, 0.5, 0.8, claims.NO), (-1.0, 1.0, 0.8, claims.NO)])
def test_noise_is_no_generation(monkeypatch, gain, heard, beat, outcome):
    found = {"active": {"all": {"mean": gain, "low": gain, "high": gain}}, "n": 62,
             "quality": {"heard": {"mean": heard, "low": heard, "high": heard},
                        "beat": {"ratio": beat, "interval": [beat, beat]}}}
    monkeypatch.setattr("msdm_lite.evaluation.records.read", lambda name: found)
    assert claims.one_model_does_both()[0] == outcome


@pytest.mark.parametrize("joint, error, outcome", [
    (20.0, 0.4, claims.PARTLY), (15.0, 0.4, claims.YES), (20.5, 0.4, claims.PARTLY), (22.0, 0.4, claims.OPEN),
    (25.0, 0.4, claims.NO), (20.0, 2.0, claims.OPEN)])
def test_as_good_asks_for_the_whole_interval(joint, error, outcome, monkeypatch):
    """Of the difference, under a tenth of what a model of mixes has: 20, so 2; and partly so, over twice 9 away."""
    arms = {name: {"made": {"fad": fad, "error": error}, "train": {"fad": 9.0}}
            for name, fad in (("joint", joint), ("mixes", 20.0))}
    monkeypatch.setattr(records, "read", lambda name: {"n": 300, "settings": {"steps": 7}, "arms": arms})
    verdict, words = claims.as_near_as_a_model_of_mixes()
    assert verdict == outcome and "7 steps" in words


@pytest.mark.parametrize("made, outcome", [((1.0, 1.0, 1.0), claims.YES), ((1.0, 1.0, 9.0), claims.PARTLY),
                                           ((1.0, 1.0, 5.1), claims.PARTLY), ((1.0, 9.0, 9.0), claims.NO),
                                           ((1.0, 5.1, 4.9), claims.OPEN), ((1.0, 5.1, 9.0), claims.OPEN)])
def test_added_stems_are_compared_with_real_ones_of_another_song(monkeypatch, made, outcome):
    found = {str(i): {"fad": value, "mismatched": 5.0, "behind": value - 5.0, "errors": {"behind": 0.2}}
             for i, value in enumerate(made)}
    monkeypatch.setattr("msdm_lite.evaluation.records.read", lambda name: {"subsets": found, "n": 300})
    assert claims.nearer_than_mismatched_stems()[0] == outcome


def test_every_claim_has_an_outcome_and_a_chapter():
    table = claims.rows()
    assert len(table) == len(claims.CLAIMS) >= 15
    conditioning = {claims.YES, claims.NO, claims.OPEN, claims.NEVER, claims.PARTLY, "yes", "no"}
    for claim, (statement, where, link, outcome, figure) in zip(claims.CLAIMS, table, strict=True):
        assert outcome in conditioning and figure and where and statement == claim.statement
        assert claim.chapter in link
        chapters = data_folder().parent / "book"
        assert not chapters.is_dir() or (chapters / f"{claim.chapter}.ipynb").exists()
    assert len({claim.statement for claim in claims.CLAIMS}) == len(claims.CLAIMS)


@pytest.mark.parametrize("interval, outcome", [((3.1, 2.5, 3.6), claims.YES), ((3.0, -10.0, 20.0), claims.OPEN),
                                               ((2.2, 1.8, 2.6), claims.OPEN), ((5.0, 4.2, 5.8), claims.NO),
                                               ((0.5, 0.1, 0.9), claims.NO)])
def test_a_wide_interval_confirms_no_figure(monkeypatch, interval, outcome):
    """Within one decibel of the published three as a whole: reproduced; outside of it as a whole: not."""
    monkeypatch.setattr(claims, "difference", lambda one, other: interval)
    monkeypatch.setattr("msdm_lite.evaluation.records.read", lambda name: {"n": 62})
    assert claims.about_three_decibels()[0] == outcome
