"""The clips that ship, and the test songs that are frozen with them."""

import hashlib
import json
import re

from msdm_lite.audio.io import STEMS
from msdm_lite.data import corpus, example_clips
from msdm_lite.utils import paths
from tests.conftest import here


def test_clips_are_whole_and_from_test_songs():
    test = {s.name for s in corpus.songs("test")}
    found = example_clips.clips("band") + example_clips.clips("composed")
    assert len(example_clips.clips("band")) >= 24 and len(example_clips.clips("composed")) >= 6
    assert len({c["song"] for c in found}) == len(found)  # one clip a song
    for entry in found:
        path = paths.data("clips", f"{entry['name']}.flac")
        assert entry["song"] in test
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
        stems = example_clips.clip(entry["name"])
        assert stems.shape == (4, round(entry["seconds"] * 22050)) and stems.sum(0).abs().max() <= 1.0
        assert entry["licence"] and entry["stems"] == list(STEMS)
        if entry["kind"] == "band":
            assert (stems.square().mean(1).sqrt() > 0.005).all(), entry["name"]  # nobody is silent


def test_the_test_songs_of_the_program_are_those_that_results_were_measured_on():
    """Composed songs are compared when they are fetched."""
    listed = json.loads(paths.data("clips", "clips.json").read_text())["test_songs"]
    assert set(listed) == {song.name for song in corpus.songs("test")}
    band = corpus.songs("test", "band")
    assert len(band) == 62
    for song in band:
        assert hashlib.sha256(song.midi().read_bytes()).hexdigest() == listed[song.name], song.name


def test_recordings_among_the_clips():
    found = example_clips.clips("recording")
    assert len(found) == 2
    for entry in found:
        stems = example_clips.clip(entry["name"])
        assert entry["stems"] == ["guitar", "rest"] and stems.shape == (2, round(entry["seconds"] * 22050))
        assert stems.sum(0).abs().max() <= 1 and (stems.square().mean(1).sqrt() > 0.01).all()


def test_the_test_sets_are_frozen():
    """What every model is scored on: the list of test songs and their very notes."""
    listed = json.loads(paths.data("clips", "clips.json").read_text())["test_songs"]
    assert set(listed) == {song.name for song in corpus.songs("test")}
    read = [song for song in corpus.songs("test") if here(song)]  # of composed songs those whose package was fetched
    assert {song.name for song in read} >= {song.name for song in corpus.songs("test", "band")} and len(read) >= 60
    for song in read:
        assert hashlib.sha256(song.midi().read_bytes()).hexdigest() == listed[song.name], song.name
    chosen = [song.name for song in example_clips.choose("band", 24)]
    assert chosen == [clip["song"] for clip in example_clips.clips("band")]


def test_every_clip_that_people_wrote_has_its_licence_beside_it():
    """In the row of its own number: its title and its licence; and the text of the licence, here or in the folder."""
    listed = json.loads(paths.data("clips", "clips.json").read_text())["clips"]
    said = paths.data("clips", "LICENCES.md").read_text()
    called = {"Artistic-1.0": "Artistic License 1.0", "GPL-2.0": "GNU GPL, version 2", "BSD-3-Clause": "3-clause BSD",
              "CC-BY-SA-3.0": "CC BY-SA 3.0", "MIT": "MIT"}
    texts = {path.stem for path in paths.data("clips", "licences").iterdir()}
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
            assert paths.data("clips", f"{clip['song']}.mid").exists()
    assert said.count("Permission is hereby granted") == 2 and "Frank Wen" in said  # a recording's, the soundfont's
