"""Against TensorFlow's own way of writing, written out here."""

import struct

import numpy as np
import pytest

from msdm_lite.errors import InputError
from msdm_lite.evaluation.tensorflow_checkpoint import MAGIC, tensors


def varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Keys share what they can with the one before, as LevelDB writes them; one restart; no compression; a checksum."""
    out, before = b"", b""
    for key, value in entries:
        shared = next((i for i, (a, b) in enumerate(zip(key, before, strict=False)) if a != b),
                      min(len(key), len(before)))
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return out + struct.pack("<II", 0, 1)


def checkpoint(arrays: dict[str, np.ndarray]) -> tuple[bytes, bytes]:
    data, entries = b"", [(b"", field(1, 1))]
    for name, array in sorted(arrays.items()):
        shape = b"".join(field(2, field(1, n)) for n in array.shape)
        raw = array.tobytes()
        entries.append((name.encode(), field(1, 1 if array.dtype == np.float32 else 9) + field(2, shape)
                        + field(4, len(data)) + field(5, len(raw))))
        data += raw
    body = block(entries)
    table, trailer = body + b"\0\0\0\0\0", block([])
    handle = varint(0) + varint(len(body))
    meta = (len(table), len(trailer))
    table += trailer + b"\0\0\0\0\0"
    top = block([(b"z", handle)])
    index = (len(table), len(top))
    table += top + b"\0\0\0\0\0"
    footer = b"".join(map(varint, (*meta, *index)))
    return table + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC), data


def test_a_checkpoint_is_read_back():
    arrays = {"conv/kernel": np.random.default_rng(0).random((3, 2, 200), dtype=np.float32),
              "conv/bias": np.arange(200, dtype=np.float32), "step": np.array(7, dtype=np.int64),
              "scale": np.array(2.5, dtype=np.float32)}
    found = tensors(*checkpoint(arrays))
    assert set(found) == {"conv/kernel", "conv/bias", "scale"}  # numbers of other types are left out
    for name, value in found.items():
        assert value.shape == arrays[name].shape and np.array_equal(value, arrays[name])


def test_what_is_no_checkpoint():
    index, data = checkpoint({"a": np.ones(300, dtype=np.float32)})
    for wrong in ((b"", b""), (index[:-1], data), (b"x" * 100, data), (index, data[:-4]), (data, index)):
        with pytest.raises(InputError, match="no TensorFlow checkpoint"):
            tensors(*wrong)
