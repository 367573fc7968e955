import hashlib
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from msdm_lite import evaluate, musicnn, resources
from msdm_lite.errors import InputError, MachineError
from msdm_lite.tensorflow_file import MAGIC, tensors

VECTORS = Path(__file__).parent / "musicnn.json"  # made once by the original, in TensorFlow


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


@pytest.fixture(scope="module")
def wheel():
    try:
        return musicnn.wheel()
    except MachineError as problem:
        pytest.skip(str(problem))


def test_the_port_says_what_the_original_said(wheel):
    """The first three seconds of two shipped clips, heard by the original in TensorFlow.

    To a thousandth: its spectrograms are in half precision. (Of further windows it repeats the first.)
    """
    made = json.loads(VECTORS.read_text())
    for name, one in made["clips"].items():
        wave = evaluate.clip(name).sum(0)[None]
        hidden, exact = musicnn.embed(wave)[0], torch.tensor(one["hidden"])
        assert hidden.shape == (2, 200)
        assert (hidden[0] - exact).abs().max() < 1e-3 * exact.abs().max()
        assert (hidden[1] - exact).abs().max() > 0.1 * exact.abs().max()  # another window, another sound


def test_embeddings_hear_what_is_played(wheel):
    """Two halves of one clip are nearer to each other than to noise of the same level."""
    clip = evaluate.clip("band_00").sum(0)
    noise = clip.square().mean().sqrt() * torch.randn(len(clip), generator=torch.Generator().manual_seed(0))
    (first, second), (other, _) = musicnn.embed(torch.stack([clip, noise]))
    assert (first - second).norm() < 0.7 * (first - other).norm()


def test_sounds_that_are_too_short(wheel):
    with pytest.raises(InputError, match="three seconds"):
        musicnn.embed(torch.zeros(2, 22050))


def test_a_wheel_that_is_another_or_cannot_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("MSDM_LITE_CACHE", str(tmp_path))
    path = resources.cache("musicnn", musicnn.WHEEL)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    with pytest.raises(InputError, match="is not the wheel"):
        musicnn.wheel()
    monkeypatch.setattr(musicnn, "SHA256", hashlib.sha256(b"something else").hexdigest())
    assert musicnn.wheel() == path
    path.unlink()
    monkeypatch.setattr(musicnn.sys, "executable", shutil.which("false"))
    with pytest.raises(MachineError, match="pip cannot get it: pip said nothing"):
        musicnn.wheel()
    with pytest.raises(MachineError, match="this needs nowhere: pip install nowhere"):
        resources.library("nowhere.at_all")
