import json

import numpy as np
import pytest
import torch

from msdm_lite.audio.io import STEMS
from msdm_lite.audio.sketch import sketch
from msdm_lite.errors import InputError
from msdm_lite.inference import generation
from msdm_lite.inference.encoding import encode_stems
from msdm_lite.models import weights
from msdm_lite.studies import distance, sub_fad
from tests.studies.conftest import SECONDS


def test_a_model_that_plays_test_songs_is_near_and_one_that_plays_training_songs_copies(bands, monkeypatch, tiny):
    monkeypatch.setattr(generation, "generate", lambda *a, **k: bands[a[3]][None])
    near = distance.generated_distances(tiny, 10, SECONDS, "band", progress=False)
    assert near["made"]["fad"] == pytest.approx(0, abs=1e-6) and near["diversity"] == pytest.approx(1)
    assert near["copies"] == pytest.approx(1) and near["ratio"] < 0.01 < near["train"]["fad"]
    assert all(low <= near[name] <= high for name, (low, high) in near["intervals"].items())
    assert near["quality"]["real"] == 10 and near["quality"]["beat"]["ratio"] == pytest.approx(1)
    learned = distance.real_bands("band", "train", 10, SECONDS)[0]
    monkeypatch.setattr(generation, "generate", lambda *a, **k: learned[a[3]][None])
    copy = distance.generated_distances(tiny, 10, SECONDS, "band", progress=False)
    assert copy["copies"] == pytest.approx(0, abs=1e-4) and copy["ratio"] == pytest.approx(1, rel=1e-3)
    monkeypatch.setattr(generation, "generate", lambda *a, **k: bands[0][None] * (1 + 0.01 * a[3]))
    assert distance.generated_distances(tiny, 10, SECONDS, "band", progress=False)["diversity"] < 0.2


def test_the_decoded_band_is_the_sketched_one_in_other_samples(bands, tiny):
    lite, some = weights.load("lite"), bands[:2]
    made = distance.decode_real_sketches(lite, some, steps=10, progress=False)
    own, theirs = (torch.cat([sketch(encode_stems(dict(enumerate(band)), lite, band.shape[-1])) for band in each])
                   for each in (made, some))
    near, far = ((own - other).square().mean().sqrt() for other in (theirs, theirs.flip(0)))
    assert near < 0.6 * far  # measured: 0.29
    alike = torch.nn.functional.cosine_similarity(made.flatten(), some.flatten(), 0)
    assert abs(alike) < 0.5  # a sketch says nothing of phases
    assert torch.equal(made[:1], distance.decode_real_sketches(lite, some[:1], steps=10, progress=False))
    with pytest.raises(InputError, match="decode sketches"):
        distance.decode_real_sketches(tiny, some)


@pytest.mark.parametrize("task", ["generate", "accompany"])
def test_it_is_written_down(bands, tmp_path, monkeypatch, task):
    monkeypatch.setattr(sub_fad, "subsets", lambda: [("bass",)])
    distance.main(tmp_path / "d.json", task, "tiny", n=8, seconds=SECONDS, steps=1)
    found = json.loads((tmp_path / "d.json").read_text())
    assert found["n"] == 8 and found["command"].startswith("python -m msdm_lite.studies distance --task")
    assert np.isfinite(found["made"]["fad"] if task == "generate" else found["subsets"]["bass"]["fad"])


def test_what_was_made_is_not_made_again(bands, tmp_path, monkeypatch):
    """A run that was stopped at the fourth band goes on with it, and is the run that was not stopped."""
    made, path = [], tmp_path / "d.json"

    def generate(model, seconds, n, seed, **settings):
        if seed == 3 and len(made) == 3:
            raise KeyboardInterrupt
        made.append(seed)
        return bands[seed : seed + 1]

    monkeypatch.setattr(generation, "generate", generate)
    with pytest.raises(KeyboardInterrupt):
        distance.main(path, "generate", "tiny", n=8, seconds=SECONDS)
    made.append(None)
    distance.main(path, "generate", "tiny", n=8, seconds=SECONDS)
    assert made == [0, 1, 2, None, 3, 4, 5, 6, 7]
    found = json.loads(path.read_text())
    assert found["made"]["fad"] == pytest.approx(0, abs=1e-6) and [x.name for x in tmp_path.iterdir()] == ["d.json"]


def test_out_of_phase_keeps_the_sizes_and_not_the_sound(bands, tiny):
    made = distance.randomised_signs(tiny, bands[:2])
    one, other = (encode_stems(dict(enumerate(x[0])), tiny, x.shape[-1])[0] for x in (bands, made))
    inside = (slice(None), slice(None), slice(2, -4))  # at the ends a cut takes some of it
    assert torch.allclose(one[inside].abs(), other[inside].abs(), atol=1e-5)
    share = (one * other > 0)[inside][one[inside].abs() > 1e-4].float().mean()
    assert 0.49 < share < 0.51  # of 200 000 signs: ten standard errors


def test_decoding_is_recorded(bands, tmp_path, monkeypatch):
    monkeypatch.setattr(distance, "decode_real_sketches", lambda model, bands, seed, steps, keep: bands)
    distance.main(tmp_path / "d.json", "decode", "tiny", n=8, seconds=SECONDS)
    found = json.loads((tmp_path / "d.json").read_text())
    assert found["ratio"] == pytest.approx(1) and found["copies"] == pytest.approx(0, abs=1e-4)
    assert found["randomised_signs"]["fad"] > 0
    with pytest.raises(InputError, match="no model is needed"):
        distance.main(tmp_path / "d.json", "decode", "lite", "lite-sketch", n=8, seconds=SECONDS)


def test_too_little(tiny):
    with pytest.raises(InputError, match="eight of three seconds"):
        distance.main("x", n=4)


def test_real_crops_have_two_stems_or_more(monkeypatch):
    class Track:
        name, source, split, style, samples = "a", "band", "test", "jazz", 22050 * 20
        stems = STEMS

        def __init__(self, players):
            self.players = players

        def read(self, start, count):
            wave = np.zeros((4, count), np.float32)
            wave[: self.players] = 0.1 * np.random.default_rng(start).normal(size=(self.players, count))
            return wave

    monkeypatch.setattr(distance, "songs_of", lambda data, split: [Track(2)])
    crops, songs, styles = distance.real_bands("band", "test", 3, 3.0)
    assert crops.shape == (3, len(STEMS), 3 * 22050) and styles == ["jazz"] * 3 and songs == ["a"] * 3
    monkeypatch.setattr(distance, "songs_of", lambda data, split: [Track(1)])
    with pytest.raises(InputError, match="two stems or more"):
        distance.real_bands("band", "test", 3, 3.0)
