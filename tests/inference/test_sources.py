import io
from pathlib import Path

import pytest

from msdm_lite.errors import InputError
from msdm_lite.inference import sources

STEMS = ("bass", "drums", "guitar", "piano")


@pytest.mark.parametrize("name, stem", [
    ("drums", "drums"), ("Drums", "drums"), ("song_drums", "drums"), ("Guitar DI", "guitar"), ("BASS", "bass"),
    ("02-GuitarDI", "guitar"), ("Drum Kit", "drums"), ("My Band - Piano (take 2)", "piano"), ("bassoon", None),
    ("song", None), ("", None), ("kick", None), ("guitars_L", "guitar")])
def test_a_stem_is_found_in_a_name(name, stem):
    assert sources.stem_named(name, STEMS) == stem


def test_a_name_with_two_stems_is_refused():
    for name in ("bass guitar", "BassDrum", "piano and drums"):
        with pytest.raises(InputError, match=rf"{name} names .* and .*: say which, as in .*=FILE"):
            sources.stem_named(name, STEMS)


def test_stems_are_named_before_their_file_or_by_it(tmp_path, monkeypatch):
    """A file whose own name has an equals sign is found as it is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.wav").touch()
    words = ("Drums=kick.wav", "takes/Bass DI.flac", "a=b.wav", "piano=x=y.wav")
    assert sources.named_files(words, STEMS) == {"drums": Path("kick.wav"), "bass": Path("takes/Bass DI.flac"),
                                                 "a=b": Path("a=b.wav"), "piano": Path("x=y.wav")}
    assert sources.named_files((), STEMS) == {}
    with pytest.raises(InputError, match=r"bass is given twice: one\.wav and two/Bass\.wav"):
        sources.named_files(("bass=one.wav", "two/Bass.wav"), STEMS)


def test_a_folder_stands_for_its_sound_files(tmp_path, monkeypatch):
    for name in ("b.mp3", "A.WAV", "notes.txt", ".hidden.wav", "._b.mp3"):
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    assert sources.sound_files([str(tmp_path)]) == [tmp_path / "A.WAV", tmp_path / "b.mp3"]
    assert sources.sound_files([str(tmp_path / "b.mp3"), "-", str(tmp_path), "gone.wav"]) == [
        tmp_path / "b.mp3", Path("-"), tmp_path / "A.WAV", Path("gone.wav")]
    with pytest.raises(InputError, match="a folder without a sound file"):
        sources.sound_files([str(tmp_path / "folder.wav")])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sources.sound_files(["~/b.mp3"]) == [tmp_path / "b.mp3"]


def test_folders_of_files_of_one_name_are_told_apart():
    files = [Path(name) for name in ("a/song.mp3", "b/song.mp3", "b/Song.wav", "song-2.wav", "-", "...", "x.tar.gz")]
    names = sources.folder_names(files)
    assert names == ["song", "song-2", "Song-3", "song-2-2", "stdin", "song-4", "x.tar"]
    assert len({name.lower() for name in names}) == len(files)


def test_standard_input(monkeypatch):
    class Piped:
        buffer = io.BytesIO(b"sound")

        def isatty(self):
            return False

    monkeypatch.setattr("sys.stdin", Piped())
    with sources.at_hand(Path("-")) as path:
        assert path.read_bytes() == b"sound"
    assert not path.exists()
    with pytest.raises(InputError, match="standard input is empty"), sources.at_hand(Path("-")):
        pass
    monkeypatch.setattr(Piped, "isatty", lambda self: True)
    with pytest.raises(InputError, match="nothing comes from it"), sources.at_hand(Path("-")):
        pass
    with sources.at_hand(Path("x.wav")) as path:
        assert path == Path("x.wav")


def test_the_mix_is_found_among_given_stems():
    def split(files, given):
        return sources.mixes_and_given(files, given, STEMS)

    assert split(["song.mp3"], ["drums.wav"]) == (("song.mp3",), ("drums.wav",))
    assert split([], ["drums=kick.wav", "song.mp3"]) == (("song.mp3",), ("drums=kick.wav",))
    assert split([], ["song.mp3", "My Drums.wav"]) == (("song.mp3",), ("My Drums.wav",))
    for given in (["drums.wav", "bass.wav"], ["a.wav", "b.wav"], ["drums=kick.wav"]):
        with pytest.raises(InputError, match="not clear which file is the mix"):
            split([], given)
    with pytest.raises(InputError, match="no file is named"):
        split([], [])
