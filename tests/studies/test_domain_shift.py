import json

import numpy as np
import pytest
import torch

from msdm_lite.audio.io import STEMS
from msdm_lite.data import band_songs, corpus, midi, render
from msdm_lite.errors import InputError, MachineError
from msdm_lite.evaluation import metrics
from msdm_lite.inference.separation import separate
from msdm_lite.models import weights
from msdm_lite.studies import domain_shift

SONGS = corpus.songs("test", "band")


@pytest.fixture
def played(monkeypatch):
    """In the synthesizer's place: four tones, an octave up from another soundfont; each call is noted."""
    calls = []

    def tones(path, longest, variation):
        calls.append((path, longest, variation))
        t = np.arange(int(longest * 22050)) / 22050
        octave = 1 + (variation.soundfont != "FluidR3_GM")
        hertz = np.array([55, 3000, 440, 880]) * octave
        loud = 0.02 + 0.04 * np.random.default_rng(int(path.stem[-4:])).random(4)  # another balance in each song
        return (loud[:, None] * np.sin(2 * np.pi * hertz[:, None] * t)).astype(np.float32)

    monkeypatch.setattr(render, "render", tones)
    return calls


def test_other_programs_are_of_the_family_and_in_no_song_as_written():
    for song in SONGS[:20]:
        drawn = domain_shift.other_instruments(song.name)
        assert drawn == domain_shift.other_instruments(song.name) and tuple(drawn) == STEMS
        for stem, program in drawn.items():
            assert program not in band_songs.PROGRAMS[stem]
            assert stem == "drums" or midi.family(program) == stem


def test_domains_are_the_same_song_in_another_sound(played):
    domains = dict(domain_shift.domain_shifts(SONGS[0], 2.0))
    conditioning = domains[domain_shift.AS_IT_IS]
    assert len(domains) == 5 + 6 and all(stems.shape == conditioning.shape for stems in domains.values())
    assert {path for path, *_ in played} == {SONGS[0].midi()}
    assert {variation.soundfont for *_, variation in played} == set(render.FONTS)
    spectrum = domains["a quarter-tone sharp"][2].numpy() * np.hanning(conditioning.shape[1])
    top = np.abs(np.fft.rfft(spectrum)).argmax() / 2.0
    assert top == pytest.approx(440 * 2 ** (50 / 1200), abs=0.5)  # half a hertz is one bin of two seconds
    assert not domains["drums and piano"][[0, 2]].any()
    assert torch.equal(domains["drums and piano"][[1, 3]], conditioning[[1, 3]])


def test_every_domain_is_compared_with_the_same_songs_as_they_are(played, tmp_path):
    domain_shift.main(tmp_path / "domain.json", "tiny", n=8, seconds=1.0)
    found = json.loads((tmp_path / "domain.json").read_text())
    assert found["n"] == 8 and found["model_record"]["steps"] and "--model tiny --n 8" in found["command"]
    model, each = weights.load("tiny"), {}
    for song in SONGS[:8]:
        for name, stems in domain_shift.domain_shifts(song, 1.0):
            gain = metrics.si_sdr_improvement(separate(stems.sum(0), model), stems).nanmean()
            each.setdefault(name, []).append(gain.item())
    conditioning = np.array(each[domain_shift.AS_IT_IS])
    assert conditioning.std() > 0.1 and set(each) == set(found["domains"])
    for name, values in each.items():  # song by song, not mean by mean
        wanted = metrics.interval(values) | {"difference": metrics.interval(np.array(values) - conditioning)}
        world = found["domains"][name]
        assert world["difference"].pop("n") == wanted["difference"].pop("n") == 8
        assert world.pop("difference") == pytest.approx(wanted.pop("difference"), abs=1e-3)
        assert world == pytest.approx(wanted, abs=1e-3)
    with pytest.raises(InputError, match="one song or more"):
        domain_shift.main(tmp_path / "x.json", n=0)


def test_the_synthesizer_plays_them():
    try:
        domains = dict(domain_shift.domain_shifts(SONGS[0], 3.0))
    except MachineError as problem:
        pytest.skip(str(problem))
    conditioning = domains[domain_shift.AS_IT_IS]
    assert conditioning.shape == (4, 66150)
    for name in ("soundfont TimGM6mb", "soundfont MuseScore General", "other instruments", "a quarter-tone sharp"):
        alike = torch.cosine_similarity(domains[name].sum(0), conditioning.sum(0), 0)
        assert domains[name].abs().max() > 0.05 and alike < 0.9, name
