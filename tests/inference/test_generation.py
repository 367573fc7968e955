import pytest
import torch

import msdm_lite
from msdm_lite.errors import InputError
from msdm_lite.inference import generation


@pytest.mark.parametrize("seconds", [0.1, 1.0, 3.3])
def test_bands_have_the_length_that_was_asked_for(tiny, seconds):
    bands = msdm_lite.generate(tiny, seconds, n=2, steps=3)
    assert bands.shape == (2, 4, round(seconds * 22050)) and bands.dtype == torch.float32
    assert (bands.square().mean(-1) > 0).all()


def test_a_band_depends_on_its_seed_and_number_alone(tiny):
    three, one, other = (msdm_lite.generate(tiny, 0.5, n, seed, steps=3) for n, seed in ((3, 1), (1, 1), (1, 2)))
    assert torch.equal(three[0], one[0]) and not torch.equal(one, other) and not torch.equal(three[0], three[1])


@pytest.mark.parametrize("settings, says", [({"n": 0}, "cannot be made"), ({"seconds": 0.0}, "cannot be made"),
                                            ({"seconds": float("nan")}, "cannot be made"), ({"seed": -1}, "a seed is"),
                                            ({"method": "magic"}, "no method"), ({"steps": 0}, "no schedule"),
                                            ({"sampler": "magic"}, "no sampler"), ({"sigma_max": -1.0}, "no schedule")])
def test_bands_that_cannot_be_made(tiny, settings, says):
    with pytest.raises(InputError, match=says):
        msdm_lite.generate(tiny, **{"seconds": 0.5} | settings)


def test_a_sketcher_alone_makes_no_sound(sketcher):
    with pytest.raises(InputError, match="no sound"):
        msdm_lite.generate(sketcher, 0.5, steps=2)
    with pytest.raises(InputError, match="no sound"):
        msdm_lite.separate(torch.randn(22050), sketcher)


def test_bands_that_are_made_together_are_those_made_alone(tiny):
    one, three = (msdm_lite.generate(tiny, 0.5, 5, 1, steps=3, batch=batch) for batch in (1, 3))
    assert (one - three).abs().max() < 1e-3 * one.abs().max()
    with pytest.raises(InputError, match="one or more"):
        msdm_lite.generate(tiny, 0.5, batch=0)


def test_bands_come_one_by_one_as_they_are_made(tiny, monkeypatch):
    """Each is there before the network is asked for the next."""
    expected, made = generation.generate(tiny, 0.5, 3, seed=4, steps=2), []
    decode = generation.decode
    monkeypatch.setattr(generation, "decode", lambda *arguments: made.append(1) or decode(*arguments))
    bands = generation.generate_each(tiny, 0.5, 3, seed=4, steps=2, batch=1)
    for number, band in enumerate(bands):
        assert len(made) == number + 1 and band.shape == (4, 11025) and torch.equal(band, expected[number])
    assert len(made) == 3
