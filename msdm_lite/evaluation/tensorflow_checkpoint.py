"""Weights out of a TensorFlow checkpoint, without TensorFlow. The file is read as data; nothing in it is run.

A checkpoint is two files. The first, `.index`, is a sorted table in LevelDB's format: blocks of keys that share their
beginnings, found through a footer. Each key names a tensor, each value (a protocol buffer) says its type and shape, and
where its numbers stand in the second file. Chapter: `book/10-measuring.ipynb`.
"""

import struct

import numpy as np

from msdm_lite.errors import InputError

MAGIC = 0xDB4775248B80FB57  # the last eight bytes of every LevelDB table
FLOAT32 = 1  # of TensorFlow's numbers for types


def tensors(index: bytes, data: bytes) -> dict[str, np.ndarray]:
    """All float32 tensors of a checkpoint by name, from the bytes of its two files.

    Raises:
        InputError: this is no such checkpoint, or it is cut short.
    """
    try:
        if struct.unpack("<Q", index[-8:])[0] != MAGIC:
            raise ValueError("no table")
        _, at = _pair(index, len(index) - 48)  # of the metaindex, which is empty
        (start, size), _ = _pair(index, at)
        found = {}
        for _, handle in _entries(index, start, size):
            (start, size), _ = _pair(handle, 0)
            for key, value in _entries(index, start, size):
                entry = _message(value)
                if not key or entry.get(1, [0])[0] != FLOAT32:
                    continue
                shape = [_message(axis).get(1, [0])[0] for axis in _message(entry[2][0]).get(2, [])]
                begin = entry.get(4, [0])[0]
                numbers = np.frombuffer(data[begin : begin + entry[5][0]], np.dtype("<f4"))
                found[key.decode()] = numbers.reshape(shape)
        return found
    except (ValueError, IndexError, KeyError, struct.error) as problem:
        raise InputError(f"this is no TensorFlow checkpoint that can be read ({problem})") from None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number in seven bits a byte, the last of which has no eighth; and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _pair(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and where they end."""
    first, at = _varint(data, at)
    second, at = _varint(data, at)
    return (first, second), at


def _entries(table: bytes, start: int, size: int) -> list[tuple[bytes, bytes]]:
    """Keys and values of a block. A key repeats so many bytes of the one before, and adds its own."""
    if table[start + size] != 0:
        raise ValueError("its blocks are compressed")
    block = table[start : start + size]
    restarts = struct.unpack("<I", block[-4:])[0]
    end, at, key, found = size - 4 - 4 * restarts, 0, b"", []
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + own]
        found.append((key, block[at + own : at + own + length]))
        at += own + length
    return found


def _message(data: bytes) -> dict[int, list]:
    """A protocol buffer's fields by number: integers, or bytes that may be messages themselves."""
    at = 0
    fields: dict[int, list] = {}
    value: int | bytes
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 2:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
            value, at = data[at : at + length], at + length
        else:
            raise ValueError(f"field {number} is of a kind that nobody writes")
        fields.setdefault(number, []).append(value)
    return fields
