import hashlib
import io
import json
import random
import re
import sys
from types import SimpleNamespace

import mido
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from msdm_lite import audio, compose, corpus, cut, evaluate, leaks, midi, render, resources, variation
from msdm_lite.audio import STEMS
from msdm_lite.crops import Augmentation, Crops, window
from msdm_lite.errors import InputError, MachineError


def test_one_map_of_programs():
    assert [midi.family(p) for p in (0, 7, 8, 23, 24, 31, 32, 39, 40, 127)] == [
        "piano", "piano", None, None, "guitar", "guitar", "bass", "bass", None, None]
    assert midi.family(0, channel=9) == "drums"


def test_every_song_that_ships_can_be_read():
    """All band songs: they parse, and all four stems play in most of their windows."""
    songs = corpus.songs(source="band")
    assert len(songs) >= 60
    for song in random.Random(0).sample(songs, 30):
        active = midi.activity(midi.read(song.midi()))
        assert min(active.get(stem, 0) for stem in STEMS) >= 0.6, song.name


def test_an_impossible_key_signature_is_repaired(tmp_path):
    file = mido.MidiFile()
    track = mido.MidiTrack([mido.MetaMessage("key_signature", key="C"), mido.Message("note_on", note=60, velocity=64),
                            mido.Message("note_off", note=60, time=480)])
    file.tracks.append(track)
    raw = io.BytesIO()
    file.save(file=raw)
    broken = raw.getvalue().replace(b"\xff\x59\x02\x00\x00", b"\xff\x59\x02\x2a\x07")
    assert broken != raw.getvalue()
    (tmp_path / "broken.mid").write_bytes(broken)
    assert midi.read(tmp_path / "broken.mid").length == pytest.approx(0.5)


@pytest.mark.parametrize("content", [b"", b"no midi at all", b"MThd\x00\x00"])
def test_what_is_no_midi(tmp_path, content):
    (tmp_path / "x.mid").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.mid"):
        midi.read(tmp_path / "x.mid")
    with pytest.raises(InputError, match="no such file"):
        midi.read(tmp_path / "none.mid")


def test_there_is_as_much_as_the_data_card_says():
    table = corpus.table("band")
    assert len(table) >= 400 and len({row["style"] for row in table}) >= 60
    for column in ("key", "tempo", "groove", "bass", "guitar", "piano"):
        assert len({row[column] for row in table}) > 1, column
    assert len(corpus.songs("test", "band")) >= 60
    assert len(corpus.songs(source="composed")) >= 150
    with pytest.raises(InputError, match="split"):
        corpus.songs("valid")
    with pytest.raises(InputError, match="source"):
        corpus.songs(source="slakh")
    with pytest.raises(InputError, match="balance"):
        corpus.songs(balance="peak")


def test_no_song_and_no_groove_family_is_on_two_sides():
    songs = corpus.songs()
    assert len({s.name for s in songs}) == len(songs)
    sides: dict[str, set[str]] = {}
    for song, row in zip(corpus.songs(source="band"), corpus.table("band"), strict=True):
        assert compose.family(row["style"]) == row["family"] == song.style
        assert compose.split(row["style"]) == song.split
        sides.setdefault(song.style, set()).add(song.split)
    assert all(len(found) == 1 for found in sides.values())
    assert {"train", "val", "test"} == {s.split for s in songs}
    notes = {}
    for song in corpus.songs(source="band"):
        key = hashlib.sha256(song.midi().read_bytes()).hexdigest()
        assert notes.setdefault(key, song.split) == song.split, f"{song.name} is a copy from another split"


def here(song):
    """Can the song's notes be read without fetching anything?"""
    return song.source == "band" or resources.cache("debian", song.source).is_dir()


def test_no_near_duplicate_crosses_a_split():
    """No song has over a fifth of its four-bar windows, all stems together, in a song of another side."""
    songs = [song for song in corpus.songs() if here(song)]
    train, val, test = ([song for song in songs if song.split == side] for side in ("train", "val", "test"))
    held = val + test
    for ones, others in ((held, train), (test, val)):
        near = [like for like in leaks.likeness(ones, others) if like.share > leaks.NEAR_DUPLICATE]
        assert not near, near[:3]


def test_a_copy_in_another_key_is_found_out(tmp_path):
    song = corpus.songs("test", "band")[0]

    class Copy:
        def __init__(self, shift, keep):
            file = midi.read(song.midi())
            for track in file.tracks:
                for i, message in enumerate(track):
                    if message.type.startswith("note") and message.channel != midi.DRUM_CHANNEL:
                        track[i] = message.copy(note=message.note + shift)
            cut_at = int(keep * max(sum(m.time for m in track) for track in file.tracks))
            for track in file.tracks:
                tick = 0
                for i, message in enumerate(track):
                    tick += message.time
                    if tick > cut_at and message.type.startswith("note"):
                        track[i] = message.copy(note=(message.note * 7 + i) % 128)
            self.path = tmp_path / f"{shift}{keep}.mid"
            file.save(self.path)

        def midi(self):
            return self.path

    others = [corpus.songs("train", "band")[0], Copy(3, 1.0), Copy(-2, 0.5)]
    whole, half = (leaks.likeness([song], [other])[0].share for other in others[1:])
    assert whole == 1.0 and 0.2 < half < 1.0  # parts come again, so half a song holds more than half its windows
    assert leaks.likeness([song], others)[0].other is others[1]
    assert leaks.likeness([song], [song])[0].share == 0  # a song is not its own copy


def test_clips_are_whole_and_from_test_songs():
    test = {s.name for s in corpus.songs("test")}
    found = evaluate.clips("band") + evaluate.clips("composed")
    assert len(evaluate.clips("band")) >= 24 and len(evaluate.clips("composed")) >= 6
    assert len({c["song"] for c in found}) == len(found)  # one clip a song
    for entry in found:
        path = resources.data("clips", f"{entry['name']}.flac")
        assert entry["song"] in test
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
        stems = evaluate.clip(entry["name"])
        assert stems.shape == (4, round(entry["seconds"] * 22050)) and stems.sum(0).abs().max() <= 1.0
        assert entry["licence"] and entry["stems"] == list(STEMS)
        if entry["kind"] == "band":
            assert (stems.square().mean(1).sqrt() > 0.005).all(), entry["name"]  # nobody is silent


def test_recordings_among_the_clips():
    found = evaluate.clips("recording")
    assert len(found) == 2
    for entry in found:
        stems = evaluate.clip(entry["name"])
        assert entry["stems"] == ["guitar", "rest"] and stems.shape == (2, round(entry["seconds"] * 22050))
        assert stems.sum(0).abs().max() <= 1 and (stems.square().mean(1).sqrt() > 0.01).all()


def test_the_test_sets_are_frozen():
    """What every model is scored on: the list of test songs and their very notes."""
    listed = json.loads(resources.data("clips", "clips.json").read_text())["test_songs"]
    assert set(listed) == {song.name for song in corpus.songs("test")}
    for song in corpus.songs("test"):
        if here(song):
            assert hashlib.sha256(song.midi().read_bytes()).hexdigest() == listed[song.name], song.name
    chosen = [song.name for song in cut.choose("band", 24)]
    assert chosen == [clip["song"] for clip in evaluate.clips("band")]


def test_charts_depend_on_the_seed_alone():
    a, b, c = (compose.draw(random.Random(seed), "x", "swing", "Swing") for seed in (1, 1, 2))
    assert a == b != c and "Groove Swing" in a.chart() and len(a.bars) > 30
    assert compose.split("poprock") == compose.split("8beat") == "train"
    assert compose.split("shuffleboggie") == compose.split("shuffleboogie") == "val"


def test_variations_are_for_training_alone_and_can_be_switched_off():
    plain, varied = corpus.songs(), corpus.songs(variations=2)
    assert varied[: len(plain)] == plain
    more = varied[len(plain):]
    assert len(more) == 2 * len(corpus.songs("train")) and {song.split for song in more} == {"train"}
    assert not any(song.number for song in corpus.songs("test", variations=3))
    assert len({song.audio() for song in varied}) == len(varied)
    for name in ("programs", "transpose", "soundfonts"):
        kept = [variation.draw(song.name, 1, **{name: False}) for song in plain[:40]]
        full = [variation.draw(song.name, 1) for song in plain[:40]]
        off = {"programs": lambda v: v.programs == {}, "transpose": lambda v: v.transpose == 0,
               "soundfonts": lambda v: v.soundfont == variation.SOUNDFONTS[0]}
        assert all(off[name](v) for v in kept) and not all(off[name](v) for v in full)
        assert all(off[other](a) == off[other](b) for a, b in zip(kept, full, strict=True) for other in off
                   if other != name)
    assert len({variation.draw(song.name, 1).soundfont for song in plain[:40]}) == 2
    for stem, programs in variation.PROGRAMS.items():
        assert stem == "drums" or all(midi.family(p) == stem for p in programs)


@pytest.fixture
def rendered(tmp_path, monkeypatch):
    """Three songs in a cache of their own: ramps that say where in the song a crop comes from."""
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path))
    songs = [corpus.Song(f"song{i}", "band", "train", "x", "MIT") for i in range(3)]
    for i, song in enumerate(songs):
        song.audio().parent.mkdir(parents=True, exist_ok=True)
        ramp = np.arange(1000 * (i + 1), dtype=np.int16)
        np.save(song.audio(), np.stack([ramp + 5000 * k for k in range(4)]))
    yield songs
    corpus._stems.cache_clear()


def stems_of(crops):
    return torch.stack([crops[i]["stems"] for i in range(len(crops))])


def test_crops_are_the_same_for_any_number_of_workers(rendered):
    crops = Crops(rendered, 64, 12, seed=3)
    runs = [[batch for batch in DataLoader(crops, 4, num_workers=n)] for n in (0, 2)]
    a, b = (torch.cat([batch["stems"] for batch in run]) for run in runs)
    assert torch.equal(a, b) and a.shape == (12, 4, 64) and a.dtype == torch.float32
    assert not torch.equal(a[0], a[1])
    assert ((a * 32767).round().diff(dim=-1) == 1).all()  # whole pieces of songs, and stems stay aligned
    for batch in runs[1]:  # what it says about a crop is true
        for name, start, stems in zip(batch["name"], batch["start"], batch["stems"], strict=True):
            song = next(s for s in rendered if s.name == name)
            assert np.array_equal(song.read(int(start), 64), stems.numpy())


def test_crops_longer_than_the_song_are_padded(rendered):
    crop = Crops(rendered[:1], 1500, 1)[0]["stems"]
    assert crop.shape == (4, 1500) and not crop[:, 1000:].any() and crop[1, :1000].all()


def test_silence_and_gain_are_what_was_asked_for(rendered):
    mute = stems_of(Crops(rendered, 64, 400, augmentation=Augmentation(silence=0.25)))
    share = (mute[:, 1:].abs().amax(2) == 0).float().mean().item()
    assert abs(share - 0.25) < 0.05  # 1200 draws: standard error 0.0125
    plain, loud = (stems_of(Crops(rendered, 64, 400, augmentation=Augmentation(gain_db=g))) for g in (0.0, 3.0))
    ratio = 20 * torch.log10(loud[:, 1:, 5] / plain[:, 1:, 5])
    assert abs(ratio.std().item() - 3) < 0.25 and abs(ratio.mean().item()) < 0.35


def test_detuned_crops_are_one_tone_at_another_pitch():
    """Half the crops, up to so many cents, all stems alike, as long as the others."""

    class Tone:
        name, source, split, samples = "tone", "test", "train", 200_000

        def read(self, start, count):
            wave = 0.1 * np.sin(2 * np.pi * 0.01 * np.arange(start, start + count))
            return np.tile(wave.astype(np.float32), (4, 1))

    cents = []
    for crop in stems_of(Crops([Tone()], 8192, 80, augmentation=Augmentation(detune=50.0))):
        assert crop.shape == (4, 8192) and torch.equal(crop[0], crop[3])
        assert 0.09 < crop[0, 500:-500].abs().amax() < 0.11
        spectrum = np.abs(np.fft.rfft(crop[0].double().numpy() * np.hanning(8192), 2**20))
        cents.append(1200 * np.log2(spectrum.argmax() / 2**20 / 0.01))
    moved = np.abs(cents) > 0.5  # the spectrum's grid is 0.2 cents wide here
    assert 0.3 < moved.mean() < 0.7 and 40 < np.abs(cents).max() < 51  # 80 draws: standard error 0.056
    assert min(cents) < -20 and max(cents) > 20


def test_remixed_crops_take_their_stems_from_several_songs(rendered):
    crops = stems_of(Crops(rendered, 64, 50, augmentation=Augmentation(remix=1.0)))
    places = (crops[:, :, 0] * 32767).round() - 5000 * torch.arange(4)
    assert (places.std(1) > 0).float().mean() > 0.9
    together = stems_of(Crops(rendered, 64, 50))
    assert torch.allclose((together[:, :, 0] * 32767).round() - 5000 * torch.arange(4),
                          (together[:, :1, 0] * 32767).round(), atol=1)


def test_songs_that_are_not_there(rendered):
    with pytest.raises(InputError, match="no songs"):
        Crops([], 64, 1)
    missing = corpus.Song("missing", "band", "train", "x", "MIT")
    with pytest.raises(InputError, match="not rendered"):
        Crops([missing], 64, 1)
    with pytest.raises(IndexError):
        Crops(rendered, 64, 2)[2]
    test = corpus.replace(rendered[0], split="test")
    with pytest.raises(InputError, match="test songs"):
        Crops([test], 64, 1, augmentation=Augmentation(gain_db=1.0))
    assert Crops([test], 64, 1)[0]["name"] == "song0"


def test_a_window_is_where_all_stems_sound(tmp_path, monkeypatch):
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path))
    song = corpus.Song("late", "band", "test", "x", "MIT")
    song.audio().parent.mkdir(parents=True)
    stems = np.full((4, 20 * audio.SAMPLE_RATE), 2000, np.int16)
    stems[2, : 12 * audio.SAMPLE_RATE] = 0
    stems[3] = 0  # never plays: not asked of it
    np.save(song.audio(), stems)
    start = window(song, 4.0)
    assert start == window(song, 4.0) and start > 9 * audio.SAMPLE_RATE


def test_clips_json_states_its_rule():
    listed = json.loads(resources.data("clips", "clips.json").read_text())
    assert "One window a song" in listed["rule"] and listed["seed"] == 0


def synthesizer():
    try:
        with render._synth(render.default_soundfont()):
            return
    except InputError as problem:
        pytest.skip(str(problem))


def test_what_was_played_before_is_not_heard():
    synthesizer()
    events = midi.events(midi.read(corpus.songs("val", "band")[0].midi()))
    first = render.render_stem(events, "bass", 3.0)
    render.render_stem(events, "drums", 2.99)
    assert np.array_equal(render.render_stem(events, "bass", 3.0), first)


def test_a_stem_nobody_hears_is_left_silent():
    """A family that plays at volume 1 of 127 is not brought up to the level of a band, with all its noise."""
    rng = np.random.default_rng(0)
    stems = rng.standard_normal((2, 22050)).astype(np.float32) * [[0.1], [1e-5]]
    levelled = render.level(stems)
    assert levelled[0].std() == pytest.approx(audio.STEM_RMS, rel=0.05) and not levelled[1].any()


def test_building_is_taken_up_where_it_stopped(tmp_path, monkeypatch):
    synthesizer()
    songs = [corpus.replace(song, seconds=5.0) for song in corpus.songs("val", "band")[:2]]
    short = {song.name: tmp_path / f"{song.name}.mid" for song in songs}
    for song in songs:
        file = midi.read(song.midi())
        for track in file.tracks:
            tick = 0
            for i, message in enumerate(track):
                tick += message.time
                if tick > 8 * file.ticks_per_beat:
                    del track[i:]
                    break
        file.save(short[song.name])
    monkeypatch.setattr(corpus.Song, "midi", lambda self: short[self.name])
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path / "cache"))
    songs[0].audio().parent.mkdir(parents=True)
    scrap = songs[0].audio().with_suffix(".1.part")
    scrap.write_bytes(b"half a file")
    assert not songs[0].ready
    assert corpus.build(songs, 1, progress=False) == 2 and corpus.build(songs, 1, progress=False) == 0
    before = songs[1].audio().read_bytes()
    songs[1].audio().unlink()  # rendered second, by the same process; now it comes alone, and sounds the same
    corpus._stems.cache_clear()
    assert corpus.build(songs, 1, progress=False) == 1 and songs[1].audio().read_bytes() == before
    levels = [render.active_rms(row) for row in songs[0].read()]
    assert levels == pytest.approx([levels[0]] * 4, rel=0.01)  # alike, and turned down together where they would clip
    assert levels[0] <= audio.STEM_RMS * 1.001
    loud = [corpus.replace(song, balance="loudness") for song in songs]
    assert not loud[0].ready and corpus.build(loud, 1, progress=False) == 2
    levels = [render.loudness(row) for row in loud[0].read()]
    assert max(levels) - min(levels) < 0.1  # LUFS; all stems alike
    assert np.abs(loud[0].read().sum(0)).max() <= 1
    corpus._stems.cache_clear()


def test_the_sound_of_other_notes_is_not_its_sound(tmp_path, monkeypatch):
    """Band songs can be composed anew, under the same names."""
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(corpus.Song, "midi", lambda self: tmp_path / f"{self.name}.mid")
    played = []
    monkeypatch.setattr(render, "render", lambda path, variation: played.append(path) or np.zeros((4, 9), np.float32))
    song = corpus.songs("val", "band")[0]
    song.midi().write_bytes(b"some notes")
    for notes, times in ((b"some notes", 1), (b"some notes", 1), (b"other notes", 2)):
        song.midi().write_bytes(notes)
        corpus._notes.cache_clear()
        assert song.ready == (len(played) == times)
        corpus._render(song)
        assert len(played) == times and song.ready
    song._mark().unlink()  # of an earlier version, which marked nothing
    assert song.ready
    corpus._notes.cache_clear()


def test_a_soundfont_of_one_s_own(tmp_path, monkeypatch):
    monkeypatch.setenv("MSDM_LITE_SOUNDFONTS", str(tmp_path))
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("msdm_lite.debian.shutil.which", lambda name: None)
    monkeypatch.setitem(render.FONTS, "Nowhere", ("nowhere-gm", "usr/nowhere/Nowhere.sf2"))
    find = render.soundfont.__wrapped__
    with pytest.raises(MachineError, match=r"no apt-get.*put Nowhere\.sf2 into a folder"):
        find("Nowhere")
    (tmp_path / "Nowhere.sf2").write_bytes(b"no soundfont")
    assert find("Nowhere") == tmp_path / "Nowhere.sf2"


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


def test_building_without_room_or_soundfont_says_so_first(tmp_path, monkeypatch):
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path / "cache"))
    songs = corpus.songs("val", "band")[:2]

    def missing(name):
        raise MachineError("there is no soundfont")

    monkeypatch.setattr(render, "soundfont", missing)
    with pytest.raises(MachineError, match="there is no soundfont"):
        corpus.build(songs, 1, progress=False)
    monkeypatch.setattr(render, "soundfont", lambda name: None)
    monkeypatch.setattr(corpus.shutil, "disk_usage", lambda place: type("Usage", (), {"free": 1000}))
    with pytest.raises(InputError, match=r"the songs need .* GB in .*\$MSDM_LITE_CACHE names another place"):
        corpus.build(songs, 1, progress=False)


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
        assert render.active_rms(wave) == pytest.approx(audio.STEM_RMS, rel=0.01)
        heard[shift] = float(np.median(librosa.yin(wave, fmin=100, fmax=500, sr=audio.SAMPLE_RATE)))
    assert heard[0] == pytest.approx(220, rel=0.01) and heard[3] == pytest.approx(220 * 2 ** (3 / 12), rel=0.01)


def test_loudness_is_that_of_the_standard():
    """A sine of 997 Hz at full scale in one channel is -3.01 LUFS (ITU-R BS.1770-4)."""
    pytest.importorskip("pyloudnorm", reason="pyloudnorm is not installed")
    wave = np.sin(2 * np.pi * 997 * np.arange(5 * audio.SAMPLE_RATE) / audio.SAMPLE_RATE)
    assert render.loudness(wave) == pytest.approx(-3.01, abs=0.1)
    assert render.loudness(np.zeros(22050)) == float("-inf")
    stems = np.stack([0.9 * wave, 0.01 * wave, 0 * wave]).astype(np.float32)
    gains = render.loudness_gains(stems, target=-3.0)
    assert gains[2] == 0 and gains[1] / gains[0] == pytest.approx(90, rel=0.01)
    assert np.abs((stems * gains[:, None]).sum(0)).max() <= 0.99 + 1e-6


def test_every_clip_that_people_wrote_has_its_licence_beside_it():
    """In the row of its own number: its title and its licence; and the text of the licence, here or in the folder."""
    listed = json.loads(resources.data("clips", "clips.json").read_text())["clips"]
    said = resources.data("clips", "LICENCES.md").read_text()
    called = {"Artistic-1.0": "Artistic License 1.0", "GPL-2.0": "GNU GPL, version 2", "BSD-3-Clause": "3-clause BSD",
              "CC-BY-SA-3.0": "CC BY-SA 3.0", "MIT": "MIT"}
    texts = {path.stem for path in resources.data("clips", "licences").iterdir()}
    rows = {}
    for line in (line for line in said.splitlines() if re.match(r"\| `(composed|recording)_", line)):
        first, *last = re.findall(r"`(\w+)_(\d+)`", line.split("|")[1])
        for number in range(int(first[1]), int(last[-1][1] if last else first[1]) + 1):
            rows[f"{first[0]}_{number:02d}"] = line
    for clip in (clip for clip in listed if clip["kind"] != "band"):
        row = rows[clip["name"]]
        words = re.split(r"[^a-z0-9]+", re.sub(r"^\d+-|^freedoom2_|_redfarn$", "", clip["song"]).lower())
        assert all(word in row.lower() for word in words if len(word) > 2), clip["song"]
        assert called[clip["licence"]] in row.split("|")[4], clip["song"]
        if clip["licence"] in ("Artistic-1.0", "GPL-2.0", "CC-BY-SA-3.0"):
            assert clip["licence"] in texts
        if clip["licence"] == "GPL-2.0":  # which asks for the source too
            assert resources.data("clips", f"{clip['song']}.mid").exists()
    assert said.count("Permission is hereby granted") == 2 and "Frank Wen" in said  # a recording's, the soundfont's


def test_files_are_whole_or_not_there(tmp_path):
    target = tmp_path / "new" / "song.npy"
    with resources.whole(target) as scratch:
        scratch.write_bytes(b"all of it")
        assert not target.exists()
    for raised, expected in ((OSError(28, "No space left on device"), MachineError),
                             (PermissionError(13, "no"), PermissionError), (KeyboardInterrupt(), KeyboardInterrupt)):
        with pytest.raises(expected), resources.whole(target) as scratch:
            scratch.write_bytes(b"half")
            raise raised
        assert target.read_bytes() == b"all of it" and list(target.parent.iterdir()) == [target]
    with resources.whole(tmp_path / "a.json") as one, resources.whole(tmp_path / "a.jsonl") as other:
        one.write_text("1")
        other.write_text("2")
    assert (tmp_path / "a.json").read_text() == "1" and (tmp_path / "a.jsonl").read_text() == "2"
