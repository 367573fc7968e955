"""A reader of the pickles in PyTorch checkpoints that runs nothing in the file.

A pickle is a program written by the author of the file. This reader calls nothing that the program names:

- a tensor becomes a `Note` of the position of its bytes, which `msdm_lite.models.archive` checks and reads;
- a container of OmegaConf becomes a `Node`, which keeps its content and does nothing;
- other classes of the libraries that the authors used become `Inert` objects, which take any arguments and do nothing;
- every other name, such as `os.system`, is refused.

Before anything is built, the steps of the program are counted and the lengths that it claims are compared with the
bytes that are there. So memory and time stay in proportion to the file. Chapter: `book/13-scaling-up.ipynb`.
"""

import io
import pickle
import pickletools
from collections.abc import Iterable
from typing import Any

import torch

from msdm_lite.errors import InputError

LONGEST_PICKLE = 16 << 20  # in bytes; the published ones have less than one million
MOST_STEPS = 400_000  # of a pickle: each can make an object of some 200 bytes
MOST_ARGUMENTS = 64  # of a call; they are copied in each
LONGEST_NAME = 500  # of a class with its module
LARGEST_KEY = 2**60  # whole numbers above can be chosen so that all have the same hash


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


def require_plain(keys: Iterable[Any]) -> None:
    """Check keys before they are hashed.

    The hash of a deeply nested tuple would end the process, and a dictionary of many keys of one hash takes hours.

    Raises:
        ValueError: a key is a tuple, a frozenset or a huge number.
    """
    for key in keys:
        if isinstance(key, tuple | frozenset):
            raise ValueError("a nested key")
        if isinstance(key, int) and not -LARGEST_KEY < key < LARGEST_KEY:
            raise ValueError("a huge number as a key")


class PlainDict(dict[Any, Any]):
    """Stands for OrderedDict: a dictionary. It is made empty, as PyTorch makes it; its items are set one by one."""

    def __init__(self, *items: Any) -> None:
        if items:
            raise ValueError("an OrderedDict that is not made empty")
        super().__init__()

    def __setstate__(self, state: Any = None) -> None:
        pass


class Node(Inert):
    """Stands for a container or a value of OmegaConf: its `content` is a dict, a list or a value, perhaps of nodes."""

    content: Any = None

    def __setstate__(self, state: Any = None) -> None:
        if isinstance(self, Node) and isinstance(state, dict):  # a file may call it with anything as `self`
            vars(self)["content"] = state.get("_content", state.get("_val"))


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
        "copyreg._reconstructor", "copy_reg._reconstructor", "_codecs.encode", "torch.device", "torch.Size",
        "torch.float32", "torch.float16", "torch.bfloat16", "numpy.dtype", "numpy.ndarray",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar", "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct",
        # Protocol 2 has the names of Python 2
        *(f"{builtins}.{name}" for builtins in ("builtins", "__builtin__") for name in (
            "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "long", "object",
            "set", "slice", "str", "tuple", "unicode")),
    ), Inert),
    "omegaconf.dictconfig.DictConfig": Node,
    "omegaconf.listconfig.ListConfig": Node,
    **{f"omegaconf.nodes.{kind}Node": Node for kind in (
        "Any", "Boolean", "Bytes", "Enum", "Float", "Integer", "Path", "String")},
}
INERT_PACKAGES = {"main", "audio_diffusion_pytorch", "omegaconf", "hydra", "pytorch_lightning", "lightning",
                  "lightning_fabric", "lightning_utilities"}


class Reader(pickle._Unpickler):
    """An unpickler that imports and calls nothing that the file names.

    It is based on the one in Python: in the one in C a few bytes of the file can allocate gigabytes.
    """

    def find_class(self, module: str, name: str) -> type:
        if len(module) + len(name) > LONGEST_NAME:
            raise ValueError("a name of a class that is far too long")
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


def _checked(load: Any, check: Any) -> Any:
    """A step of the reader before which its stack is checked."""
    def run(self: Any) -> None:
        check(self.stack)
        load(self)

    return run


def _require_few(arguments: Any, kind: type[tuple[Any, ...]] | type[dict[Any, Any]] = tuple) -> None:
    if not isinstance(arguments, kind) or len(arguments) > MOST_ARGUMENTS:
        raise ValueError("a call without proper arguments")


def _require_few_named(stack: list[Any]) -> None:
    _require_few(stack[-2])
    _require_few(stack[-1], dict)


STEPS: Any = pickle._Unpickler.dispatch
Reader.dispatch = STEPS | {step[0]: _checked(STEPS[step[0]], check) for step, check in (
    (pickle.SETITEM, lambda stack: require_plain(stack[-2:-1])),
    (pickle.SETITEMS, lambda stack: require_plain(stack[::2])),
    (pickle.DICT, lambda stack: require_plain(stack[::2])),
    (pickle.ADDITEMS, require_plain), (pickle.FROZENSET, require_plain),
    (pickle.REDUCE, lambda stack: _require_few(stack[-1])), (pickle.NEWOBJ, lambda stack: _require_few(stack[-1])),
    (pickle.NEWOBJ_EX, _require_few_named))}


def load(raw: bytes) -> Any:
    """The object of a pickle, with a `Note` for each tensor.

    Raises:
        InputError: the pickle is damaged, names what is refused, or is far longer than that of a checkpoint.
    """
    if len(raw) > LONGEST_PICKLE:
        raise InputError(f"the checkpoint's description of its tensors is longer than {LONGEST_PICKLE >> 20} MB")
    try:
        for number, _ in enumerate(pickletools.genops(raw)):  # raises for a length beyond the end
            if number >= MOST_STEPS:
                raise ValueError(f"more than {MOST_STEPS} steps")
        return Reader(io.BytesIO(raw)).load()
    except InputError:
        raise
    except Exception as problem:  # a damaged pickle can raise any exception
        raise InputError(f"the checkpoint's description of its tensors is damaged ({one_line(problem)})") from None


def one_line(problem: Exception) -> str:
    """An exception in one line of at most about 100 characters."""
    return f"{type(problem).__name__}: {' '.join(str(problem).split())[:100]}"
