"""Model files: safetensors in half precision, with configuration and training record in the metadata."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from msdm_lite import resources
from msdm_lite.device import pick
from msdm_lite.errors import InputError
from msdm_lite.model import Config, Model


def shipped() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.stem for path in resources.data_folder().glob("weights/*.safetensors"))


def save(model: Model, path: str | Path, record: dict) -> Path:
    """Write a model's weights in half precision, whole or not at all.

    Args:
        record: how it was trained; stored as JSON in the metadata and written beside the file as .json.
    """
    path = Path(path)
    tensors = {name: (value.half() if value.is_floating_point() else value).contiguous()
               for name, value in model.state_dict().items()}
    # Standard deviations of high bins are small: half precision would round them to denormals
    tensors["denoiser.deviation"] = model.denoiser.deviation.float().contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    save_file(tensors, scratch, {"config": json.dumps(model.config.to_dict()), "record": json.dumps(record)})
    scratch.replace(path)
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    return path


def load(name: str | Path = "lite", device: str = "auto") -> Model:
    """A model by the name it ships under, or by the path of its .safetensors file, on the GPU if there is one.

    Raises:
        InputError: no such model or file, not a model file, or weights that do not fit their configuration.
    """
    path = resources.data_folder() / "weights" / f"{name}.safetensors"
    if not path.is_file():
        path = Path(name)
    if not path.is_file() or path.suffix != ".safetensors":
        raise InputError(f"there is no model {str(name)!r}: it ships with {', '.join(shipped()) or 'none'}, "
                         "and a path must lead to a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in list(file.keys())}
    except (SafetensorError, OSError) as problem:
        raise InputError(f"{path} is not a safetensors file ({problem})") from None
    try:
        model = Model(Config.from_dict(json.loads(meta["config"])))
        model.record = json.loads(meta.get("record", "{}"))
    except (KeyError, TypeError, ValueError) as problem:
        raise InputError(f"{path} does not say which model it holds ({type(problem).__name__}: {problem})") from None
    own = model.state_dict()
    odd = [key for key in own.keys() | tensors.keys()
           if key not in own or key not in tensors or own[key].shape != tensors[key].shape]
    if odd:
        raise InputError(f"{path}: {len(odd)} tensors do not fit the model it names, for example {sorted(odd)[0]}")
    model.load_state_dict({key: value.to(own[key].dtype) for key, value in tensors.items()})
    return model.eval().requires_grad_(False).to(pick(device), memory_format=torch.channels_last)
