"""A reader of PyTorch checkpoints that runs nothing in the file.

Such a file is a zip of one pickle that describes the tensors, and of their bytes. A pickle is a program written by the
author of the file. This reader calls nothing that the program names:

- a tensor becomes a `Note` of the position of its bytes, which is checked against the file before they are read;
- classes of the libraries that the authors used become `Inert` objects, which take any arguments and do nothing;
- every other name, such as `os.system`, is refused.

Chapter: `book/13-scaling-up.ipynb`.
"""

import io
import math
import pickle
import sys
import zipfile
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from msdm_lite.errors import InputError

LONGEST_PICKLE = 64 << 20  # in bytes; the published ones have less than one million


class Inert:
    """Stands for an object of another library: takes any arguments and does nothing.

    `__setstate__` is defined so that unpickling never sets an attribute, of an object or, as a file might try, a class.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any = None) -> None:
        pass

    def nothing(self, *args: Any) -> None:
        pass

    append = extend = add = __setitem__ = nothing


def require_shallow(keys: Iterable[Any]) -> None:
    """Check that no key is nested: the hash of a deeply nested tuple would end the process.

    Raises:
        ValueError: a key is a tuple or a frozenset.
    """
    if any(isinstance(key, tuple | frozenset) for key in keys):
        raise ValueError("a nested key")


class PlainDict(dict[Any, Any]):
    """Stands for OrderedDict: a dictionary whose keys are checked."""

    def __init__(self, items: Any = (), /) -> None:
        pairs = list(items.items() if isinstance(items, dict) else items)
        require_shallow([key for key, _ in pairs])
        super().__init__(pairs)

    def __setstate__(self, state: Any = None) -> None:
        pass


class Storage(Inert):
    """Entry, type and number of the values of a storage. The subclasses stand for torch's storages."""

    dtype: torch.dtype | None = None
    key, numel = "", 0  # if the file creates one without arguments

    def __init__(self, key: str = "", numel: int = 0):
        self.key, self.numel = key, numel


class Note(Inert):
    """Stands for a tensor: a part of a storage. It is checked by `Archive.check` and read by `Archive.tensor`."""

    def __init__(self, storage: Any = None, offset: Any = 0, size: Any = (), stride: Any = (), *_rest: Any) -> None:
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride


class Parameter(Inert):
    """Stands for a parameter, which becomes its tensor."""

    def __new__(cls, data: Any = None, *_rest: Any) -> Any:
        return data


STORAGES = {f"{name}Storage": type(f"{name}Storage", (Storage,), {"dtype": dtype}) for name, dtype in {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool,
}.items()}

ALLOWED: dict[str, type] = {
    "collections.OrderedDict": PlainDict,
    "torch._utils._rebuild_tensor": Note,
    "torch._utils._rebuild_tensor_v2": Note,
    "torch._utils._rebuild_parameter": Parameter,
    **{f"torch.{name}": storage for name, storage in STORAGES.items()},
    # Harmless names that a checkpoint may contain. They become `Inert` too: none of them is called.
    **dict.fromkeys((
        "collections.defaultdict", "typing.Any", "pathlib.Path", "pathlib.PosixPath", "pathlib.WindowsPath",
        "copyreg._reconstructor", "_codecs.encode", "torch.device", "torch.Size", "torch.float32", "torch.float16",
        "torch.bfloat16", "numpy.dtype", "numpy.ndarray", "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar", "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct",
        *(f"{builtins}.{name}" for builtins in ("builtins", "__builtin__") for name in (
            "bool", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "set", "slice", "str",
            "tuple")),
    ), Inert),
}
INERT_PACKAGES = {"main", "audio_diffusion_pytorch", "omegaconf", "hydra", "pytorch_lightning", "lightning",
                  "lightning_fabric", "lightning_utilities"}


class Reader(pickle._Unpickler):
    """An unpickler that imports and calls nothing that the file names.

    It is based on the one in Python: in the one in C a few bytes of the file can allocate gigabytes.
    """

    def find_class(self, module: str, name: str) -> type:
        full = f"{module}.{name}"
        if full in ALLOWED:
            return ALLOWED[full]
        if module.split(".")[0] in INERT_PACKAGES:
            return Inert
        raise InputError(f"the checkpoint is not loaded: a file of weights does not need {full!r}, and this reader "
                         "refuses it")

    def persistent_load(self, pid: Any) -> Storage:
        kind, storage, key, _device, numel = pid
        if kind != "storage" or not (isinstance(storage, type) and issubclass(storage, Storage)) or (
                type(key) is not str):
            raise ValueError("an unknown kind of storage")
        return storage(key, numel)


def _shallow(load: Any, keys: Any) -> Any:
    """A step of the reader that checks the keys before they are hashed."""
    def run(self: Any) -> None:
        require_shallow(keys(self.stack))
        load(self)

    return run


STEPS: Any = pickle._Unpickler.dispatch
Reader.dispatch = STEPS | {step[0]: _shallow(STEPS[step[0]], keys) for step, keys in (
    (pickle.SETITEM, lambda stack: stack[-2:-1]), (pickle.SETITEMS, lambda stack: stack[::2]),
    (pickle.DICT, lambda stack: stack[::2]), (pickle.ADDITEMS, lambda stack: stack),
    (pickle.FROZENSET, lambda stack: stack))}


class Archive:
    """The zip that torch.save writes: `name/data.pkl`, and `name/data/0`, `name/data/1`, ... uncompressed.

    Raises:
        InputError: in all methods, for a file that is inconsistent or incomplete.
    """

    def __init__(self, file: zipfile.ZipFile, size: int):
        self.file, self.size = file, size
        self.entries = {info.filename: info for info in file.infolist()}
        self.read: dict[str, Tensor] = {}
        pickles = [name for name in self.entries if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise InputError("the checkpoint is a zip, but not one that PyTorch wrote")
        self.folder = pickles[0].removesuffix("data.pkl")
        # So no entry takes more memory than the file takes on the disk
        if any(info.compress_type != zipfile.ZIP_STORED for info in self.entries.values()):
            raise InputError("the checkpoint is compressed, which PyTorch never does: it is not read")
        if sum(info.file_size for info in self.entries.values()) > size:
            raise InputError("the checkpoint's entries claim more bytes than the file has: it is not read")
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
        raw = self.entry(f"{self.folder}data.pkl", LONGEST_PICKLE)
        try:
            return Reader(io.BytesIO(raw)).load()
        except InputError:
            raise
        except Exception as problem:  # a damaged pickle can raise any exception
            raise InputError(f"the checkpoint's description of its tensors is damaged ({one_line(problem)})") from None

    def check(self, name: str, note: Any) -> tuple[int, ...]:
        """The shape of a tensor, after a check that it is of floats, and within its storage and the file."""
        storage = note.storage if isinstance(note, Note) and "storage" in vars(note) else None
        if not isinstance(storage, Storage) or storage.dtype is None or not storage.dtype.is_floating_point:
            raise InputError(f"the checkpoint's {name} is not a tensor of floating-point numbers")
        numbers = (storage.numel, note.offset, *note.size, *note.stride) if (
            type(note.size) is type(note.stride) is tuple and len(note.size) == len(note.stride) <= 8) else (None,)
        if any(type(n) is not int or n < 0 for n in numbers) or not math.prod(note.size):
            raise InputError(f"the checkpoint's {name} has no proper shape")
        last = note.offset + sum((n - 1) * step for n, step in zip(note.size, note.stride, strict=True))
        if last >= storage.numel or math.prod(note.size) > storage.numel:
            raise InputError(f"the checkpoint's {name} reaches beyond its storage")
        info = self.entries.get(f"{self.folder}data/{storage.key}")
        if info is None or info.file_size != storage.numel * storage.dtype.itemsize:
            raise InputError(f"the checkpoint's {name} has no storage of the right size")
        return note.size

    def tensor(self, note: Note) -> Tensor:
        """A checked tensor, in float32."""
        key, dtype = f"{self.folder}data/{note.storage.key}", note.storage.dtype
        if key not in self.read:
            raw = bytearray(self.entry(key, self.size))
            if len(raw) != self.entries[key].file_size:
                raise InputError("the checkpoint is not whole")
            self.read[key] = torch.frombuffer(raw, dtype=torch.uint8)
        return self.read[key].view(dtype).as_strided(note.size, note.stride, note.offset).float()


def one_line(problem: Exception) -> str:
    """An exception in one line of at most about 100 characters."""
    return f"{type(problem).__name__}: {' '.join(str(problem).split())[:100]}"
