"""Model files: safetensors in half precision, with configuration and training record in the metadata.

Chapter: `book/05-training.ipynb`.
"""

import errno
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from msdm_lite import checkpoint, resources
from msdm_lite.audio import STEMS
from msdm_lite.bundle import Bundle
from msdm_lite.device import pick
from msdm_lite.errors import InputError
from msdm_lite.face import StemModel
from msdm_lite.model import Config, build
from msdm_lite.wave import PRESETS, WaveConfig, WaveModel


def shipped() -> list[str]:
    """Names of the models that come with the package."""
    places = resources.data_folder() / "weights"
    return sorted({path.stem for path in places.glob("*.safetensors")}
                  | {path.parent.name for path in places.glob("*/*.safetensors")})


def save(model: StemModel, path: str | Path, record: dict) -> Path:
    """Write a model's weights in half precision, whole or not at all.

    Args:
        record: how it was trained; stored as JSON in the metadata and written beside the file as .json.

    Raises:
        MachineError: the disk is full.
    """
    path = Path(path)
    tensors = {name: (value.half() if value.is_floating_point() else value).contiguous()
               for name, value in model.state_dict().items()}
    if "denoiser.deviation" in tensors:  # that of a high bin is small: half precision would round it to a denormal
        tensors["denoiser.deviation"] = model.denoiser.deviation.float().contiguous()
    with resources.whole(path) as scratch:
        try:
            save_file(tensors, scratch, {"config": json.dumps(model.config.to_dict()), "record": json.dumps(record)})
        except SafetensorError as problem:  # which has no errno
            full = "os error 28" in str(problem)
            raise OSError(errno.ENOSPC if full else errno.EIO, str(problem), str(path)) from None
    with resources.whole(path.with_suffix(".json")) as scratch:
        scratch.write_text(json.dumps(record, indent=1) + "\n")
    return path


def official(path: Path) -> WaveModel:
    """A checkpoint of the official code (arXiv 2302.02257) as a model; nothing that the file carries is run.

    Raises:
        InputError: no such checkpoint; of one stem and its file is not called by it; or of another number than 1 or 4.
    """
    denoiser = checkpoint.load_official(path)
    count = denoiser.net.config.stems
    if count not in (1, len(STEMS)) or (count == 1 and path.stem not in STEMS):
        raise InputError(f"{path} holds a model of {count} stem(s): of {len(STEMS)} they are {', '.join(STEMS)}; of "
                         "one, name the file after it, as in drums.ckpt")
    own = [name for name, config in PRESETS.items() if config.net == denoiser.net.config]
    model = WaveModel(WaveConfig(own[0] if own else path.stem, STEMS if count > 1 else (path.stem,),
                                 net=denoiser.net.config, sigma_data=denoiser.sigma_data), denoiser)
    model.record = {"source": f"{path.name}, a checkpoint of the official code of arXiv 2302.02257"}
    return model


def load(name: str | Path = "lite", device: str = "auto") -> StemModel:
    """A model by the name it ships under, or by its file's path, on the GPU if there is one.

    A file is one of ours, .safetensors, or a .ckpt of the official code. A folder of such files, one a stem, is a
    bundle of independent models.

    Raises:
        InputError: no such model or file, not a model file, or weights that do not fit their configuration.
    """
    place = resources.data_folder() / "weights"
    path = place / f"{name}.safetensors"
    if not path.is_file():
        path = place / name if str(name) in shipped() else Path(name)
    if path.is_dir() and (files := sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".ckpt"))):
        models = [load(file, device) for file in files]
        order = {name: n for n, name in enumerate(STEMS)}
        return Bundle(sorted(models, key=lambda model: order.get(model.stems[0], len(order)))).eval()
    if path.is_file() and path.suffix == ".ckpt":
        return official(path).eval().requires_grad_(False).to(pick(device))
    if not path.is_file() or path.suffix != ".safetensors":
        raise InputError(f"there is no model {str(name)!r}: it ships with {', '.join(shipped()) or 'none'}, "
                         "and a path must lead to a .safetensors file, or a .ckpt of the official code")
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in list(file.keys())}
    except (SafetensorError, OSError) as problem:
        raise InputError(f"{path} is not a safetensors file ({problem})") from None
    try:
        said = json.loads(meta["config"])
        config = (WaveConfig if said.get("front") == "wave" else Config).from_dict(said)
        with torch.device("meta"):  # its shapes alone: a file that names a giant is refused before it takes memory
            own = build(config).state_dict()
        history = json.loads(meta.get("record", "{}"))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as problem:
        raise InputError(f"{path} does not say which model it holds ({type(problem).__name__}: {problem})") from None
    odd = [key for key in own.keys() | tensors.keys()
           if key not in own or key not in tensors or own[key].shape != tensors[key].shape]
    if odd:
        raise InputError(f"{path}: {len(odd)} tensors do not fit the model it names, for example {sorted(odd)[0]}")
    model = build(config)
    model.record = history
    model.load_state_dict({key: value.to(own[key].dtype) for key, value in tensors.items()})
    return placed(model.eval().requires_grad_(False), pick(device))


def record(name: str) -> dict:
    """How a model that ships came to be, read without its weights where it is one file."""
    path = resources.data_folder() / "weights" / f"{name}.safetensors"
    if not path.is_file():
        return load(name, "cpu").record
    with safe_open(path, framework="pt") as file:
        return json.loads((file.metadata() or {}).get("record", "{}"))


def placed(model: StemModel, where: torch.device) -> StemModel:
    """The model on a device; networks of pictures with channels last, which is faster."""
    model = model.to(where)
    return model if isinstance(model, WaveModel) else model.to(memory_format=torch.channels_last)  # type: ignore
