"""Decoding of mp3 files by miniaudio, to their real end.

The first frame of most mp3 files holds a tag (Xing or Info) that counts the frames, and the silence that the encoder
added at both ends. Decoders believe the count. It is wrong where files were joined, cut or edited. Here the decoder is
given a count that it cannot reach, so that it reads to the end; the silence is cut off only where the count is right.
Chapter: `book/12-longer-and-stranger.ipynb`.
"""

import re
import struct

import numpy as np

from msdm_lite.errors import InputError
from msdm_lite.utils.imports import library

ENDLESS = 1 << 29  # a count of frames that no file reaches
TAGS = re.compile(rb"Xing|Info")
HEAD = 1 << 17  # bytes behind the ID3 tag in which the first frame is looked for
MOST_BYTES = 120_000  # of a second of sound; the format allows 80 000, and the rest is for pictures in odd places


def is_mp3(head: bytes, name: str) -> bool:
    """Whether a file that begins with `head` is for this decoder: an ID3 tag, a first frame, or the name."""
    frame = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x06 != 0  # 0: AAC
    return head[:3] == b"ID3" or frame or name.lower().endswith((".mp3", ".mp2", ".mpga"))


def read(data: bytes) -> tuple[np.ndarray, int, str]:
    """Samples (T, C) float32 of the bytes of an mp3 file, their rate, and a line on its header if it counts wrongly.

    Raises:
        InputError: there is no sound in it.
        MachineError: miniaudio is missing.
    """
    miniaudio = library("miniaudio")
    place, count = _count(miniaudio, data)
    if place:
        data, original = data[:place] + struct.pack(">I", ENDLESS) + data[place + 4 :], data
    try:
        sound = miniaudio.mp3_read_f32(data)
    except miniaudio.DecodeError:
        raise InputError("it holds no frame of mp3") from None
    samples = np.frombuffer(sound.samples, np.float32).reshape(-1, sound.nchannels)
    rate, there = sound.sample_rate, len(samples)
    if there == 0 or (len(data) - _tag_size(data)) / (there / rate) > max(MOST_BYTES, len(data) / 60):
        raise InputError(f"only {there / rate:.2f} s of sound in {len(data)} bytes: it is no mp3")
    if not place:
        return samples, rate, ""
    counted = count * (1152 if rate >= 32000 else 576)  # samples, with the silence at both ends
    if counted < there or counted - there > 5 * 1152:  # the silence is at most 4095 samples at each end
        return samples, rate, f"its header counts {counted / rate:.2f} s, and {there / rate:.2f} s are there and read"
    length = miniaudio.mp3_get_info(original).num_frames  # without the silence at both ends
    return samples[:length] if 0 < length <= there else samples, rate, ""


def _tag_size(data: bytes) -> int:
    """Bytes of the ID3 tag at the beginning."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))


def _count(miniaudio, data: bytes) -> tuple[int, int]:
    """Where the count of frames is that the decoder believes, and the count; (0, 0) if there is none."""
    begin = _tag_size(data)
    for match in TAGS.finditer(data, begin, begin + HEAD):
        place = match.start() + 8
        if place + 4 > len(data):
            break
        head = data[: place + 4096]  # enough for the first frame
        changed = [head[:place] + struct.pack(">I", count) + head[place + 4 :] for count in (ENDLESS, ENDLESS + 1)]
        try:
            lengths = [miniaudio.mp3_get_info(one).num_frames for one in changed]
        except miniaudio.DecodeError:
            break
        if lengths[0] != lengths[1]:
            return place, struct.unpack(">I", data[place : place + 4])[0]
    return 0, 0
