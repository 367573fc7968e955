"""The authors' published checkpoints, read without running anything that the file carries.

A .ckpt of the official code (arXiv 2302.02257) is a zip: one pickle that describes the tensors, and their bytes beside
it. A pickle is a program, and whoever made the file wrote it. Here nothing of that program is ever called:

- a tensor becomes a note of where its bytes lie, which is checked against the file before they are read;
- classes of the libraries the authors used become `Inert` objects, which take anything and do nothing;
- every other name, `os.system` among them, is refused.

The weights come under the names of audio-diffusion-pytorch 0.0.43; `official_names` says what each is called here.
Chapter: `book/07-separation.ipynb`.
"""

import io
import math
import pickle
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msdm_lite.errors import InputError
from msdm_lite.unet1d import Denoiser1d, ResBlock, UNet1d, UNet1dConfig

PREFIXES = ("model.unet.", "model.diffusion.net.")  # the same tensors twice: the first that is there is read
LONGEST_PICKLE = 64 << 20  # bytes; the published ones have less than one million

# What our parameters are called in the old library. Those that are one here and several there follow below.
RULES = [(re.compile(pattern), name) for pattern, name in (
    (r"^time\.frequencies$", "to_time.0.0.weights"),
    (r"^time\.layers\.0\.", "to_time.0.1."),
    (r"^time\.layers\.2\.", "to_mapping.0."),
    (r"^time\.layers\.4\.", "to_mapping.2."),
    (r"^enter\b", "to_in.module_list.0.block"),
    (r"^leave\b", "to_out.module_list.0.block"),
    (r"^bottom\.0\b", "bottleneck.pre_block"),
    (r"^bottom\.1\b", "bottleneck.attention.fn"),
    (r"^bottom\.2\b", "bottleneck.post_block"),
    (r"^down\.(\d+)\.shrink\b", r"downsamples.\1.downsample"),
    (r"^down\b", "downsamples"),
    (r"^up\.(\d+)\.grow\b", r"upsamples.\1.upsample"),
    (r"^up\b", "upsamples"),
    (r"\.norm([12])\.", r".block\1.groupnorm."),
    (r"\.conv([12])\.", r".block\1.project."),
    (r"\.shortcut\.", ".to_out."),
    (r"\.transformer\.attention\.", ".transformer.attention.fn."),
    (r"\.fn\.norm\.weight$", ".fn.norm.g"),
    (r"\.fn\.out\.weight$", ".fn.attention.to_out.0.weight"),
    (r"\.fn\.out_norm\.weight$", ".fn.attention.to_out.1.g"),
    (r"\.feed_forward\.([03])\.weight$", r".feed_forward.\1.g"),
)]


def official_names(net: UNet1d) -> dict[str, list[tuple[str, tuple[int, ...]]]]:
    """For each parameter of the net, the (name, shape) of the old library's tensors that joined along axis 0 make it.

    Raises:
        InputError: the old library has no such network.
    """
    if net.config.learned_patch:
        raise InputError("the official network has no learned patch layer")

    def old(name: str) -> str:
        for pattern, replacement in RULES:
            name = pattern.sub(replacement, name)
        return name

    table: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    blocks = [old(f"{name}.") for name, module in net.named_modules() if isinstance(module, ResBlock)]
    for name, value in net.state_dict().items():
        shape, translated = tuple(value.shape), old(name)
        if name.startswith("film."):
            part = f"to_scale_shift.to_scale_shift.1.{name.removeprefix('film.')}"
            table[name] = [(block + part, (width, *shape[1:]))
                           for block, width in zip(blocks, net.film_widths, strict=True)]
        elif name.endswith(".qkv.weight"):
            stem, third = translated.removesuffix("qkv.weight"), shape[0] // 3
            table[name] = [(f"{stem}to_q.weight", (third, shape[1])), (f"{stem}to_kv.weight", (2 * third, shape[1]))]
        elif ".feed_forward." in name:  # convolutions and norms over (B, C, T) there
            table[name] = [(translated, (1, *shape, 1) if len(shape) == 1 else (*shape, 1))]
        else:
            table[name] = [(translated, shape)]
    return table


def translate(tensors: dict[str, Tensor], net: UNet1d) -> dict[str, Tensor]:
    """A state dict for the net from tensors under the old library's names, all there and of the right shape."""
    own = net.state_dict()
    return {name: torch.cat([tensors[old] for old, _ in parts]).reshape(own[name].shape)
            for name, parts in official_names(net).items()}


def infer(found: dict[str, tuple[int, ...]], heads: int = 8, groups: int = 8) -> UNet1dConfig:
    """The configuration of a network with tensors of these (old) names and shapes; heads and groups leave no trace.

    Raises:
        InputError: no network of the paper has such tensors.
    """
    down: list[tuple[int, ...]] = []
    while (key := f"downsamples.{len(down)}.downsample.weight") in found:
        down.append(found[key])
    levels = range(len(down))
    try:
        channels = found["to_mapping.0.weight"][0] // 4
        full_rate, stems, _ = found["to_in.module_list.0.block.block1.project.weight"]
        feeds = [found[key][0] // width for level, (width, *_) in enumerate(down)
                 if (key := f"downsamples.{level}.transformer.feed_forward.1.weight") in found]
        attended = found["bottleneck.attention.fn.to_q.weight"][0]
        if attended % heads:
            raise InputError(f"attention is {attended} wide, which cannot be cut into {heads} heads")
        return UNet1dConfig(
            stems=stems, channels=channels, patch=channels // full_rate,
            multipliers=(1, *(width // channels for width, *_ in down)),
            factors=tuple(kernel // 2 for *_, kernel in down),
            blocks=tuple(sum(bool(re.fullmatch(rf"downsamples\.{level}\.blocks\.\d+\.block1\.project\.weight", key))
                             for key in found) for level in levels),
            attention=tuple(int(any(key.startswith(f"downsamples.{level}.transformer.") for key in found))
                            for level in levels),
            heads=heads, head_width=attended // heads, feed_forward=feeds[0] if feeds else 2,
            groups=groups,
        )
    except KeyError as missing:
        raise InputError(f"the checkpoint lacks the tensor {missing.args[0]}") from None
    except (ValueError, IndexError, ZeroDivisionError) as problem:  # an InputError is a ValueError
        raise InputError(f"the checkpoint's tensors make no network of the paper ({problem})") from None


class Inert:
    """What stands for an object of a library we do not need. It takes anything and does nothing.

    `__setstate__` is here so that unpickling never sets an attribute, on an object or, as a file might try, a class.
    """

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state=None):
        pass

    def nothing(self, *args):
        pass

    append = extend = add = __setitem__ = nothing


class PlainDict(dict):
    """For OrderedDict: nothing but a dictionary."""

    def __setstate__(self, state=None):
        pass


class Storage(Inert):
    """Bytes beside the pickle: which entry, of what type, how many. Its subclasses stand for torch's storages."""

    dtype: torch.dtype | None = None

    def __init__(self, key: str = "", numel: int = 0):
        self.key, self.numel = key, numel


class Note(Inert):
    """For a tensor: which part of which storage it is. Nothing is read, and nothing checked, until `Archive.tensor`."""

    def __init__(self, storage=None, offset=0, size=(), stride=(), *_rest):
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride


class Parameter(Inert):
    """For a parameter, which is the tensor it is made from."""

    def __new__(cls, data=None, *_rest):
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
    # Harmless things that a checkpoint may mention. Even these are not what they say: none of them is called.
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
    """Unpickles without importing or calling anything of the file's choice.

    It is the unpickler written in Python: in the one written in C a few bytes can ask for a table of gigabytes.
    """

    def find_class(self, module: str, name: str) -> type:
        full = f"{module}.{name}"
        if full in ALLOWED:
            return ALLOWED[full]
        if module.split(".")[0] in INERT_PACKAGES:
            return Inert
        raise InputError(f"the checkpoint is not loaded: a file of weights has no use for {full!r}, and this reader "
                         "refuses it")

    def persistent_load(self, pid: Any) -> Storage:
        kind, storage, key, _device, numel = pid
        if kind != "storage" or not (isinstance(storage, type) and issubclass(storage, Storage)) or (
                type(key) is not str):
            raise ValueError("an unknown kind of storage")
        return storage(key, numel)


class Archive:
    """The zip that torch.save writes: `name/data.pkl`, and `name/data/0`, `name/data/1`, ... uncompressed.

    Raises:
        InputError: in all methods, a file that is not what it says, or not whole.
    """

    def __init__(self, file: zipfile.ZipFile, size: int):
        self.file, self.size = file, size
        self.entries = {info.filename: info for info in file.infolist()}
        self.read: dict[str, Tensor] = {}
        pickles = [name for name in self.entries if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise InputError("the checkpoint is a zip, but not one that PyTorch wrote")
        self.folder = pickles[0].removesuffix("data.pkl")
        # So whatever is read takes no more memory than the file takes on the disk
        if any(info.compress_type != zipfile.ZIP_STORED for info in self.entries.values()):
            raise InputError("the checkpoint is compressed, which PyTorch never does: it is not read")
        if sum(info.file_size for info in self.entries.values()) > size:
            raise InputError("the checkpoint claims to hold more bytes than it has: it is not read")
        order = f"{self.folder}byteorder"
        if order in self.entries and self.entry(order, 16).decode("ascii", "replace").strip() != sys.byteorder:
            raise InputError("the checkpoint was written on a machine with another order of bytes")

    def entry(self, name: str, longest: int) -> bytes:
        """The bytes of one entry."""
        if name not in self.entries or self.entries[name].file_size > longest:
            raise InputError(f"the checkpoint's part {name!r} is missing, or longer than it can be")
        return self.file.read(self.entries[name])

    def content(self) -> Any:
        """What was saved, with a `Note` for each tensor."""
        raw = self.entry(f"{self.folder}data.pkl", LONGEST_PICKLE)
        try:
            return Reader(io.BytesIO(raw)).load()
        except InputError:
            raise
        except Exception as problem:  # a pickle can go wrong in any way that Python can
            raise InputError(f"the checkpoint's description of its tensors is damaged ({one_line(problem)})") from None

    def check(self, name: str, note: Any) -> tuple[int, ...]:
        """The shape of a tensor of floats that lies within its storage, which lies within the file."""
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
    return f"{type(problem).__name__}: {' '.join(str(problem).split())[:100]}"


def compare(found: dict[str, tuple[int, ...]], net: UNet1d) -> None:
    """Are these (old) names and shapes all that the net needs, and nothing else?

    Raises:
        InputError: it says what is missing, extra or of another shape.
    """
    needed = dict(part for parts in official_names(net).values() for part in parts)
    for what, names in (("lacks", needed.keys() - found.keys()), ("has, and the network has not,",
                                                                  found.keys() - needed.keys())):
        if names:
            raise InputError(f"the checkpoint {what} {len(names)} tensors, for example {min(names)}")
    for name, shape in needed.items():
        if found[name] != shape:
            raise InputError(f"the checkpoint's {name} has the shape {found[name]}, where the network has {shape}")


def load_official(path: str | Path, heads: int | None = None, groups: int | None = None) -> Denoiser1d:
    """The denoiser of a checkpoint of the official code (arXiv 2302.02257), on the CPU. Runs nothing of the file.

    The published network takes (B, 4, T): bass, drums, guitar, piano, at 22 050 Hz, in [-1, 1]; T a multiple of 8192.

    Args:
        heads: attention heads, which no tensor's shape tells. Default: what the file's hyper-parameters say, or 8.
        groups: of the GroupNorms, likewise.

    Raises:
        InputError: no such file, not such a checkpoint, damaged, or it asks for something a file of weights need not.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as file:
            return load_archive(Archive(file, path.stat().st_size), heads, groups)
    except InputError as problem:
        # Names may come from the file
        said = "".join(letter if letter.isprintable() else "?" for letter in str(problem))
        raise InputError(f"{path}: {said[:300]}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError) as problem:
        raise InputError(f"{path}: not a checkpoint that PyTorch wrote, or not whole ({one_line(problem)})") from None


def load_archive(archive: Archive, heads: int | None, groups: int | None) -> Denoiser1d:
    """`load_official` of an open file."""
    content = archive.content()
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise InputError("the checkpoint has no state_dict: it is not one of PyTorch Lightning")
    prefix = next((prefix for prefix in PREFIXES if any(name.startswith(prefix) for name in state)), None)
    if prefix is None:
        raise InputError(f"the checkpoint has no tensors named {PREFIXES[0]}...: it holds another model")
    for name in state:
        if not name.startswith(PREFIXES):
            raise InputError(f"the checkpoint has a tensor that the network has not: {name}")
    notes = {name.removeprefix(prefix): note for name, note in state.items() if name.startswith(prefix)}
    found = {name: archive.check(name, note) for name, note in notes.items()}
    if sum(map(math.prod, found.values())) > archive.size // 2:  # two bytes a number, at the least
        raise InputError("the checkpoint's tensors overlap: they are more than the file can hold")

    said = content.get("hyper_parameters")

    def number(name: str, default: int | float) -> int | float:
        value = said.get(name) if isinstance(said, dict) else None
        return value if type(value) is type(default) and value > 0 else default

    config = infer(found, heads or number("attention_heads", 8), groups or number("resnet_groups", 8))
    with torch.device("meta"):
        net = UNet1d(config)
    compare(found, net)
    tensors = {name: archive.tensor(note) for name, note in notes.items()}
    if not all(value.isfinite().all() for value in tensors.values()):
        raise InputError("the checkpoint's weights are not all finite: it is damaged, or its training went wrong")
    net.load_state_dict(translate(tensors, net), assign=True)
    return Denoiser1d(net, number("diffusion_sigma_data", 0.2)).eval().requires_grad_(False)
