"""Model files: safetensors in half precision, with configuration and training record in the metadata.

Chapter: `book/05-training.ipynb`.
"""

import errno
import json
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from msdm_lite.audio.io import STEMS
from msdm_lite.errors import InputError
from msdm_lite.models import config as models_config
from msdm_lite.models import joint
from msdm_lite.models import official as models_official
from msdm_lite.models.base import StemModel
from msdm_lite.models.config import WAVE_PRESETS, Config, WaveConfig
from msdm_lite.models.independent import IndependentModels
from msdm_lite.models.joint import Model, WaveModel
from msdm_lite.models.unet1d import UNet1d
from msdm_lite.utils import paths
from msdm_lite.utils.device import pick
from msdm_lite.utils.files import written_whole


def build(config: Config | models_config.WaveConfig) -> Model | joint.WaveModel:
    """An untrained model of that configuration.

    Raises:
        InputError: a task that no model of this version has.
    """
    if not isinstance(config, Config):
        return joint.WaveModel(config)
    from msdm_lite.models.joint import Guided, Supervised
    from msdm_lite.models.sketcher import Sketcher

    tasks = {"denoise": Model, "separate": Supervised, "guided": Guided, "sketch": Sketcher}
    if config.task not in tasks:
        raise InputError(f"there is no task {config.task!r}; there are {', '.join(tasks)}")
    return tasks[config.task](config)


# Files written before the networks took the field's names: what a name in them begins with -> how it begins now
TENSORS = {
    "denoiser.deviation": "denoiser.std",
    "denoiser.net.folding.enter.": "denoiser.net.space_to_depth.project_in.",
    "denoiser.net.folding.leave.": "denoiser.net.space_to_depth.project_out.",
    "denoiser.net.place.": "denoiser.net.position.",
    "denoiser.net.shrink.": "denoiser.net.downsample.",
    "denoiser.net.grow.": "denoiser.net.upsample.",
    "denoiser.net.enter.": "denoiser.net.project_in.",
    "denoiser.net.leave.": "denoiser.net.project_out.",
}
INNER = {".shrink.": ".downsample.", ".grow.": ".upsample."}  # the same inside a level of the 1-d network
SETTINGS = {"told": "embedding_width", "fold_frames": "frames_per_column", "click": "beat_phase"}  # of a configuration
RECIPE = {"clicked": "beat_share"}  # of the recipe in a training record


def current_tensor_name(name: str) -> str:
    """The name that a tensor of a file has in today's networks; names of today stay as they are."""
    for old, new in TENSORS.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    if name.startswith(("denoiser.net.down.", "denoiser.net.up.")):
        for old, new in INNER.items():
            name = name.replace(old, new)
    return name


def current_record(record: dict) -> dict:
    """A training record whose recipe has today's names."""
    recipe = {RECIPE.get(key, key): value for key, value in record.get("recipe", {}).items()}
    return record | ({"recipe": recipe} if recipe else {})


def shipped() -> list[str]:
    """Names of the models that come with the package."""
    places = paths.data_folder() / "weights"
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
    if "denoiser.std" in tensors:  # that of a high bin is small: half precision would round it to a denormal
        tensors["denoiser.std"] = model.denoiser.std.float().contiguous()
    with written_whole(path) as scratch:
        try:
            save_file(tensors, scratch, {"config": json.dumps(model.config.to_dict()), "record": json.dumps(record)})
        except SafetensorError as problem:  # which has no errno
            full = "os error 28" in str(problem)
            raise OSError(errno.ENOSPC if full else errno.EIO, str(problem), str(path)) from None
    with written_whole(path.with_suffix(".json")) as scratch:
        scratch.write_text(json.dumps(record, indent=1) + "\n")
    return path


def load_official_model(path: Path) -> WaveModel:
    """A checkpoint of the official code (arXiv 2302.02257) as a model; nothing that the file carries is run.

    Raises:
        InputError: no such checkpoint; of one stem and its file is not called by it; or of another number than 1 or 4.
    """
    denoiser = models_official.load_official(path)
    shape = cast(UNet1d, denoiser.net).config
    count = shape.stems
    if count not in (1, len(STEMS)) or (count == 1 and path.stem not in STEMS):
        raise InputError(f"{path} holds a model of {count} stem(s): of {len(STEMS)} they are {', '.join(STEMS)}; of "
                         "one, name the file after it, as in drums.ckpt")
    own = [name for name, config in WAVE_PRESETS.items() if config.net == shape]
    model = WaveModel(WaveConfig(own[0] if own else path.stem, STEMS if count > 1 else (path.stem,),
                                 net=shape, sigma_data=denoiser.sigma_data), denoiser)
    model.record = {"source": f"{path.name}, a checkpoint of the official code of arXiv 2302.02257"}
    return model


def load(name: str | Path = "lite", device: str = "auto") -> StemModel:
    """A model by the name it ships under, or by its file's path, on the GPU if there is one.

    A file is one of ours, .safetensors, or a .ckpt of the official code. A folder of such files, one a stem, is a
    bundle of independent models.

    Raises:
        InputError: no such model or file, not a model file, or weights that do not fit their configuration.
    """
    place = paths.data_folder() / "weights"
    path = place / f"{name}.safetensors"
    if not path.is_file():
        path = place / name if str(name) in shipped() else Path(name)
    if path.is_dir() and (files := sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".ckpt"))):
        models = [load(file, device) for file in files]
        order = {name: n for n, name in enumerate(STEMS)}
        return IndependentModels(sorted(models, key=lambda model: order.get(model.stems[0], len(order)))).eval()
    if path.is_file() and path.suffix == ".ckpt":
        return load_official_model(path).eval().requires_grad_(False).to(pick(device))
    if not path.is_file() or path.suffix != ".safetensors":
        raise InputError(f"there is no model {str(name)!r}: it ships with {', '.join(shipped()) or 'none'}, "
                         "and a path must lead to a .safetensors file, or a .ckpt of the official code")
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            tensors = {current_tensor_name(key): file.get_tensor(key) for key in list(file.keys())}
    except (SafetensorError, OSError) as problem:
        raise InputError(f"{path} is not a safetensors file ({problem})") from None
    try:
        said = json.loads(meta["config"])
        said = {SETTINGS.get(key, key): value for key, value in said.items()}
        config = (WaveConfig if said.get("front") == "wave" else Config).from_dict(said)
        with torch.device("meta"):  # its shapes alone: a file that names a giant is refused before it takes memory
            own = build(config).state_dict()
        history = current_record(json.loads(meta.get("record", "{}")))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as problem:
        raise InputError(f"{path} does not say which model it holds ({type(problem).__name__}: {problem})") from None
    odd = [key for key in own.keys() | tensors.keys()
           if key not in own or key not in tensors or own[key].shape != tensors[key].shape]
    if odd:
        raise InputError(f"{path}: {len(odd)} tensors do not fit the model it names, for example {sorted(odd)[0]}")
    model = build(config)
    model.record = history
    model.load_state_dict({key: value.to(own[key].dtype) for key, value in tensors.items()})
    return to_device(model.eval().requires_grad_(False), pick(device))


def record(name: str) -> dict:
    """How a model that ships came to be, read without its weights where it is one file."""
    path = paths.data_folder() / "weights" / f"{name}.safetensors"
    if not path.is_file():
        return load(name, "cpu").record
    with safe_open(path, framework="pt") as file:
        return current_record(json.loads((file.metadata() or {}).get("record", "{}")))


def to_device(model: StemModel, where: torch.device) -> StemModel:
    """The model on a device; networks of pictures with channels last, which is faster."""
    model = model.to(where)
    return model if isinstance(model, WaveModel) else model.to(memory_format=torch.channels_last)  # type: ignore
