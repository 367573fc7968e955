from msdm_lite.data import corpus, leakage, midi
from tests.conftest import here


def test_no_near_duplicate_crosses_a_split():
    """No song has over a fifth of its four-bar windows, all stems together, in a song of another side."""
    songs = [song for song in corpus.songs() if here(song)]
    train, val, test = ([song for song in songs if song.split == side] for side in ("train", "val", "test"))
    held = val + test
    assert len(train) >= 399 and len(held) >= 101  # the band songs at least: they need no download
    for ones, others in ((held, train), (test, val)):
        near = [like for like in leakage.similarity(ones, others) if like.share > leakage.NEAR_DUPLICATE]
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
    whole, half = (leakage.similarity([song], [other])[0].share for other in others[1:])
    assert whole == 1.0 and 0.2 < half < 1.0  # parts come again, so half a song holds more than half its windows
    assert leakage.similarity([song], others)[0].other is others[1]
    assert leakage.similarity([song], [song])[0].share == 0  # a song is not its own copy
