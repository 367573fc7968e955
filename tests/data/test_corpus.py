import hashlib
import multiprocessing
import random
import zlib

import numpy as np
import pytest

from msdm_lite.audio import levels as audio_levels
from msdm_lite.audio.io import STEMS
from msdm_lite.data import band_songs, corpus, midi, render
from msdm_lite.errors import InputError, MachineError
from msdm_lite.utils.files import written_whole
from tests.data.test_render import synthesizer


def test_every_song_that_ships_can_be_read():
    """All band songs: they parse, and all four stems play in most of their windows."""
    songs = corpus.songs(source="band")
    assert len(songs) >= 60
    for song in random.Random(0).sample(songs, 30):
        active = midi.activity(midi.read(song.midi()))
        assert min(active.get(stem, 0) for stem in STEMS) >= 0.6, song.name


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
        assert band_songs.family(row["style"]) == row["family"] == song.style
        assert band_songs.split(row["style"]) == song.split
        sides.setdefault(song.style, set()).add(song.split)
    assert all(len(found) == 1 for found in sides.values())
    assert {"train", "val", "test"} == {s.split for s in songs}
    notes = {}
    for song in corpus.songs(source="band"):
        key = hashlib.sha256(song.midi().read_bytes()).hexdigest()
        assert notes.setdefault(key, song.split) == song.split, f"{song.name} is a copy from another split"


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
    levels = [audio_levels.active_rms(row) for row in songs[0].read()]
    assert levels == pytest.approx([levels[0]] * 4, rel=0.01)  # alike, and turned down together where they would clip
    assert levels[0] <= audio_levels.STEM_RMS * 1.001
    loud = [corpus.replace(song, balance="loudness") for song in songs]
    assert not loud[0].ready and corpus.build(loud, 1, progress=False) == 2
    levels = [audio_levels.integrated_loudness(row) for row in loud[0].read()]
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
    song._mark().unlink()  # of an earlier version, or lost: nobody knows from which notes
    assert not song.ready
    corpus._render(song)
    assert len(played) == 3 and song.ready
    corpus._notes.cache_clear()


def test_a_song_killed_between_its_two_files_is_not_ready(tmp_path, monkeypatch):
    """Its sound, and then the mark of the notes that it was rendered from."""
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(render, "render", lambda path, variation: np.zeros((4, 9), np.float32))
    song = corpus.songs("val", "band")[0]

    def killed(path):
        if path == song._mark():
            raise KeyboardInterrupt
        return written_whole(path)

    for earlier in (False, True):
        if earlier:
            corpus._render(song)
            song._mark().write_text("other notes")  # they were composed anew
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(corpus, "written_whole", killed)
            corpus._render(song)
        assert not song.ready and song.audio().exists()
    corpus._render(song)
    assert song.ready and song._mark().exists()


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


def _from_notes(path, variation):
    """Sound that depends on the notes alone, in place of a synthesizer."""
    return np.random.default_rng(zlib.crc32(path.read_bytes())).uniform(-0.5, 0.5, (4, 3000)).astype(np.float32)


def _contents(root):
    return {path.name: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="the stand-ins are inherited")
def test_several_workers_and_several_builders_make_what_one_makes(tmp_path, monkeypatch):
    """One worker, three workers, and two builds at once on one cache: the same files, and none half-written."""
    context = multiprocessing.get_context("fork")
    pool = corpus.ProcessPoolExecutor
    monkeypatch.setattr(corpus, "ProcessPoolExecutor", lambda *args, **settings: pool(*args, mp_context=context,
                                                                                      **settings))
    monkeypatch.setattr(render, "render", _from_notes)
    monkeypatch.setattr(render, "soundfont", lambda name: None)
    songs = corpus.songs("val", "band")[:7]
    made = {}
    for name, workers in (("one", 1), ("three", 3)):
        monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path / name))
        assert corpus.build(songs, workers, progress=False) == 7 and all(song.ready for song in songs)
        made[name] = _contents(tmp_path / name)
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path / "both"))
    builders = [context.Process(target=corpus.build, args=(songs, 2), kwargs={"progress": False}) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(120)
    assert [builder.exitcode for builder in builders] == [0, 0]
    assert len(made["one"]) == 14 and made["one"] == made["three"] == _contents(tmp_path / "both")  # sound and notes
    assert np.array_equal(songs[2].read(), np.round(_from_notes(songs[2].midi(), None) * 32767).astype(np.float32)
                          / 32767)
    corpus._stems.cache_clear()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="the stand-ins are inherited")
def test_a_song_that_fails_is_named_and_the_others_are_made(tmp_path, monkeypatch):
    songs = corpus.songs("val", "band")[:4]

    def failing(path, variation):
        if path.stem == songs[1].name:
            raise InputError("no notes")
        return _from_notes(path, variation)

    context, pool = multiprocessing.get_context("fork"), corpus.ProcessPoolExecutor
    monkeypatch.setattr(corpus, "ProcessPoolExecutor", lambda *args, **settings: pool(*args, mp_context=context,
                                                                                      **settings))
    monkeypatch.setattr(render, "render", failing)
    monkeypatch.setattr(render, "soundfont", lambda name: None)
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=rf"1 of 4 songs could not be .* example {songs[1].name} \(no notes"):
        corpus.build(songs, 2, progress=False)
    assert [song.ready for song in songs] == [True, False, True, True]
