import json

import numpy as np
import pytest

from msdm_lite.audio.io import SAMPLE_RATE, STEMS
from msdm_lite.data import corpus
from msdm_lite.studies import data_card
from msdm_lite.utils.paths import data


@pytest.fixture(scope="module")
def found():
    return json.loads(data("results", "corpus.json").read_text())


def test_the_card_shows_what_was_measured(found):
    text = data("README.md").read_text()
    assert text.split("<!-- measured -->\n")[1].split("\n<!-- end -->")[0] == data_card.tables(found)


def test_what_was_measured_is_the_corpus_that_ships(found):
    for kind, side in ((kind, side) for kind in ("band", "composed") for side in data_card.SIDES):
        rows = [row for row in corpus.table(kind) if row["split"] == side]
        assert found["minutes"][f"{kind} {side}"]["songs"] == len(rows)
        assert found["minutes"][f"{kind} {side}"]["minutes"] == pytest.approx(
            sum(float(row["seconds"]) for row in rows) / 60, abs=0.06)
    assert found["genres"] == data_card.genres()
    assert all(row["songs over a fifth"] == 0 for name, row in found["kinship"].items() if "all stems" in name)


def test_balancing_does_what_it_says(found):
    """Medians of families as played lie decibels apart; balanced, they lie together in what they were balanced by."""
    def apart(when):
        middles = [np.median(found["levels"][when][stem]) for stem in STEMS]
        return max(middles) - min(middles)

    assert apart("rms, as played") > 3
    assert apart("rms, balanced by rms") < 0.1
    assert apart("loudness, balanced by loudness") < 0.1


def test_pictures(found, tmp_path):
    for path in data_card.draw(found, tmp_path):
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000


def test_spectrum_of_a_tone(monkeypatch):
    """A bass that is one sine has its highest band where the sine is, and nothing elsewhere."""
    class Tone:
        def read(self, start=0, count=None):
            wave = np.zeros((4, count), np.float32)
            wave[0] = np.sin(2 * np.pi * 440 * np.arange(count) / SAMPLE_RATE)
            return wave

    monkeypatch.setattr(corpus, "songs", lambda source=None: [Tone()])
    monkeypatch.setattr(data_card, "recordings", list)
    out = data_card.spectra()
    hertz, power = np.array(out["hertz"]), np.array(out["band bass"])
    top = int(power.argmax())
    assert power[top] == 0 and abs(np.log(hertz[top] / 440)) < np.log(hertz[1] / hertz[0])
    assert np.delete(power, [top - 1, top, top + 1]).max() < -30
    assert max(out["band piano"]) == -90  # silence, at the floor


def test_spread_takes_every_kth():
    few, many = list(range(data_card.PER_SIDE - 1)), list(range(3 * data_card.PER_SIDE + 1))
    assert data_card.spread(few) == few
    assert data_card.spread(many) == many[: 3 * data_card.PER_SIDE : 3]
