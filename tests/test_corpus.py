import hashlib
import io
import json
import random

import mido
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from msdm_lite import compose, corpus, evaluate, midi, resources
from msdm_lite.audio import STEMS
from msdm_lite.errors import InputError


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
    with pytest.raises(InputError, match="x.mid"):
        midi.read(tmp_path / "x.mid")
    with pytest.raises(InputError, match="no such file"):
        midi.read(tmp_path / "none.mid")


def test_no_song_and_no_style_is_on_two_sides():
    songs = corpus.songs()
    assert len({s.name for s in songs}) == len(songs)
    sides: dict[str, set[str]] = {}
    for song in corpus.songs(source="band"):
        sides.setdefault(song.style, set()).add(song.split)
    assert all(len(found) == 1 for found in sides.values())
    assert {"train", "val", "test"} == {s.split for s in songs}
    notes = {}
    for song in corpus.songs(source="band"):
        key = hashlib.sha256(song.midi().read_bytes()).hexdigest()
        assert notes.setdefault(key, song.split) == song.split, f"{song.name} is a copy from another split"


def test_clips_are_whole_and_from_test_songs():
    test = {s.name for s in corpus.songs("test")}
    found = evaluate.clips("band") + evaluate.clips("composed")
    assert len(evaluate.clips("band")) >= 24
    assert len({c["song"] for c in found}) == len(found)  # one clip a song
    for entry in found:
        path = resources.data("clips", f"{entry['name']}.flac")
        assert entry["song"] in test
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
        stems = evaluate.clip(entry["name"])
        assert stems.shape == (4, round(entry["seconds"] * 22050)) and stems.sum(0).abs().max() <= 1.0
        if entry["kind"] == "band":
            assert (stems.square().mean(1).sqrt() > 0.005).all(), entry["name"]  # nobody is silent


def test_charts_and_splits_depend_on_the_seed_alone():
    a, b, c = (compose.draw(random.Random(seed), "x", "swing", "Swing") for seed in (1, 1, 2))
    assert a == b != c and "Groove Swing" in a.chart() and len(a.bars) > 30
    sizes = {f"style{i}": 1 + i % 5 for i in range(40)}
    sides = compose.split(sizes)
    assert sides == compose.split(dict(reversed(sizes.items())))
    share = sum(n for s, n in sizes.items() if sides[s] == "test") / sum(sizes.values())
    assert 0.1 < share < 0.2


@pytest.fixture
def rendered(tmp_path, monkeypatch):
    """Three songs in a cache of their own: ramps that say where in the song a crop comes from."""
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path))
    songs = [corpus.Song(f"song{i}", "band", "train", "x", "MIT") for i in range(3)]
    for i, song in enumerate(songs):
        song.audio().parent.mkdir(parents=True, exist_ok=True)
        ramp = np.arange(1000 * (i + 1), dtype=np.int16)
        np.save(song.audio(), np.stack([ramp + 5000 * k for k in range(4)]))
    return songs


def test_crops_are_the_same_for_any_number_of_workers(rendered):
    crops = corpus.Crops(rendered, 64, 12, seed=3)
    runs = [torch.cat(list(DataLoader(crops, 4, num_workers=n))) for n in (0, 2)]
    assert torch.equal(*runs) and runs[0].shape == (12, 4, 64) and runs[0].dtype == torch.float32
    assert not torch.equal(runs[0][0], runs[0][1])
    steps = (runs[0] * 32767).round().diff(dim=-1)
    assert (steps == 1).all()  # crops are whole pieces of songs, and stems stay aligned


def test_crops_longer_than_the_song_are_padded(rendered):
    crop = corpus.Crops(rendered[:1], 1500, 1)[0]
    assert crop.shape == (4, 1500) and not crop[:, 1000:].any() and crop[1, :1000].all()


def test_silence_and_gain_are_what_was_asked_for(rendered):
    mute = torch.stack([corpus.Crops(rendered, 64, 400, silence=0.25)[i] for i in range(400)])
    share = (mute[:, 1:].abs().amax(2) == 0).float().mean().item()
    assert abs(share - 0.25) < 0.05  # 1200 draws: standard error 0.0125
    plain, loud = (corpus.Crops(rendered, 64, 400, gain_db=g) for g in (0.0, 3.0))
    ratio = torch.stack([20 * torch.log10(loud[i][1:, 5] / plain[i][1:, 5]) for i in range(400)])
    assert abs(ratio.std().item() - 3) < 0.25 and abs(ratio.mean().item()) < 0.35


def test_songs_that_are_not_there(rendered):
    with pytest.raises(InputError, match="no songs"):
        corpus.Crops([], 64, 1)
    missing = corpus.Song("missing", "band", "train", "x", "MIT")
    with pytest.raises(InputError, match="not rendered"):
        corpus.Crops([missing], 64, 1)
    with pytest.raises(IndexError):
        corpus.Crops(rendered, 64, 2)[2]


def test_clips_json_states_its_rule():
    listed = json.loads(resources.data("clips", "clips.json").read_text())
    assert "One window a song" in listed["rule"] and listed["seed"] == 0
