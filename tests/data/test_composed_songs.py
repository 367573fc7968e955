import hashlib
import io
import re
import struct
import zipfile

import mido
import pytest

from msdm_lite.data import composed_songs, corpus, debian, midi
from msdm_lite.errors import InputError
from msdm_lite.utils import paths


def wad(lumps, magic=b"IWAD", count=None, at=None):
    """A WAD file with (name, content) lumps."""
    body, entries = b"", []
    for name, content in lumps:
        entries.append(struct.pack("<ii8s", 12 + len(body), len(content), name.encode()))
        body += content
    return struct.pack("<4sii", magic, len(lumps) if count is None else count, 12 + len(body) if at is None else at) \
        + body + b"".join(entries)


def test_lumps_of_a_wad(tmp_path):
    path = tmp_path / "x.wad"
    path.write_bytes(wad([("D_E1M1", b"MThd one"), ("OTHER", b""), ("D_E1M2", b"MThd two")]))
    assert composed_songs.lump(path, "D_E1M1") == b"MThd one" and composed_songs.lump(path, "D_E1M2") == b"MThd two"
    with pytest.raises(InputError, match="no lump D_E9M9"):
        composed_songs.lump(path, "D_E9M9")


@pytest.mark.parametrize(("content", "says"), [
    (b"", "not a WAD"), (b"ZWAD" + bytes(20), "not a WAD"),
    (wad([("D_A", b"x")], at=10**6), "directory"), (wad([("D_A", b"x")], count=10**6), "directory"),
    (wad([("D_A", b"x")], count=-1), "directory"), (wad([("D_A", b"x")], at=-5), "directory"),
    (wad([])[:8] + struct.pack("<i", 12) + struct.pack("<ii8s", 4, 10**6, b"D_A"), "no lump"),
    (struct.pack("<4sii", b"IWAD", 1, 12) + struct.pack("<ii8s", 4, 10**6, b"D_A"), "outside the file"),
    (struct.pack("<4sii", b"IWAD", 1, 12) + struct.pack("<ii8s", -4, 8, b"D_A"), "outside the file"),
    (struct.pack("<4sii", b"IWAD", 1, 12) + struct.pack("<ii8s", 0, -8, b"D_A"), "outside the file"),
])
def test_wads_that_lie(tmp_path, content, says):
    path = tmp_path / "x.wad"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        composed_songs.lump(path, "D_A")


def test_members_of_a_zip(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("Books/A Course/01-Start.mid", b"MThd")
        file.writestr("../../evil.mid", b"MThd evil")
        file.writestr("bomb.mid", bytes(composed_songs.LARGEST + 1))
    assert composed_songs.member(path, "Books_A_Course_01_Start") == b"MThd"
    with pytest.raises(InputError, match="too large"):
        composed_songs.member(path, "bomb")
    with pytest.raises(InputError, match="no member"):
        composed_songs.member(path, "other")
    (tmp_path / "y.zip").write_bytes(b"PK no zip")
    with pytest.raises(InputError, match="zip file"):
        composed_songs.member(tmp_path / "y.zip", "a")


def test_songs_of_all_containers_and_nothing_outside_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path))
    root = paths.cache("debian")
    (root / "freedoom" / composed_songs.WADS).mkdir(parents=True)
    (root / "freedoom" / composed_songs.WADS / "freedoom1.wad").write_bytes(wad([("D_E1M1", b"MThd wad")]))
    book = root / "pianobooster" / composed_songs.BOOKS
    book.parent.mkdir(parents=True)
    with zipfile.ZipFile(book, "w") as file:
        file.writestr("B/c-1.mid", b"MThd zip")
    assert composed_songs.path("freedoom", "freedoom1_D_E1M1").read_bytes() == b"MThd wad"
    assert composed_songs.path("pianobooster", "B_c_1").read_bytes() == b"MThd zip"
    assert not list(tmp_path.rglob("*.part"))
    with pytest.raises(InputError, match="composed songs come from"):
        composed_songs.path("doom", "x")


def test_a_test_song_of_another_version_of_its_package_is_refused(tmp_path, monkeypatch):
    """Results hold for the notes that they were measured on; training songs may differ."""
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path))
    song = corpus.songs("test", "openttd-openmsx")[0]
    train = corpus.songs("train", "openttd-openmsx")[0]
    folder = paths.cache("debian", "openttd-openmsx") / composed_songs.FOLDERS["openttd-openmsx"]
    folder.mkdir(parents=True)
    for name in (song.name, train.name):
        (folder / f"{name}.mid").write_bytes(b"other notes")
    with pytest.raises(InputError, match=f"{re.escape(song.name)}.mid is not the test song .* is another version"):
        song.midi()
    assert train.midi().read_bytes() == b"other notes"
    measured = composed_songs.frozen() | {song.name: hashlib.sha256(b"other notes").hexdigest()}
    monkeypatch.setattr(composed_songs, "frozen", lambda: measured)
    assert song.midi() == folder / f"{song.name}.mid"
    song.midi().unlink()
    with pytest.raises(InputError, match=f"has no song {re.escape(song.name)}"):
        song.midi()


def test_without_apt(tmp_path, monkeypatch):
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path))
    monkeypatch.setattr(debian.shutil, "which", lambda name: None)
    song = corpus.songs(source="freedoom")[0]
    with pytest.raises(InputError, match=r"freedoom.*no apt-get.*--skip"):
        corpus.build([song], progress=False)
    assert corpus.build([song], skip=True, progress=False) == 0


def notes(tmp_path, places, program=0, drums=()):
    file = mido.MidiFile(ticks_per_beat=480)
    events = [(at, mido.Message("note_on", note=60, velocity=80)) for at in places]
    events += [(at, mido.Message("note_on", note=38, velocity=80, channel=9)) for at in drums]
    track, now = mido.MidiTrack([mido.Message("program_change", program=program)]), 0
    for at, message in sorted(events, key=lambda e: e[0]):
        track.append(message.copy(time=int(at * 480) - now))
        now = int(at * 480)
    file.tracks.append(track)
    raw = io.BytesIO()
    file.save(file=raw)
    (tmp_path / "x.mid").write_bytes(raw.getvalue())
    return tmp_path / "x.mid"


def test_genres_follow_their_rules(tmp_path):
    beats = list(range(16))
    for program, name in ((30, "rock"), (81, "electronic"), (38, "electronic"), (48, "orchestral"), (0, "pop")):
        assert composed_songs.genre("freedoom", notes(tmp_path, beats, program, beats)) == name
    swung = [beat + 2 / 3 for beat in beats]
    assert composed_songs.genre("freedoom", notes(tmp_path, beats, 0, swung)) == "swing"
    assert composed_songs.genre("freedoom", notes(tmp_path, beats, 0, [b + 0.5 for b in beats])) == "pop"
    assert composed_songs.genre("pianobooster", tmp_path / "not read.mid") == "course"


@pytest.mark.parametrize("package", composed_songs.PACKAGES)
def test_the_list_is_true(package):
    """Every listed song is in its package, its genre is what the rule says, and its families play as long as listed."""
    if not paths.cache("debian", package).is_dir():
        pytest.skip(f"{package} is not unpacked here: `msdm-lite data build` fetches it")
    rows = [row for row in corpus.table("composed") if row["package"] == package]
    assert rows
    for row in rows[::3]:
        path = composed_songs.path(package, row["name"])
        song = midi.read(path)
        assert composed_songs.genre(package, path) == row["genre"], row["name"]
        assert song.length == pytest.approx(float(row["seconds"]), abs=0.1)
        active = midi.activity(song)
        for stem in ("bass", "drums", "guitar", "piano"):  # listed to whole windows of two seconds
            assert abs(active.get(stem, 0) * song.length - float(row[stem])) <= 4 + 0.1 * song.length, row["name"]
