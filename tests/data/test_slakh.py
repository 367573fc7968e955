"""Slakh2100 as people have it: what lies on the disk counts, and a bad line costs a stem, not the song."""

import sys
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msdm_lite.data import readers, slakh
from msdm_lite.errors import InputError
from tests.sounds import band, sound


def names(tracks):
    return [(track.name, track.split) for track in tracks]


HEAD = """UUID: 1a81ae092884234f3264e2f45927f00a
audio_dir: Track00001/stems
lmd_midi_dir: lmd_matched/O/O/H/TROOHTB128F931F9DF/1a81ae092884234f3264e2f45927f00a.mid
midi_dir: Track00001/MIDI
normalization_factor: -13.0
normalized: true
overall_gain: 0.18270259567062658
stems:
"""
STEM = """  S{:02d}:
    audio_rendered: {}
    inst_class: {}
    integrated_loudness: -12.82074180245363
    is_drum: {}
    midi_program_name: Acoustic Grand Piano
    midi_saved: true
    plugin_name: None
    program_num: {}
"""
KINDS = [("Guitar", 30), ("Drums", 128), ("Piano", 1), ("Bass", 33), ("Strings (continued)", 52), ("Organ", 17),
         ("Sound Effects", 103), ("Guitar", 26), ("Guitar", 30), ("Organ", 22)]  # the example's


def metadata(kinds=KINDS, unrendered=(6,)):
    stems = (STEM.format(n, str(n not in unrendered).lower(), kind, str(kind == "Drums").lower(), program)
             for n, (kind, program) in enumerate(kinds))
    return HEAD + "".join(stems) + "target_peak: -1.0\n"


def slakh_track(folder, ending=".flac", kinds=KINDS, unrendered=(6,)):
    for number in range(len(kinds)):
        if number not in unrendered:
            sound(folder / "stems" / f"S{number:02d}{ending}", rate=44100, value=0.05 * (number + 1))
    sound(folder / f"mix{ending}")
    (folder / "metadata.yaml").write_text(metadata(kinds, unrendered))
    return folder


@pytest.mark.parametrize("ending", [".flac", ".wav"])
def test_slakh_sums_by_class(tmp_path, ending, said):
    slakh_track(tmp_path / "Track00001", ending)
    (track,) = readers.slakh(tmp_path)
    assert {stem: [path.stem for path in paths] for stem, paths in track.files.items()} == {
        "bass": ["S03"], "drums": ["S01"], "guitar": ["S00", "S07", "S08"], "piano": ["S02"]}
    assert track.read()[:, 2205] == pytest.approx([0.2, 0.1, 0.05 + 0.4 + 0.45, 0.15], abs=1e-3)
    assert not said() and readers.find(tmp_path) == [track] == readers.find(tmp_path / "Track00001")


def test_slakh_splits(tmp_path):
    for number, split in enumerate(("train", "validation", "test", "omitted")):
        slakh_track(tmp_path / split / f"Track0000{number}", kinds=KINDS[:2])
    tracks = readers.find(tmp_path)
    assert [track.split for track in tracks] == ["train", "val", "test", None]
    assert {track.source for track in tracks} == {"slakh"} and tracks[0].name == "Track00000"


def test_slakh_stems_that_were_not_rendered_or_are_gone(tmp_path, said):
    slakh_track(tmp_path / "Track00001", unrendered=(0, 7, 8, 6))
    (tmp_path / "Track00001" / "stems" / "S03.flac").unlink()
    slakh_track(tmp_path / "Track00002", kinds=[("Organ", 17)])
    (track,) = readers.find(tmp_path)
    assert list(track.files) == ["drums", "piano"]
    assert "names the stem S03, and there is no such file" in said()[0] and "Track00002 has no bass" in said()[1]


@pytest.mark.parametrize("text", ["", "stems: 3", "[1]", "stems: {S00: 3}", "stems: {S00: {program_num: 3}}", "x: [",
                                  "!!python/object:os.system {}", "\x00", "stems: 2020-99-99", "[" * 3000,
                                  "stems: {S00: {inst_class: 5}}"])
def test_slakh_metadata_that_is_broken(tmp_path, text, said):
    slakh_track(tmp_path / "Track00001", kinds=KINDS[:2])
    slakh_track(tmp_path / "Track00002", kinds=KINDS[:2])
    (tmp_path / "Track00002" / "metadata.yaml").write_text(text)
    assert names(readers.find(tmp_path)) == [("Track00001", None)]
    (line,) = said()
    assert str(tmp_path / "Track00002" / "metadata.yaml") in line and "Track00002 is left out" in line


def test_slakh_needs_pyyaml(tmp_path, monkeypatch):
    slakh_track(tmp_path / "Track00001", kinds=KINDS[:2])
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(InputError, match="pip install pyyaml"):
        readers.find(tmp_path)


def test_slakh_as_the_papers_code_expects_it(tmp_path, said):
    for number, split in enumerate(("train", "validation", "test")):
        band(tmp_path / split / f"Track0000{number}")
        (tmp_path / split / f"Track0000{number}" / "metadata.yaml").write_text(metadata())  # left by who converted
    sound(tmp_path / "train" / "song_bass.wav")
    tracks = readers.slakh_msdm(tmp_path)
    assert names(tracks) == [("Track00000", "train"), ("Track00001", "val"), ("Track00002", "test")]
    assert readers.find(tmp_path) == tracks and {track.source for track in tracks} == {"slakh_msdm"} and not said()


def test_what_lies_on_the_disk_counts(tmp_path, said):
    """BabySlakh: `audio_rendered: false` everywhere, and the sound is there."""
    slakh_track(tmp_path / "Track00001", ".wav", KINDS[:4], unrendered=())
    (tmp_path / "Track00001" / "metadata.yaml").write_text(metadata(KINDS[:4], unrendered=range(4)))
    (track,) = readers.find(tmp_path)
    assert {stem: [path.name for path in paths] for stem, paths in track.files.items()} == {
        "bass": ["S03.wav"], "drums": ["S01.wav"], "guitar": ["S00.wav"], "piano": ["S02.wav"]}
    assert track.read()[:, 2205] == pytest.approx([0.2, 0.1, 0.05, 0.15], abs=1e-3) and not said()


def test_other_kinds_of_files(tmp_path, said):
    slakh_track(tmp_path / "Track00001", ".ogg", KINDS[:2])
    slakh_track(tmp_path / "Track00001", ".flac", KINDS[:1])
    (tmp_path / "Track00001" / "metadata.yaml").write_text(metadata(KINDS[:2]))
    (track,) = readers.find(tmp_path)
    assert [path.name for paths in track.files.values() for path in paths] == ["S01.ogg", "S00.flac"] and not said()


@pytest.mark.parametrize(("line", "reason"), [
    ("inst_class: Theremin", "S00 (theremin)"), ("inst_class: null", "S00 (null)"), ("inst_class: 5", "S00 (5)"),
    ("inst_class: [Bass]", "S00 (none)"), ("program_num: 3", "S00 (none)"), ("inst_class:", "S00 (none)"),
])
def test_a_stem_of_unknown_class_is_left_out_and_not_the_song(tmp_path, said, line, reason):
    slakh_track(tmp_path / "Track00001", kinds=KINDS[:4])
    path = tmp_path / "Track00001" / "metadata.yaml"
    path.write_text(path.read_text().replace("inst_class: Guitar", line))
    (track,) = readers.find(tmp_path)
    assert list(track.files) == ["bass", "drums", "piano"]
    assert said() == [f"Track00001: of unknown class, and left out: {reason}"]


def test_the_published_example_has_no_unknown_class(tmp_path, said):
    """Organ, strings and sound effects are left out without a word, as in the paper."""
    slakh_track(tmp_path / "Track00001")
    assert list(slakh.stem_files(tmp_path / "Track00001", ("drums",))) == ["drums"] and not said()


def test_a_split_given_as_the_folder(tmp_path):
    for split in ("train", "test"):
        slakh_track(tmp_path / split / "Track00001", kinds=KINDS[:2])
    for split in ("train", "test"):
        for layout in ("auto", "slakh"):
            assert names(readers.find(tmp_path / split, layout)) == [("Track00001", split)]
    slakh_track(tmp_path / "songs" / "test", kinds=KINDS[:2])
    slakh_track(tmp_path / "songs" / "other", kinds=KINDS[:2])
    assert names(readers.find(tmp_path / "songs")) == [("other", None), ("test", None)]


def bomb(depth: int, merge: bool) -> str:
    """Lists, or mappings that are merged, of nine of the one before."""
    lines = ["a0: &a0 {x: 1}"]
    for n in range(depth):
        nine = ", ".join([f"*a{n}"] * 9)
        lines.append(f"a{n + 1}: &a{n + 1} {{<<: [{nine}]}}" if merge else f"a{n + 1}: &a{n + 1} [{nine}]")
    return "\n".join([*lines, f"stems: *a{depth}"])


@pytest.mark.parametrize("text", [
    bomb(12, merge=True), bomb(12, merge=False), "stems: &s {S00: *s}", "stems: {S00: " + "[" * 100_000,
    "stems: 1" + ":59" * 80_000, "x" * (300 << 10), "stems: {? [[[]]] : 3}", "stems: {\x00: 3}", "- " * 50_000,
    "%YAML 9.9\n---\nstems: {}", "--- 1\n--- 2", "stems: {'../../etc/passwd': {inst_class: Bass}}", "\ufeff",
    "stems: !!python/object/apply:os.system ['true']", "stems: {S00: !!binary 'x'}", "stems: {? {a: b} : {}}",
])
def test_hostile_metadata_is_one_line(tmp_path, text):
    """Bombs of aliases, depth, numbers of base 60, names that lead out of the folder."""
    (tmp_path / "metadata.yaml").write_text(text, encoding="utf-8")
    tracemalloc.start()
    with pytest.raises(InputError, match="cannot be understood") as caught:
        slakh.stem_files(tmp_path, ("bass",))
    assert tracemalloc.get_traced_memory()[1] < 300e6 and "\n" not in str(caught.value)
    tracemalloc.stop()


VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
                      | st.sampled_from(["Bass", "drums", "Theremin"]),
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner,
                                                                                  max_size=3), max_leaves=9)
STEMS = st.dictionaries(st.sampled_from(["S00", "S01", "..", "a/b", "\x00", ""]),
                        st.fixed_dictionaries({}, optional={"inst_class": VALUES, "audio_rendered": VALUES}) | VALUES)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.one_of(
    st.binary(max_size=200),
    st.text(st.sampled_from("stemS01: &*<>[]{}-?!|%@#'\"\n\t,inst_clasBr"), max_size=120).map(str.encode),
    STEMS.map(lambda stems: dumped({"stems": stems})), VALUES.map(lambda value: dumped(value))))
def test_any_metadata_is_read_or_refused_with_one_line(tmp_path_factory, raw):
    place = tmp_path_factory.mktemp("any")
    (place / "metadata.yaml").write_bytes(raw)
    (place / "stems").mkdir()
    (place / "stems" / "S00.wav").touch()
    try:
        files = slakh.stem_files(place, ("bass", "drums"))
    except InputError as problem:
        assert "\n" not in str(problem)
    else:
        assert all(paths == [place / "stems" / "S00.wav"] for paths in files.values())


def dumped(value) -> bytes:
    import yaml
    return yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass")
