from dataclasses import replace

import pytest
import torch

import msdm_lite
from msdm_lite.audio import beats as audio_beats
from msdm_lite.audio import levels
from msdm_lite.audio.levels import mixture_rms
from msdm_lite.audio.sketch import sketch
from msdm_lite.data import corpus
from msdm_lite.errors import InputError
from msdm_lite.inference import cascade, generation
from msdm_lite.inference.encoding import encode
from msdm_lite.inference.windows import Windowed
from msdm_lite.models.weights import build


def test_a_sketch_comes_first_and_the_model_decodes_it(decoder, sketcher, conditions_of):
    """The decoder gets one sketch at every noise level, and the sketcher the sketches of the given stems."""
    seen = conditions_of(decoder, "sketch")
    bands = msdm_lite.generate(decoder, 1.0, n=2, seed=3, steps=3, sketcher=sketcher)
    assert bands.shape == (2, 4, 22050) and torch.isfinite(bands).all()
    assert len(seen) == 6 and all(torch.equal(seen[0], one) for one in seen[:3])
    assert seen[0].shape[:3] == (1, 4, 96) and not torch.equal(seen[0], seen[3])
    seen.clear()
    again = msdm_lite.generate(decoder, 1.0, n=1, seed=3, steps=3, sketcher=sketcher)
    assert torch.equal(again[0], bands[0])
    seen.clear()
    given = {"bass": 0.1 * torch.randn(30_000), "piano": 0.1 * torch.randn(30_000)}
    band = msdm_lite.accompany(given, decoder, steps=3, sketcher=sketcher)
    assert torch.equal(band[0], given["bass"]) and torch.equal(band[3], given["piano"])
    gain = levels.STEM_RMS / (sum(mixture_rms(wave, 22050 // 4) ** 2 for wave in given.values()) / 2) ** 0.5
    for n, name in ((0, "bass"), (3, "piano")):
        torch.testing.assert_close(seen[0][0, n], sketch(encode(given[name], decoder, gain)), rtol=1e-4, atol=1e-4)


def test_pairs_that_cannot_work(tiny, decoder, sketcher):
    with pytest.raises(InputError, match="not trained to decode"):
        msdm_lite.generate(tiny, 0.5, sketcher=sketcher)
    with pytest.raises(InputError, match="no sketcher"):
        msdm_lite.accompany({"bass": torch.ones(22050)}, decoder, sketcher=tiny)
    other = build(replace(sketcher.config, stems=("bass", "drums")))
    with pytest.raises(InputError, match="do not agree"):
        msdm_lite.generate(decoder, 0.5, sketcher=other)
    with pytest.raises(InputError, match="the sketcher is on meta and the model on cpu"):
        msdm_lite.generate(decoder, 0.5, sketcher=build(sketcher.config).to("meta"))


def test_sketches_that_are_made_together_are_those_made_alone(decoder, sketcher):
    """Each with the beat phase of its own tempo."""
    one, two = (msdm_lite.generate(decoder, 0.5, 2, 1, steps=3, sketcher=sketcher, batch=batch) for batch in (1, 2))
    assert (one - two).abs().max() < 1e-3 * one.abs().max()


def test_a_band_plays_to_the_tempo_that_is_asked_for(decoder, sketcher, conditions_of):
    """The sketcher is given the beat phase; the first beat is where the sound begins, one hop into the spectrogram."""
    seen = conditions_of(sketcher, "beat_phase")
    hop = 1024 / 22050

    def heard(**settings):
        seen.clear()
        generation.generate(decoder, 1.0, 1, steps=2, sketcher=sketcher, **settings)
        assert all(one is seen[0] or torch.equal(one, seen[0]) for one in seen)
        return seen[0]

    count = heard(tempo=90, metre=3)
    torch.testing.assert_close(count[0], audio_beats.steady(count.shape[-1], hop, 90, 3, hop))
    torch.testing.assert_close(count[0, :, 1], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    assert heard(tempo=0) is None
    drawn = heard(seed=1)
    assert torch.equal(drawn, heard(seed=1)) and not torch.equal(drawn, heard(seed=2))
    for settings, says in (({"tempo": 1000}, "20 to 400"), ({"tempo": 90, "metre": 0}, "20 to 400")):
        with pytest.raises(InputError, match=says):
            heard(**settings)
    with pytest.raises(InputError, match="tempo and metre need"):
        generation.generate(decoder, 1.0, 1, steps=2, tempo=90)


def test_no_sketcher_is_none_and_a_loaded_one_is_itself(decoder, sketcher):
    assert cascade.load_sketcher(None, decoder) is None
    assert cascade.load_sketcher(sketcher, decoder) is sketcher


def test_beat_conditioning_is_the_phase_of_beat_and_bar(sketcher):
    """One beat is half a second at 120 a minute; the first column is one hop before the sound."""
    hop, generator = 1024 / 22050, torch.Generator()
    beat = 2 * torch.pi * (torch.arange(30) - 1) * hop / 0.5
    for chosen, metre in ((None, 4), (3, 3)):
        found = cascade.beat_conditioning(sketcher, 30, generator, tempo=120.0, metre=chosen)
        expected = torch.stack([beat.sin(), beat.cos(), (beat / metre).sin(), (beat / metre).cos()])
        torch.testing.assert_close(found, expected[None], rtol=0, atol=1e-5)
    assert cascade.beat_conditioning(sketcher, 30, generator, tempo=0) is None


def test_a_tempo_that_is_left_open_is_that_of_a_training_song(sketcher):
    generator = torch.Generator().manual_seed(7)
    found = cascade.beat_conditioning(sketcher, 30, generator)
    tempi = sorted({float(row["tempo"]) for row in corpus.table("band") if row["split"] == "train"})
    assert len(tempi) > 10
    alike = [torch.equal(found, cascade.beat_conditioning(sketcher, 30, generator, tempo)) for tempo in tempi]
    assert sum(alike) == 1


def test_sketches_around_given_stems(sketcher):
    """The given stems are returned unchanged, and have an effect; one sketch for each generator."""
    sketching, given = Windowed(sketcher), torch.randn(1, 4, 96, 20)
    band = cascade.sample_sketch(sketching, 20, torch.Generator().manual_seed(1), given=given, stems=[1, 3])
    assert band.shape == (1, 4, 96, 20) and torch.isfinite(band).all()
    assert torch.equal(band[:, [1, 3]], given[:, [1, 3]]) and not torch.isclose(band[:, 0], given[:, 0]).all()
    two = cascade.sample_sketch(sketching, 20, [torch.Generator().manual_seed(seed) for seed in (1, 2)])
    one = cascade.sample_sketch(sketching, 20, torch.Generator().manual_seed(2))
    assert two.shape == (2, 4, 96, 20)
    torch.testing.assert_close(two[1:], one, rtol=1e-3, atol=1e-2)


def test_network_evaluations_of_a_sketch(sketcher):
    """30 levels for each batch of windows; a weight takes the unconditional estimate too."""
    sketching = Windowed(sketcher, batch=1)
    span = sketcher.config.frames
    assert cascade.sketch_evaluations(None, span) == 0
    assert cascade.sketch_evaluations(sketching, span) == 30
    assert cascade.sketch_evaluations(sketching, span, weight=2.0) == 60
    assert cascade.sketch_evaluations(sketching, span + 1, items=3) == 30 * 2 * 3
