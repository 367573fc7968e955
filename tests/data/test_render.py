import hashlib
import sys
from types import SimpleNamespace

import mido
import numpy as np
import pytest

from msdm_lite.audio import io as audio_io
from msdm_lite.audio import levels
from msdm_lite.data import corpus, midi, render, variation
from msdm_lite.errors import InputError, MachineError


def synthesizer():
    try:
        with render._synth(render.default_soundfont()):
            return
    except InputError as problem:
        pytest.skip(str(problem))


def test_sound_before_the_crop_is_not_in_it():
    synthesizer()
    events = midi.events(midi.read(corpus.songs("val", "band")[0].midi()))
    first = render.render_stem(events, "bass", 3.0)
    render.render_stem(events, "drums", 2.99)
    assert np.array_equal(render.render_stem(events, "bass", 3.0), first)


def test_an_inaudible_stem_is_left_silent():
    """A family that plays at volume 1 of 127 is not brought up to the level of a band, with all its noise."""
    rng = np.random.default_rng(0)
    stems = rng.standard_normal((2, 22050)).astype(np.float32) * [[0.1], [1e-5]]
    levelled = levels.equal_rms(stems)
    assert levelled[0].std() == pytest.approx(levels.STEM_RMS, rel=0.05) and not levelled[1].any()


def test_a_soundfont_of_one_s_own(tmp_path, monkeypatch):
    monkeypatch.setenv("MSDM_LITE_SOUNDFONTS", str(tmp_path))
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("msdm_lite.data.debian.shutil.which", lambda name: None)
    monkeypatch.setitem(render.FONTS, "Nowhere", ("nowhere-gm", "usr/nowhere/Nowhere.sf2"))
    find = render.soundfont.__wrapped__
    with pytest.raises(MachineError, match=r"no apt-get.*put Nowhere\.sf2 into a folder"):
        find("Nowhere")
    (tmp_path / "Nowhere.sf2").write_bytes(b"no soundfont")
    assert find("Nowhere") == tmp_path / "Nowhere.sf2"


def test_another_version_of_a_soundfont_is_named(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MSDM_LITE_SOUNDFONTS", str(tmp_path))
    font = tmp_path / "FluidR3_GM.sf2"
    font.write_bytes(b"sounds otherwise")
    find = render.soundfont.__wrapped__
    assert find("FluidR3_GM") == font
    assert caplog.messages == [f"{font} is another version of FluidR3_GM than the corpus was rendered with (SHA-256 "
                               f"{hashlib.sha256(b'sounds otherwise').hexdigest()[:12]}): songs that it renders sound "
                               "otherwise"]
    monkeypatch.setitem(render.HASHES, "FluidR3_GM", (hashlib.sha256(b"sounds otherwise").hexdigest(),))
    caplog.clear()
    assert find("FluidR3_GM") == font and not caplog.messages
    assert set(render.HASHES) == set(render.FONTS)


def test_a_soundfont_that_is_none(monkeypatch):
    class Synth:
        def __init__(self, **_settings):
            self.deleted = False

        def setting(self, *_):
            pass

        def sfload(self, path):
            return -1

        def delete(self):
            made.append(self)

    made = []
    monkeypatch.setitem(sys.modules, "fluidsynth", SimpleNamespace(Synth=Synth))
    monkeypatch.setattr(render, "soundfont", lambda name: f"{name}.sf2")
    with pytest.raises(MachineError, match=r"cannot read the soundfont FluidR3_GM\.sf2"), render._synth("FluidR3_GM"):
        pass
    assert len(made) == 1  # closed all the same


def test_a_variation_sounds_in_another_key_and_as_loud(tmp_path):
    synthesizer()
    import librosa

    file = mido.MidiFile()
    track = mido.MidiTrack([mido.Message("program_change", program=0)])
    for _ in range(4):
        track += [mido.Message("note_on", note=57, velocity=90), mido.Message("note_off", note=57, time=960)]
    file.tracks.append(track)
    file.save(tmp_path / "a.mid")
    heard = {}
    for shift in (0, 3):
        font = render.default_soundfont()
        wave = render.render(tmp_path / "a.mid", variation=variation.Variation({"piano": 4}, shift, font))[3]
        assert levels.active_rms(wave) == pytest.approx(levels.STEM_RMS, rel=0.01)
        heard[shift] = float(np.median(librosa.yin(wave, fmin=100, fmax=500, sr=audio_io.SAMPLE_RATE)))
    assert heard[0] == pytest.approx(220, rel=0.01) and heard[3] == pytest.approx(220 * 2 ** (3 / 12), rel=0.01)


def test_loudness_is_that_of_the_standard():
    """A sine of 997 Hz at full scale in one channel is -3.01 LUFS (ITU-R BS.1770-4)."""
    pytest.importorskip("pyloudnorm", reason="pyloudnorm is not installed")
    wave = np.sin(2 * np.pi * 997 * np.arange(5 * audio_io.SAMPLE_RATE) / audio_io.SAMPLE_RATE)
    assert levels.integrated_loudness(wave) == pytest.approx(-3.01, abs=0.1)
    assert levels.integrated_loudness(np.zeros(22050)) == float("-inf")
    stems = np.stack([0.9 * wave, 0.01 * wave, 0 * wave]).astype(np.float32)
    gains = levels.loudness_gains(stems, target=-3.0)
    assert gains[2] == 0 and gains[1] / gains[0] == pytest.approx(90, rel=0.01)
    assert np.abs((stems * gains[:, None]).sum(0)).max() <= 0.99 + 1e-6
