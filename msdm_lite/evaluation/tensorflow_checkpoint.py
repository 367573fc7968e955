"""A reader of TensorFlow checkpoints that does not need TensorFlow. No code in the file is run.

A checkpoint is two files. The first, `.index`, is a sorted table in LevelDB's format: a footer points to blocks of
keys, and neighbouring keys share their prefixes. Each key is the name of a tensor. Each value (a protocol buffer) holds
its type, its shape, and its offset and size in the second file. Chapter: `book/10-measuring.ipynb`.
"""

import struct

import numpy as np

from msdm_lite.errors import InputError

MAGIC = 0xDB4775248B80FB57  # the last eight bytes of every LevelDB table
FLOAT32 = 1  # TensorFlow's number for this type


def tensors(index: bytes, data: bytes) -> dict[str, np.ndarray]:
    """All float32 tensors of a checkpoint by name, from the bytes of its two files.

    Raises:
        InputError: the bytes are not such a checkpoint, or they are cut short.
    """
    try:
        if struct.unpack("<Q", index[-8:])[0] != MAGIC:
            raise ValueError("no table")
        _, at = _pair(index, len(index) - 48)  # skip the handle of the metaindex block, which is empty
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
    """A varint, and the offset behind it. A byte has seven bits, lowest first; its eighth bit is 0 in the last byte."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _pair(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """The handle of a block, its offset and size; and the offset behind the handle."""
    first, at = _varint(data, at)
    second, at = _varint(data, at)
    return (first, second), at


def _entries(table: bytes, start: int, size: int) -> list[tuple[bytes, bytes]]:
    """Keys and values of a block. Of each key the block stores the length of the prefix shared with the one before."""
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
    """The fields of a protocol buffer by number: integers, or bytes that may be messages themselves."""
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
