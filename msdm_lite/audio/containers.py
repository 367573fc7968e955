"""What the headers of sound files say about the length of the sound, and what is there instead.

The data size of a WAV file is 0 or a huge number where a recorder crashed or wrote to a pipe, and too small or too
large where an editor left an old one. Files that were joined end to end hold a header in their middle. Here a file
becomes a list of parts, each of which a decoder reads to its end. Chapter: `book/12-longer-and-stranger.ipynb`.
"""

import io
import itertools
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

# Chunks that stand behind the sound of a WAV file
CHUNKS = (b"LIST", b"id3 ", b"ID3 ", b"bext", b"cue ", b"smpl", b"inst", b"JUNK", b"junk", b"fact", b"PEAK", b"iXML",
          b"_PMX", b"afsp", b"plst", b"acid", b"PAD ", b"FLLR", b"axml", b"levl", b"minf", b"elm1", b"regn", b"umid",
          b"DISP", b"note", b"cart", b"chna", b"SAUR", b"LGWV", b"strc", b"ResU", b"xmp ", b"MD5 ")
UNKNOWN = 0x7FFFF000  # a data size from here on says that the size was not known
TAIL = 1 << 23  # bytes at the end of a WAV file in which chunks behind the sound are looked for
MOST = 1000  # chunks that are looked at, and places where some could begin: a file made up of them takes no hours
WEB_PAGE = re.compile(rb"\s*(<!doctype html|<html|<head|<\?xml[^>]*>\s*<(!doctype html|html))", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """Bytes `start` to `end` of a file; those at `place`, counted from `start`, are read as `patch`."""

    start: int
    end: int
    place: int = 0
    patch: bytes = b""


@dataclass(frozen=True)
class Layout:
    """The parts of a file, one after the other, and one line for each thing that its headers say wrongly."""

    parts: tuple[Part, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def plain(self) -> bool:
        """Whether a decoder may read the file as it lies on the disk."""
        return len(self.parts) == 1 and not self.parts[0].start and not self.parts[0].patch


class Window(io.RawIOBase):
    """A part of an open file, as a file of its own for a decoder."""

    def __init__(self, file: BinaryIO, part: Part):
        self.file, self.part, self.at = file, part, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.part.end - self.part.start}[whence]
        self.at = max(0, base + offset)
        return self.at

    def readinto(self, buffer) -> int:
        count = max(0, min(len(buffer), self.part.end - self.part.start - self.at))
        self.file.seek(self.part.start + self.at)
        got = bytearray(self.file.read(count))
        for i, byte in enumerate(self.part.patch, self.part.place - self.at):
            if 0 <= i < len(got):
                got[i] = byte
        buffer[: len(got)] = got
        self.at += len(got)
        return len(got)

    def close(self) -> None:
        self.file.close()
        super().close()


def is_web_page(head: bytes) -> bool:
    """Whether a file begins like an HTML page: what a server answers when there is no such song."""
    return WEB_PAGE.match(head.removeprefix(b"\xef\xbb\xbf")) is not None


def layout(path: Path) -> Layout:
    """The parts of a WAV or Ogg file that hold sound, as they are and not as its headers say; other files as a whole.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:] == b"WAVE":
            return _wav(file, size)
        if head[:4] == b"OggS":
            return _ogg(file, size)
    return Layout((Part(0, size),))


def _wav(file: BinaryIO, size: int) -> Layout:
    parts: list[Part] = []
    notes: list[str] = []
    start = 0
    while True:
        sound = _sound(file, start, size)
        if sound is None:  # the decoder says what is wrong
            return Layout((*parts, Part(start, size)), tuple(notes))
        begin, align, rate, said = sound
        there = size - begin
        following = None
        if said <= there and _ends_well(file, begin + said, size, align, said):
            count, end = said, size
            following = _joined(file, begin + said, size)
        else:
            count = (_chunks_behind(file, begin, size) or size) - begin
            count -= count % align
            end = begin + count
            if count == said or not count:
                count, end = said, size
            elif said == 0 or said >= UNKNOWN:
                notes.append(f"its header does not say how long it is: {count / rate:.2f} s are read")
            else:
                notes.append(f"its header says {said / rate:.2f} s, and {count / rate:.2f} s are there and read")
        wrong = count != said and (said < count or end < size)  # a size that is too large is no matter to the decoder
        parts.append(Part(start, following or (end if wrong else size), begin - 4 - start,
                          struct.pack("<I", min(count, 0xFFFFFFFF)) if wrong else b""))
        if following is None:
            if len(parts) > 1:
                notes.append(f"{len(parts)} files are joined in it: all are read")
            return Layout(tuple(parts), tuple(notes))
        start = following


def _sound(file: BinaryIO, start: int, size: int) -> tuple[int, int, float, int] | None:
    """Of a WAV file that begins at `start`: where its sound begins, bytes of a frame, bytes a second, and its size."""
    at, align, rate = start + 12, 1, 0.0
    for _ in range(MOST):
        if at + 8 > size:
            return None
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"fmt ":
            body = file.read(16)
            if len(body) == 16:
                _, _, hertz, rate, align, _ = struct.unpack("<HHIIHH", body)
                rate = rate or hertz * align
        elif name == b"data":
            return (at + 8, max(1, align), rate, length) if rate else None
        at += 8 + length + length % 2
    return None


def _ends_well(file: BinaryIO, at: int, size: int, align: int, said: int) -> bool:
    """Whether what stands behind the sound is no sound: nothing, chunks, a tag, another file, or zeros."""
    if size - at < max(align, 2) and said:  # a frame that is not whole, or the byte that makes the size even
        return True
    file.seek(at)
    rest = file.read(1 << 16)
    if said and not any(rest):
        return True
    return any(rest[skip:][:4] in CHUNKS or rest[skip:][:3] in (b"TAG", b"ID3")
               or rest[skip:][:4] in (b"RIFF", b"APET") or _tiles(file, at + skip, size) for skip in (0, said % 2))


def _tiles(file: BinaryIO, at: int, size: int) -> bool:
    """Whether chunks with readable names lie one behind the other from `at` to the end of the file."""
    if at >= size:
        return False
    for _ in range(MOST):
        if at >= size - 1:
            break
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or not all(32 <= byte < 127 for byte in head[:4]):
            return False
        length = struct.unpack("<I", head[4:])[0]
        at += 8 + length + (length % 2 if at + 8 + length < size else 0)
    return at in (size - 1, size)


def _chunks_behind(file: BinaryIO, begin: int, size: int) -> int | None:
    """Where chunks begin that lie behind the sound up to the end of the file; None if there are none."""
    first = max(begin, size - TAIL)
    file.seek(first)
    found = re.finditer(b"|".join(map(re.escape, CHUNKS)), file.read(size - first))
    for match in itertools.islice(found, MOST):
        if _tiles(file, first + match.start(), size):
            return first + match.start()
    return None


def _joined(file: BinaryIO, at: int, size: int) -> int | None:
    """Where a WAV file begins that was joined to the end of another; None if there is none."""
    for _ in range(MOST):
        if at + 12 > size:
            break
        file.seek(at)
        name, length, kind = struct.unpack("<4sI4s", file.read(12))
        if name == b"RIFF" and kind == b"WAVE":
            return at
        if name not in CHUNKS:
            break
        at += 8 + length + length % 2
    return None


def _ogg(file: BinaryIO, size: int) -> Layout:
    """Parts of an Ogg file: its links, one for each file that was joined in it."""
    starts, at, ended, inside = [0], 0, False, True
    while at + 27 <= size:
        file.seek(at)
        head = file.read(27)
        if head[:4] != b"OggS":
            break
        first = bool(head[5] & 2)
        if first and not inside:
            starts.append(at)
        inside = first or (inside and at == starts[-1])  # the first pages of all streams of a link come first
        at += 27 + head[26] + sum(file.read(head[26]))
        ended = bool(head[5] & 4) and at <= size  # the flag of the last page
    parts = [Part(start, end) for start, end in zip(starts, [*starts[1:], size], strict=True)]
    notes = [] if ended else ["it has no last page: it may be cut short; what is there is read"]
    if len(parts) > 1:
        notes.append(f"{len(parts)} files are joined in it: all are read")
    return Layout(tuple(parts), tuple(notes))
