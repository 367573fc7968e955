"""The zip of a PyTorch checkpoint: the pickle that describes the tensors, and the tensors' bytes.

`msdm_lite.models.unpickle` reads the pickle. Here every part is compared with its checksum, and every description of a
tensor with the file, before any of its bytes are read. Chapter: `book/13-scaling-up.ipynb`.
"""

import io
import math
import struct
import sys
import zipfile
from typing import Any, BinaryIO

import torch
from torch import Tensor

from msdm_lite.errors import InputError
from msdm_lite.models import unpickle
from msdm_lite.models.unpickle import Note, Storage

LONGEST_DIRECTORY = 4 << 20  # in bytes, of the list of entries; the published files have less than 300 000
LONGEST_KEY = 100  # the name of a storage, in the published files a number
CHUNK = 1 << 20


class Archive:
    """The zip that torch.save writes: `name/data.pkl`, and `name/data/0`, `name/data/1`, ... uncompressed.

    Args:
        raw: the open file.

    Raises:
        InputError: in all methods, for a file that is inconsistent or incomplete.
        Exception: a damaged zip can raise any, see `msdm_lite.models.official.load_official`.
    """

    def __init__(self, raw: BinaryIO):
        self.raw, self.size = raw, raw.seek(0, io.SEEK_END)
        end = zipfile._EndRecData(raw)  # type: ignore[attr-defined] # each entry of a list takes ten times its bytes
        if end and end[zipfile._ECD_SIZE] > LONGEST_DIRECTORY:  # type: ignore[attr-defined]
            raise InputError("the checkpoint has far too many entries")
        self.file = zipfile.ZipFile(raw)
        self.entries = {info.filename: info for info in self.file.infolist()}
        self._check_entries()

    def _check_entries(self) -> None:
        pickles = [name for name in self.entries if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise InputError("the checkpoint is a zip, but not one that PyTorch wrote")
        self.folder = pickles[0].removesuffix("data.pkl")
        # So no entry takes more memory than the file takes on the disk
        if any(info.compress_type != zipfile.ZIP_STORED for info in self.entries.values()):
            raise InputError("the checkpoint is compressed, which PyTorch never does: it is not read")
        if sum(info.file_size for info in self.file.infolist()) > self.size:
            raise InputError("the checkpoint's entries claim more bytes than the file has: it is not read")
        for info in self.file.infolist():
            with self.file.open(info) as part:
                count = 0
                while some := part.read(CHUNK):  # raises at the end if the checksum differs
                    count += len(some)
            if count != info.file_size:
                raise InputError("the checkpoint is not whole")
        order = f"{self.folder}byteorder"
        if order in self.entries and self.entry(order, 16).decode("ascii", "replace").strip() != sys.byteorder:
            raise InputError("the checkpoint was written on a machine with another order of bytes")

    def entry(self, name: str, longest: int) -> bytes:
        """The bytes of one entry of at most `longest` bytes."""
        if name not in self.entries or self.entries[name].file_size > longest:
            raise InputError(f"the checkpoint's part {name!r} is missing, or longer than it can be")
        return self.file.read(self.entries[name])

    def content(self) -> Any:
        """The saved object, with a `Note` for each tensor."""
        return unpickle.load(self.entry(f"{self.folder}data.pkl", unpickle.LONGEST_PICKLE))

    def check(self, name: str, note: Any) -> tuple[int, ...]:
        """The shape of a tensor, after a check that it is of floats, and within its storage and the file."""
        storage = note.storage if isinstance(note, Note) and "storage" in vars(note) else None
        if not isinstance(storage, Storage) or storage.dtype is None or not storage.dtype.is_floating_point or (
                type(storage.key) is not str or len(storage.key) > LONGEST_KEY):
            raise InputError(f"the checkpoint's {name} is not a tensor of floating-point numbers")
        numbers = (storage.numel, note.offset, *note.size, *note.stride) if (
            type(note.size) is type(note.stride) is tuple and len(note.size) == len(note.stride) <= 8) else (None,)
        if any(type(n) is not int or n < 0 for n in numbers) or 0 in note.size:
            raise InputError(f"the checkpoint's {name} has no proper shape")
        # Each number is compared first: products of huge ones would take hours
        if max(numbers) > self.size or math.prod(note.size) > storage.numel or self._last(note) >= storage.numel:
            raise InputError(f"the checkpoint's {name} reaches beyond its storage")
        if self._last(note) - note.offset >= math.prod(note.size):
            raise InputError(f"the checkpoint's {name} has gaps between its values")
        info = self.entries.get(f"{self.folder}data/{storage.key}")
        if info is None or info.file_size != storage.numel * storage.dtype.itemsize:
            raise InputError(f"the checkpoint's {name} has no storage of the right size")
        return note.size

    @staticmethod
    def _last(note: Note) -> int:
        """Place of the last value of a tensor in its storage."""
        return note.offset + sum((n - 1) * step for n, step in zip(note.size, note.stride, strict=True))

    def tensor(self, note: Note) -> Tensor:
        """A checked tensor, in float32. Only its own part of the storage is read."""
        info, dtype = self.entries[f"{self.folder}data/{note.storage.key}"], note.storage.dtype
        # Behind the entry's own header, in which its name and its extra field may be longer than in the directory
        self.raw.seek(info.header_offset + 26)
        begin = self.raw.tell() + 4 + sum(struct.unpack("<HH", self.raw.read(4)))
        values = bytearray((self._last(note) - note.offset + 1) * dtype.itemsize)
        self.raw.seek(begin + note.offset * dtype.itemsize)
        if self.raw.readinto(values) != len(values):  # type: ignore[attr-defined]
            raise InputError("the checkpoint is not whole")
        return torch.frombuffer(values, dtype=dtype).as_strided(note.size, note.stride).float()
