import dataclasses
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from msdm_lite import separate
from msdm_lite.audio import levels
from msdm_lite.data import corpus
from msdm_lite.models import weights
from msdm_lite.models.config import PRESETS, preset
from msdm_lite.models.joint import Model
from msdm_lite.models.sketcher import Sketcher
from msdm_lite.models.weights import build
from msdm_lite.training import batches, loop, statistics


@dataclass
class Noise:
    """A track of white noise: each stem at its own RMS level."""

    levels: tuple[float, ...]
    stems: tuple[str, ...] = ("bass", "drums", "guitar", "piano")
    name: str = "noise"
    source: str = "memory"
    split: str | None = None
    samples: int = 150_000

    def read(self, start=0, count=None):
        rng = np.random.default_rng(7)
        waves = rng.standard_normal((len(self.stems), self.samples)) * np.array(self.levels)[:, None]
        count = max(0, self.samples - start) if count is None else count
        found = waves[:, start : start + count].astype(np.float32)
        return np.pad(found, ((0, 0), (0, count - found.shape[1])))


def test_levels_are_geometric_means_over_what_plays():
    """Of stems at 0.01 and 0.04 the mean is 0.02; a silent stem does not count; the mixture is their root sum."""
    model = build(preset("tiny"))
    found = statistics.levels(model, [Noise((0.01, 0.04, 0.0, 0.0))], count=8)
    assert found["stem_rms"] == pytest.approx(0.02, rel=0.02)
    assert found["mixture_rms"] == pytest.approx((0.01**2 + 0.04**2) ** 0.5, rel=0.02)
    assert statistics.levels(model, [Noise((0.0, 0.0, 0.0, 0.0))], count=2) == {}


def test_only_the_model_s_stems_count():
    model = build(preset("tiny", ("drums",)))
    found = statistics.levels(model, [Noise((0.01, 0.04, 0.3, 0.3))], count=4)
    assert found["stem_rms"] == found["mixture_rms"] == pytest.approx(0.04, rel=0.02)


@pytest.mark.parametrize("stems, expected", [(("bass", "drums", "guitar", "piano"), levels.MIXTURE_RMS),
                                             (("bass", "drums"), levels.STEM_RMS * 2**0.5)])
def test_the_corpus_states_its_level(stems, expected):
    """A model of the corpus is not measured: its stems are rendered at one level, and the mixture follows."""
    model, songs = build(preset("tiny", stems)), corpus.songs("train", "band")[:2]
    assert [song.stem_rms for song in songs] == [levels.STEM_RMS] * 2
    assert replace(songs[0], balance="loudness").stem_rms is None
    assert model.stem_rms == levels.STEM_RMS and model.mixture_rms == pytest.approx(expected, rel=1e-12)


def test_standard_deviations_are_those_of_the_stems():
    """The MDCT is orthonormal: white noise of one RMS has that standard deviation in every bin."""
    model = build(preset("tiny"))
    std = statistics.standard_deviations(model, [Noise((0.01, 0.02, 0.03, 0.0))])
    assert std.shape == (4, 1024) and model.denoiser.std.unique().tolist() == pytest.approx([0.05])
    assert std[:3].square().mean(1).sqrt().tolist() == pytest.approx([0.01, 0.02, 0.03], rel=0.02)
    assert std[3].tolist() == pytest.approx([2e-4] * 1024)  # the least


def test_a_sketch_does_not_depend_on_the_level():
    """Songs ten times softer give the same sketches, in a model of sketches and in one that decodes them."""
    small = replace(PRESETS["lite-sketch"], widths=(16, 24, 32), blocks=(1, 1, 1), embedding_width=16)
    decoding = replace(PRESETS["tiny"], sketch=small.sketch)
    wave = 0.06 * torch.randn(1, 4, 130 * 1024)
    soft, loud = Sketcher(small), Sketcher(small)
    soft.configure(stem_rms=levels.STEM_RMS / 10)
    torch.testing.assert_close(batches.encode_crops(soft, wave / 10), batches.encode_crops(loud, wave),
                               rtol=1e-4, atol=1e-4)
    x = 0.06 * torch.randn(1, 4, 1024, 8)
    quiet = Model(replace(decoding, stem_rms=levels.STEM_RMS / 10))
    torch.testing.assert_close(quiet.sketch_of(x / 10), Model(decoding).sketch_of(x), rtol=1e-4, atol=1e-4)
    rebuilt = build(type(small).from_dict(soft.config.to_dict()))  # as from a file
    assert torch.equal(batches.encode_crops(rebuilt, wave), batches.encode_crops(soft, wave))


def test_tempi_are_those_of_the_songs():
    @dataclass
    class Beaten(Noise):
        tempo: float | None = None

    model = build(replace(PRESETS["lite-sketch"], widths=(16, 24, 32), blocks=(1, 1, 1), embedding_width=16))
    statistics.measure(model, [Beaten((0.1,) * 4, tempo=120.0), Beaten((0.1,) * 4), Beaten((0.1,) * 4, tempo=80.0)])
    assert model.config.tempi == (80.0, 120.0)
    assert {song.tempo for song in corpus.songs("train", "band")[:2]} == {136.0, 92.0}
    assert all(song.tempo is None for song in corpus.songs("train", "composed"))


def test_a_model_hears_what_it_was_trained_on(recipe, tmp_path):
    """Songs 20 dB softer than the corpus: the level is kept with the weights, and separation does not depend on it."""
    soft = [Noise((0.006,) * 4, name=f"soft{i}") for i in range(3)]
    path = loop.fit(build(preset("tiny")), soft, replace(recipe, steps=1), tmp_path / "run", progress=False)
    model = weights.load(path)
    assert model.stem_rms == pytest.approx(0.006, rel=0.05) and model.mixture_rms == pytest.approx(0.012, rel=0.05)
    mixture = 0.012 * torch.randn(30_000)
    stems = separate(mixture, model, seed=1)
    torch.testing.assert_close(separate(10 * mixture, model, seed=1), 10 * stems, rtol=1e-3, atol=1e-5)
    inside = []
    model.denoise = lambda x, sigma, conditioning=None: inside.append(float(x.sum(1).std())) or x
    separate(10 * mixture, model)
    assert inside[0] == pytest.approx(0.012, rel=0.1)  # the mixture that the network gets


def test_a_resumed_run_keeps_what_was_measured(recipe, tmp_path, monkeypatch):
    soft = [Noise((0.006,) * 4, name=f"soft{i}") for i in range(3)]
    loop.fit(build(preset("tiny")), soft, replace(recipe, steps=1), tmp_path / "run", progress=False)
    monkeypatch.setattr(statistics, "measure", None)  # not called again
    path = loop.fit(build(preset("tiny")), soft, replace(recipe, steps=2), tmp_path / "run", progress=False,
                    resume=True)
    model = weights.load(path)
    assert model.record["steps"] == 2 and model.stem_rms == pytest.approx(0.006, rel=0.05)
    assert model.denoiser.std.mean().item() == pytest.approx(0.006, rel=0.05)


def test_models_of_the_official_code_are_not_rescaled():
    config = dataclasses.replace(preset("tiny-wave"), stem_rms=None)
    model = build(config)
    assert model.stem_rms is None and model.mixture_rms is None
    inside = []
    model.denoise = lambda x, sigma, conditioning=None: inside.append(x) or torch.zeros_like(x)
    wave = torch.randn(20_000)
    separate(wave, model, method="wiener", steps=1, sigma_max=1e-3, sigma_min=1e-4)
    assert model.transform.decode(inside[-1].sum(1), 20_000)[0].std().item() < 0.1  # noise alone, no mixture in it
