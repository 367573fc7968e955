"""Sound files for tests: songs of stems, and files that cannot be read."""

import os
import zlib

import numpy as np
import pytest
import soundfile

from msdm_lite.audio import io as audio_io
from msdm_lite.audio.io import SAMPLE_RATE, STEMS

LEVELS = dict(zip(STEMS, (0.1, 0.2, 0.3, 0.4), strict=True))


def rng(*arguments):
    """Random numbers that depend on these arguments, and on no test that ran before."""
    return np.random.default_rng(zlib.crc32(repr(arguments).encode()))


def noise(seconds=0.5, rate=44100, channels=2):
    return (0.1 * rng(seconds, rate, channels).standard_normal((int(seconds * rate), channels))).astype(np.float32)


def sound(path, seconds=0.2, rate=SAMPLE_RATE, channels=1, value=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    count = round(seconds * rate)
    wave = rng(*path.parts[-2:], seconds, rate, channels).uniform(-0.5, 0.5,
                                                                  (count,
                                                                   channels)) if value is None else np.full((count,
                                                                                                             channels),
                                                                                                             value)
    soundfile.write(path, wave, rate, **({"subtype": "FLOAT"} if path.suffix.lower() == ".wav" else {}))
    return path


def band(folder, ending=".wav", stems=STEMS):
    for stem in stems:
        sound(folder / f"{stem}{ending}", value=LEVELS[stem])
    return folder


# Files that were never right


def bad_nothing(p):
    return p / "nothing.wav"


def bad_folder(p):
    (p / "folder.wav").mkdir()
    return p / "folder.wav"


def bad_empty(p):
    (p / "empty.wav").touch()
    return p / "empty.wav"


def bad_text(p):
    (p / "text.wav").write_text("this is not sound\n" * 50)
    return p / "text.wav"


def bad_flac(p):
    soundfile.write(p / "whole.flac", noise(3), 44100)
    (p / "cut.flac").write_bytes((p / "whole.flac").read_bytes()[:-2000])
    return p / "cut.flac"


def bad_wav(p):
    soundfile.write(p / "whole.wav", noise(), 44100)
    (p / "cut.wav").write_bytes((p / "whole.wav").read_bytes()[:-500])
    return p / "cut.wav"


def bad_zero(p):
    soundfile.write(p / "zero.wav", np.zeros((0, 1)), 22050)
    return p / "zero.wav"


def bad_nan(p):
    x = noise()
    x[7] = np.nan
    soundfile.write(p / "nan.wav", x, 44100, subtype="FLOAT")
    return p / "nan.wav"


def bad_inf(p):
    x = noise()
    x[7, 1] = -np.inf
    soundfile.write(p / "inf.wav", x, 44100, subtype="FLOAT")
    return p / "inf.wav"


def bad_plus_inf(p):
    x = noise()
    x[7, 1] = np.inf
    soundfile.write(p / "inf.wav", x, 44100, subtype="FLOAT")
    return p / "inf.wav"


def cut(p, suffix, left, **how):
    """A file of 2 s that ends after a share of its bytes."""
    soundfile.write(p / f"whole.{suffix}", noise(2), 44100, **how)
    data = (p / f"whole.{suffix}").read_bytes()
    assert len(audio_io.load(p / f"whole.{suffix}")) == 44100
    (p / f"cut.{suffix}").write_bytes(data[:int(left * len(data))])
    return p / f"cut.{suffix}"


def bad_ogg(p):
    return cut(p, "ogg", 0.6)


def bad_opus(p):
    soundfile.write(p / "whole.ogg", noise(2, 48000), 48000, format="OGG", subtype="OPUS")
    (p / "cut.ogg").write_bytes((p / "whole.ogg").read_bytes()[:-1])
    return p / "cut.ogg"


def bad_mp3(p):
    return cut(p, "mp3", 0.6)


def bad_aiff(p):
    return cut(p, "aiff", 0.6)


def bad_rf64(p):
    return cut(p, "wav", 0.6, format="RF64")


def bad_w64(p):
    return cut(p, "w64", 0.6)


def bad_length(p):
    """What an encoder that writes to a pipe leaves: a flac whose header says no length."""
    soundfile.write(p / "whole.flac", noise(), 44100)
    data = bytearray((p / "whole.flac").read_bytes())
    data[21] &= 0xF0  # the 36 bits at the end of bytes 21 to 25 count the frames
    data[22:26] = bytes(4)
    (p / "streamed.flac").write_bytes(data)
    return p / "streamed.flac"


def bad_header(p):
    soundfile.write(p / "whole.wav", noise(), 44100)
    (p / "start.wav").write_bytes((p / "whole.wav").read_bytes()[:30])
    return p / "start.wav"


def bad_page(p):
    (p / "page.mp3").write_bytes(b"\n<!DOCTYPE html><html><head><title>404</title></head><body>not found</body></html>")
    return p / "page.mp3"


def bad_no_frames(p):
    (p / "words.mp3").write_bytes(b"no frames are in here. " * 500)
    return p / "words.mp3"


def bad_midi(p):
    (p / "song.mid").write_bytes(b"MThd" + bytes(100))
    return p / "song.mid"


def bad_raw(p):
    (p / "samples.raw").write_bytes(bytes(100))
    return p / "samples.raw"


def bad_name(p):
    return p / ("x" * 300 + ".wav")


def bad_below(p):
    (p / "file").touch()
    return p / "file" / "below.wav"


def bad_pipe(p):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    os.mkfifo(p / "pipe.wav")
    return p / "pipe.wav"


BAD = {bad_nothing: "no such file", bad_folder: "is a folder", bad_empty: "is empty", bad_text: "cannot be read",
       bad_zero: "no samples", bad_nan: "NaN or infinite", bad_inf: "NaN or infinite", bad_midi: "cannot be read",
       bad_header: "cannot be read", bad_page: "is a web page", bad_no_frames: "cannot be read as an mp3",
       bad_plus_inf: "NaN or infinite", bad_raw: "cannot be read", bad_name: "cannot be read",
       bad_below: "no such file", bad_pipe: "is not a file"}

# Files that are cut short, or do not say their length: what is there is read. Each with the share that is left of it
CUT = {bad_flac: 0.9, bad_wav: 0.99, bad_ogg: 0.35, bad_opus: 0.9, bad_mp3: 0.55, bad_aiff: 0.59, bad_rf64: 0.59,
       bad_w64: 0.59, bad_length: 1.0}

# One file of each kind of message: the command line needs no more, since the reader is tested with all of them
ONE_OF_EACH = list({message: make for make, message in reversed(BAD.items())}.values())


# What makes a right one wrong


def make_text(path):
    path.write_text("this is not sound\n" * 50)


def make_empty(path):
    path.write_bytes(b"")


def make_no_samples(path):
    soundfile.write(path, np.zeros((0, 1)), SAMPLE_RATE)


def make_half_a_wav(path):
    path.write_bytes(path.read_bytes()[:-2000])


def make_loop(path):
    path.unlink()
    path.symlink_to(path)


def make_dangling(path):
    path.unlink()
    path.symlink_to(path.with_name("gone.wav"))


def make_pipe(path):
    path.unlink()
    os.mkfifo(path)


def make_endless(path):
    """A flac that was streamed: the 36 bits of its length are zero."""
    soundfile.write(path, np.zeros(4410), SAMPLE_RATE, format="FLAC")
    raw = bytearray(path.read_bytes())
    raw[21] &= 0xF0
    raw[22:26] = bytes(4)
    path.write_bytes(raw)


SPOILERS = [make_text, make_empty, make_no_samples, make_loop, make_dangling, make_pipe]
