from msdm_lite.data import corpus, midi, variation


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
