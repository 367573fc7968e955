import json

import numpy as np
import pytest
import torch

from msdm_lite import compose, corpus, domain, metrics, midi, render, weights
from msdm_lite.audio import STEMS
from msdm_lite.errors import InputError, MachineError
from msdm_lite.separation import separate

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


def test_strangers_are_of_the_family_and_in_no_song_as_written():
    for song in SONGS[:20]:
        drawn = domain.strangers(song.name)
        assert drawn == domain.strangers(song.name) and tuple(drawn) == STEMS
        for stem, program in drawn.items():
            assert program not in compose.PROGRAMS[stem]
            assert stem == "drums" or midi.family(program) == stem


def test_worlds_are_the_same_song_in_another_sound(played):
    worlds = dict(domain.worlds(SONGS[0], 2.0))
    known = worlds[domain.AS_IT_IS]
    assert len(worlds) == 5 + 6 and all(stems.shape == known.shape for stems in worlds.values())
    assert {path for path, *_ in played} == {SONGS[0].midi()}
    assert {variation.soundfont for *_, variation in played} == set(render.FONTS)
    spectrum = worlds["a quarter-tone sharp"][2].numpy() * np.hanning(known.shape[1])
    top = np.abs(np.fft.rfft(spectrum)).argmax() / 2.0
    assert top == pytest.approx(440 * 2 ** (50 / 1200), abs=0.5)  # half a hertz is one bin of two seconds
    assert not worlds["drums and piano"][[0, 2]].any()
    assert torch.equal(worlds["drums and piano"][[1, 3]], known[[1, 3]])


def test_every_world_stands_beside_the_same_songs_as_they_are(played, tmp_path):
    domain.main(tmp_path / "domain.json", "tiny", n=8, seconds=1.0)
    found = json.loads((tmp_path / "domain.json").read_text())
    assert found["n"] == 8 and found["model_record"]["steps"] and "--model tiny --n 8" in found["command"]
    model, each = weights.load("tiny"), {}
    for song in SONGS[:8]:
        for name, stems in domain.worlds(song, 1.0):
            gain = metrics.si_sdr_improvement(separate(stems.sum(0), model), stems).nanmean()
            each.setdefault(name, []).append(gain.item())
    known = np.array(each[domain.AS_IT_IS])
    assert known.std() > 0.1 and set(each) == set(found["worlds"])
    for name, values in each.items():  # song by song, not mean by mean
        wanted = metrics.interval(values) | {"difference": metrics.interval(np.array(values) - known)}
        world = found["worlds"][name]
        assert world["difference"].pop("n") == wanted["difference"].pop("n") == 8
        assert world.pop("difference") == pytest.approx(wanted.pop("difference"), abs=1e-3)
        assert world == pytest.approx(wanted, abs=1e-3)
    with pytest.raises(InputError, match="one song or more"):
        domain.main(tmp_path / "x.json", n=0)


def test_the_synthesizer_plays_them():
    try:
        worlds = dict(domain.worlds(SONGS[0], 3.0))
    except MachineError as problem:
        pytest.skip(str(problem))
    known = worlds[domain.AS_IT_IS]
    assert known.shape == (4, 66150)
    for name in ("soundfont TimGM6mb", "soundfont MuseScore General", "other instruments", "a quarter-tone sharp"):
        alike = torch.cosine_similarity(worlds[name].sum(0), known.sum(0), 0)
        assert worlds[name].abs().max() > 0.05 and alike < 0.9, name
