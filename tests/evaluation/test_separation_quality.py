import json
import shlex

import numpy as np
import pytest
import soundfile
import torch

from msdm_lite.cli import main
from msdm_lite.data import dataset, example_clips, readers
from msdm_lite.errors import InputError
from msdm_lite.evaluation import band_quality, metrics, records, separated_songs, separation_quality
from msdm_lite.evaluation.separation_quality import Songs, ideal_mask, mixture_baseline
from msdm_lite.inference.separation import separate
from msdm_lite.models import weights
from msdm_lite.models.config import preset
from msdm_lite.models.joint import Model
from tests.conftest import with_effect


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    return str(weights.save(tiny, tmp_path_factory.mktemp("model") / "tiny.safetensors", {}))


@pytest.fixture
def few(monkeypatch):
    """Eight clips, the least that an interval is given for, of a second each."""
    entries, clip = example_clips.clips("band")[:8], example_clips.clip
    monkeypatch.setattr(example_clips, "clips", lambda kind="band": entries)
    monkeypatch.setattr(example_clips, "clip", lambda name: clip(name)[:, 40_000:62_050])
    return entries


def test_a_result_says_all_that_makes_it_again(few, model, tmp_path, capsys):
    assert main.main(["evaluate", "--model", model, "--out", str(tmp_path / "first.json"), "--steps", "2"]) == 0
    assert "n = 8" in capsys.readouterr().out
    first = json.loads((tmp_path / "first.json").read_text())
    words = shlex.split(first["command"])
    assert main.main([*words[1:], "--out", str(tmp_path / "again.json")]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["clips"] == first["clips"] and again["mean"] == first["mean"]
    assert first["low"] <= first["mean"] <= first["high"] and set(first["clips"]) == {e["name"] for e in few}


def test_figures_are_those_of_the_separation_itself(few, model):
    found = separation_quality.evaluate_clips("mixture-constrained", model, progress=False)
    stems = example_clips.clip(few[3]["name"])
    gain = metrics.si_sdr_improvement(separate(stems.sum(0), model), stems)
    assert found["clips"][few[3]["name"]] == pytest.approx(gain.tolist(), abs=1e-3)


def test_stems_that_are_given_are_not_scored(few, model):
    alone = separation_quality.evaluate_clips("mixture-constrained", model, progress=False)
    with_drums = separation_quality.evaluate_clips("mixture-constrained", model, progress=False, given=["drums"])
    assert with_drums["given"] == ["drums"] and with_drums["command"].endswith("--given drums")
    assert "drums" not in with_drums["stems"]
    rows = torch.tensor(list(with_drums["clips"].values()))
    before = torch.tensor(list(alone["clips"].values()))
    assert rows[:, 1].isnan().all() and torch.equal(rows[:, [0, 2, 3]].isnan(), before[:, [0, 2, 3]].isnan())
    assert with_drums["mean"] != alone["mean"]
    with pytest.raises(InputError, match="no stem 'flute'"):
        separation_quality.evaluate_clips("mixture-constrained", model, given=["flute"])


def test_what_suits_a_model_is_asked_if_no_method_is_named(few, model, tmp_path):
    from dataclasses import replace

    from msdm_lite.models.config import PRESETS
    from msdm_lite.models.weights import build

    assert separation_quality.evaluate_clips(None, model, progress=False)["method"] == "mixture-constrained"
    small = replace(PRESETS["lite-guided"], widths=(16, 24), blocks=(1, 1), embedding_width=16)
    path = weights.save(build(small), tmp_path / "guided.safetensors", {})
    assert separation_quality.evaluate_clips(None, str(path), steps=1, progress=False)["method"] == "guided"
    alone = weights.save(build(replace(small, task="denoise", stems=("bass",))), tmp_path / "bass.safetensors", {})
    with pytest.raises(InputError, match="is not for a model of bass"):
        separation_quality.evaluate_clips(None, str(alone))


def test_the_mixture_improves_nothing():
    stems = torch.randn(4, 8000)
    assert torch.equal(metrics.si_sdr_improvement(mixture_baseline(stems), stems), torch.zeros(4))


def test_stems_that_do_not_overlap_are_found_whole():
    """Two tones far apart in frequency: each mask is one where the tone is, so next to nothing is lost."""
    time = torch.arange(22050) / 22050
    stems = torch.stack([torch.sin(2 * torch.pi * f * time) for f in (200.0, 5000.0)])
    found = ideal_mask(stems)
    assert found.shape == stems.shape and metrics.si_sdr(found, stems).min() > 40


def test_masks_share_the_mixture_out():
    stems = torch.randn(4, 22050, generator=torch.Generator().manual_seed(0))
    found = ideal_mask(stems)
    assert torch.allclose(found.sum(0), stems.sum(0), atol=1e-4)
    assert 2 < metrics.si_sdr_improvement(found, stems).mean() < 12  # of noise a mask gets something, never all


def test_silence_stays_silent():
    stems = torch.zeros(3, 9000)
    stems[1] = torch.randn(9000)
    found = ideal_mask(stems)
    assert found[0].abs().max() == 0 and found[1].numpy() == pytest.approx(stems[1].numpy(), abs=1e-4)


@pytest.fixture
def slakh(tmp_path):
    """Two test songs and one for training in the layout of the paper's code."""
    rng = np.random.default_rng(0)
    for split, name in (("test", "Track00001"), ("test", "Track00002"), ("train", "Track00003")):
        folder = tmp_path / "slakh" / split / name
        folder.mkdir(parents=True)
        for stem in ("bass", "drums", "guitar", "piano"):
            soundfile.write(folder / f"{stem}.wav", 0.1 * rng.normal(size=5 * 22050), 22050)
    return tmp_path / "slakh"


def test_one_command_scores_a_copy_of_slakh(slakh, tmp_path, capsys):
    out = tmp_path / "result.json"
    assert main.main(["evaluate", "--songs", str(slakh), "--model", "tiny", "--seconds", "4", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert list(found["songs"]) == ["Track00001", "Track00002"] and found["n"] == 2 and found["windows"] == 2
    assert found["active"]["all"]["low"] is None  # no interval of two songs
    assert "dB" in capsys.readouterr().out


def lengthened(song, seconds):
    """Write other files of a song, of so many seconds; a stem in a quarter of them rests."""
    rng = np.random.default_rng(int(100 * seconds))
    for number, stem in enumerate(("bass", "drums", "guitar", "piano")):
        sound = 0.1 * rng.normal(size=round(22050 * seconds))
        sound[: number * len(sound) // 4] = 0
        soundfile.write(song / f"{stem}.wav", sound, 22050, "FLOAT")


def in_numpy(found, true):
    """The published score written out once more: the improvement of all stems in the windows of a song, (W, S)."""
    rows = []
    for start in np.arange(0, true.shape[1] - 44_100, 44_100):
        x, y = found[:, start : start + 88_200].astype(float), true[:, start : start + 88_200].astype(float)
        if (np.sqrt((y**2).sum(1)) / y.shape[1] >= 1.5e-5).sum() < 2:
            continue
        ratios = []
        for estimate in (x, np.repeat(y.sum(0)[None], len(y), 0)):
            part = ((estimate * y).sum(1) + 1e-8) / ((y**2).sum(1) + 1e-8)
            signal = part[:, None] * y
            ratios.append(10 * np.log10(((signal**2).sum(1) + 1e-8) / (((signal - estimate) ** 2).sum(1) + 1e-8)))
        rows.append(ratios[0] - ratios[1])
    return np.array(rows)


def test_the_published_score_is_a_mean_over_the_windows_of_what_was_separated(slakh, monkeypatch):
    """Of whole segments: the rest of a song at its end is in no window, and a song shorter than a segment in none."""
    segment = 40_000
    monkeypatch.setattr(separated_songs, "segment_samples", lambda model: segment)
    for number, seconds in ((1, 9.3), (2, 5.6)):
        lengthened(slakh / "test" / f"Track{number:05d}", seconds)
    found = separation_quality.evaluate_songs(Songs(str(slakh), seconds=None, chunks=True), "tiny", progress=False)
    model, tables = weights.load("tiny"), []
    for track in dataset.songs_of(str(slakh), "test"):
        true = track.read()[:, : track.samples // segment * segment]
        pieces = [separate(torch.from_numpy(true[:, i : i + segment].sum(0)), model, seed=0).numpy()
                  for i in range(0, true.shape[1], segment)]
        tables.append(in_numpy(np.concatenate(pieces, 1), true))
    assert [len(table) for table in tables] == [4, 2]  # of 200 000 and 120 000 samples; the last window is shorter
    wanted = np.concatenate(tables).mean(0)
    assert [found["per_window"][stem]["mean"] for stem in model.stems] == pytest.approx(wanted.tolist(), abs=1e-3)
    assert found["per_window"]["all"]["mean"] == pytest.approx(wanted.mean(), abs=1e-3)
    assert found["published_windows"] == 6 and found["windows"] == 3 + 1 and found["left_out"] == {}
    of_songs = np.mean([tables[0][:3].mean(0), tables[1][:1].mean(0)], 0)  # ours: whole windows, then songs
    assert [found["per_song"][stem]["mean"] for stem in model.stems] == pytest.approx(of_songs.tolist(), abs=1e-3)


def test_songs_that_cannot_be_scored_are_named_and_the_others_go_on(slakh, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(separated_songs, "segment_samples", lambda model: 40_000)
    for name, seconds in (("Track00004", 1.0), ("Track00005", 7.0)):
        folder = slakh / "test" / name
        folder.mkdir()
        lengthened(folder, seconds)
    real = separated_songs.excerpt

    def excerpt(track, *rest):
        if track.name == "Track00002":
            raise InputError("bass.wav cannot be read")
        return real(track, *rest)

    monkeypatch.setattr(separated_songs, "excerpt", excerpt)
    out = tmp_path / "whole.json"
    assert main.main(["evaluate", "--songs", str(slakh), "--model", "tiny", "--whole", "--chunks", "--out",
                      str(out)]) == 0
    found, said = json.loads(out.read_text()), capsys.readouterr()
    assert found["left_out"] == {"Track00002": "bass.wav cannot be read",
                                 "Track00004": "1.0 s are shorter than a segment of the model, 2.2 s"}
    assert list(found["songs"]) == ["Track00001", "Track00005"] and found["n"] == 2
    for name, why in found["left_out"].items():
        assert f"msdm-lite: {name} is left out: {why}\n" in said.err
    assert "as published" in said.out and "n = 2 songs, 2 left out" in said.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slakh", "whole.json"]
    assert records.current(found) == found  # nothing in it has another name today


def test_if_no_song_can_be_scored_the_first_reason_is_said(slakh, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(separated_songs, "segment_samples", lambda model: 10**6)
    out = tmp_path / "none.json"
    assert main.main(["evaluate", "--songs", str(slakh), "--model", "tiny", "--whole", "--chunks", "--out",
                      str(out)]) == 2
    assert "; Track00001: 5.0 s are shorter than a segment" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["slakh"]
    with pytest.raises(InputError, match="no setting 'heads'"):  # no fault of the songs
        separation_quality.evaluate_songs(Songs(str(slakh)), "tiny", "dirac", heads=3, progress=False)


def test_a_run_that_was_stopped_goes_on_after_the_last_song(slakh, tmp_path, monkeypatch):
    command = ["evaluate", "--songs", str(slakh), "--model", "tiny", "--whole", "--seed", "3"]
    assert main.main([*command, "--out", str(tmp_path / "at once.json")]) == 0
    real, done = separated_songs.separate_song, []

    def separate_song(mixture, *rest, **settings):
        if len(done) == 1:
            done.append(None)
            raise KeyboardInterrupt
        done.append(mixture)
        return real(mixture, *rest, **settings)

    monkeypatch.setattr(separated_songs, "separate_song", separate_song)
    out = tmp_path / "in two.json"
    assert main.main([*command, "--out", str(out)]) == 130
    assert not out.exists() and (tmp_path / "in two-parts").is_dir() and len(done) == 2
    assert main.main([*command, "--out", str(out)]) == 0
    assert len(done) == 3  # the second song alone
    once, twice = (json.loads(path.read_text()) for path in (tmp_path / "at once.json", out))
    for key in ("songs", "per_window", "per_song", "active", "n", "windows"):
        assert once[key] == twice[key]
    assert not (tmp_path / "in two-parts").exists()


def test_scores_of_other_settings_or_another_song_are_not_taken(slakh, tmp_path):
    out = tmp_path / "r.json"
    score = lambda **settings: separation_quality.evaluate_songs(  # noqa: E731
        Songs(str(slakh), out=out), "tiny", "dirac", steps=2, progress=False, **settings)["songs"]
    first = score(churn=1.0)
    assert score(churn=1.0) == first and score(churn=0.5) != first
    before = score(churn=1.0)
    lengthened(slakh / "test" / "Track00002", 5.5)
    after = score(churn=1.0)
    assert after["Track00001"] == before["Track00001"] and after["Track00002"] != before["Track00002"]


def test_segments_go_together_too(slakh, monkeypatch):
    monkeypatch.setattr(separated_songs, "segment_samples", lambda model: 30_000)
    one, three = (separation_quality.evaluate_songs(Songs(str(slakh), seconds=None, chunks=True, batch=batch), "tiny",
                                                    "dirac", steps=2, progress=False) for batch in (1, 3))
    for name, figures in one["songs"].items():
        assert three["songs"][name] == pytest.approx(figures, abs=0.01)


def test_what_asks_no_model(slakh, capsys):
    nothing = separation_quality.evaluate_songs(Songs(str(slakh)), method="mixture", progress=False)
    assert nothing["model"] is None and nothing["model_record"] == {} and "--model" not in nothing["command"]
    assert nothing["active"]["all"]["mean"] == pytest.approx(0, abs=1e-4)
    mask = separation_quality.evaluate_songs(Songs(str(slakh)), method="ideal-mask", progress=False)
    assert mask["active"]["all"]["mean"] > 3 and mask["per_song"] == mask["active"]  # all four play all the time
    assert main.main(["evaluate", "--songs", str(slakh), "--method", "ideal-mask"]) == 0
    assert "dB" in capsys.readouterr().out


def test_songs_are_grouped_by_how_many_play(slakh):
    (slakh / "test" / "Track00002" / "piano.wav").unlink()
    found = separation_quality.evaluate_songs(Songs(str(slakh)), method="ideal-mask", progress=False)
    assert {name: group["n"] for name, group in found["by_stems"].items()} == {"3": 1, "4": 1}
    assert found["active"]["piano"]["n"] == 1 and found["by_style"] == {}


def test_no_test_songs(tmp_path):
    with pytest.raises(InputError, match="folder of stems"):
        separation_quality.evaluate_songs(Songs(str(tmp_path / "nowhere")), "tiny", progress=False)
    alone = tmp_path / "one" / "song"  # of one player there is nothing to separate
    alone.mkdir(parents=True)
    soundfile.write(alone / "bass.wav", 0.05 * np.sin(0.1 * np.arange(200_000)), 22050)
    with pytest.raises(InputError, match="no test song in which two stems"):
        separation_quality.evaluate_songs(Songs(str(alone.parent)), method="ideal-mask", progress=False)


def test_songs_take_no_given_stems(slakh, capsys):
    assert main.main(["evaluate", "--songs", str(slakh), "--model", "tiny", "--given", "drums"]) == 2
    assert "--given has no use here: separate of songs" in capsys.readouterr().err


@pytest.mark.parametrize("settings", [{"n": 0}, {"n": -1}, {"seconds": 0.0}, {"seconds": -3.0},
                                      {"seconds": float("nan")}])
def test_no_songs_or_nothing_of_them(settings):
    with pytest.raises(InputError, match="one song or more"):
        Songs("band", **settings)


def test_songs_that_go_together_are_scored_as_each_alone(slakh):
    """Also where one is shorter than what is asked: it goes by itself."""
    song = slakh / "test" / "Track00002"
    for file in song.iterdir():
        sound, rate = soundfile.read(file)
        soundfile.write(file, sound[: 9 * rate // 2], rate)
    for seconds in (4.0, 12.0):
        one, both = (separation_quality.evaluate_songs(Songs(str(slakh), seconds=seconds, batch=batch), "tiny", "dirac",
                                                       steps=2, progress=False)
                     for batch in (1, 2))
        for name, figures in one["songs"].items():  # of dB
            assert both["songs"][name] == pytest.approx(figures, abs=0.01)
        assert one["command"] == both["command"] and one["settings"] == both["settings"]
    sizes, mixed = ([len(some) for some in separated_songs.equal_length_batches(
        dataset.songs_of(str(slakh), "test"), seconds, 22050, 2)] for seconds in (4.0, 12.0))
    assert sizes == [2] and mixed == [1, 1]


def test_batches_that_make_no_sense(slakh, capsys):
    with pytest.raises(InputError, match="one or more"):
        Songs(str(slakh), batch=0)
    for flags in (["--whole"], ["--method", "mixture"]):
        assert main.main(["evaluate", "--songs", str(slakh), "--batch", "2", *flags]) == 2
        assert "--batch has no use here" in capsys.readouterr().err


MUSDB = ("vocals", "drums", "bass", "other")


@pytest.fixture(scope="module")
def of_musdb(tiny, tmp_path_factory):
    """A model of the stems of MUSDB18-HQ, in an order of its own."""
    model = with_effect(Model(preset("tiny", MUSDB), tiny.denoiser.std.clone()))
    return str(weights.save(model, tmp_path_factory.mktemp("model") / "musdb.safetensors", {}))


def test_songs_of_other_stems_are_scored_by_the_models_names(musdb, of_musdb):
    found = separation_quality.evaluate_songs(Songs(str(musdb), seconds=6.0), of_musdb, "mixture-constrained", steps=1,
                                              progress=False)
    assert list(found["active"]) == list(found["per_window"]) == list(found["per_song"]) == [*MUSDB, "all"]
    track, = readers.find(musdb / "test", stems=MUSDB)
    true = torch.from_numpy(track.read((track.samples - 132_300) // 2, 132_300))
    loaded = weights.load(of_musdb)
    got = separate(true.sum(0), loaded, "mixture-constrained", steps=1, seed=0)
    want = metrics.windowed_improvements(got, true)[1].nanmean(0)
    assert found["songs"] == {"Artist - Song 2": [round(v, 3) for v in want.tolist()]}
    for name, value in zip(MUSDB, want.tolist(), strict=True):
        assert found["active"][name]["mean"] == pytest.approx(value, abs=1e-4)


def test_a_model_of_some_stems_of_a_folder_separates_their_sum(musdb, tiny, tmp_path):
    """Also where their names are those of the corpus, whose songs have more."""
    model = with_effect(Model(preset("tiny", ("bass", "drums")), tiny.denoiser.std[:2].clone()))
    path = str(weights.save(model, tmp_path / "two.safetensors", {}))
    found = separation_quality.evaluate_songs(Songs(str(musdb), seconds=6.0), path, "mixture-constrained", steps=1,
                                              progress=False)
    track, = readers.find(musdb / "test", stems=("bass", "drums"))
    true = torch.from_numpy(track.read((track.samples - 132_300) // 2, 132_300))
    got = separate(true.sum(0), weights.load(path), "mixture-constrained", steps=1, seed=0)
    want = metrics.windowed_improvements(got, true)[1].nanmean(0)
    assert found["songs"]["Artist - Song 2"] == [round(v, 3) for v in want.tolist()]


def test_a_baseline_is_told_the_stems_of_a_folder(musdb, tmp_path, capsys):
    out = tmp_path / "mask.json"
    command = ["evaluate", "--songs", str(musdb), "--method", "ideal-mask", "--stems", *MUSDB]
    assert main.main([*command, "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert list(found["active"]) == [*MUSDB, "all"] and found["active"]["all"]["mean"] > 3
    again = shlex.split(found["command"])[1:]
    assert again[-5:] == ["--stems", *MUSDB] and main.main([*again, "--out", str(tmp_path / "again.json")]) == 0
    assert json.loads((tmp_path / "again.json").read_text())["songs"] == found["songs"]
    assert main.main(["evaluate", "--songs", str(musdb), "--stems", "bass", "drums"]) == 2
    assert "--stems has no use here" in capsys.readouterr().err


def test_the_corpus_is_only_for_models_of_its_stems(of_musdb, tiny, tmp_path):
    says = "the stems bass, drums, guitar, piano is not for a model of vocals, drums, bass, other: .*--songs FOLDER"
    for score in (lambda: separation_quality.evaluate_clips(None, of_musdb),
                  lambda: separation_quality.evaluate_songs(Songs("band"), of_musdb),
                  lambda: band_quality.evaluate_bands(of_musdb)):
        with pytest.raises(InputError, match=says):
            score()
    with pytest.raises(InputError, match="those of the model"):
        separation_quality.evaluate_songs(Songs("band", stems=MUSDB), of_musdb)
    alone = weights.save(Model(preset("tiny", ("vocals",)), tiny.denoiser.std[:1].clone()),
                         tmp_path / "vocals.safetensors", {})
    with pytest.raises(InputError, match="vocals alone is no mixture"):
        separation_quality.evaluate_songs(Songs(str(tmp_path)), str(alone))
