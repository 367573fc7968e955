"""Model files: safetensors in half precision, with configuration and training record in the metadata.

Chapter: `book/05-training.ipynb`.
"""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from msdm_lite.audio.io import STEMS
from msdm_lite.errors import InputError
from msdm_lite.models import official, sketcher  # noqa: F401 (registers its model)
from msdm_lite.models.base import TASKS, StemModel
from msdm_lite.models.config import WAVE_PRESETS, Config, WaveConfig
from msdm_lite.models.independent import IndependentModels
from msdm_lite.models.joint import WaveModel
from msdm_lite.models.unet1d import UNet1d
from msdm_lite.models.unpickle import one_line
from msdm_lite.utils import paths
from msdm_lite.utils.device import pick
from msdm_lite.utils.files import written_whole
from msdm_lite.utils.registry import Registry

MODELS: Registry[Callable[[], StemModel]] = Registry("model")  # of a user, each a function that builds it


def build(config: Config | WaveConfig) -> StemModel:
    """An untrained model of that configuration.

    Raises:
        InputError: a task that no model has; a model of your own is registered in the module that defines it.
    """
    return TASKS.find(config.task)(config)


MOST = 256  # blocks in a level, levels, bands or stems that a file may ask for
# Names in files of the first versions -> names of today. Of tensors these are prefixes
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
INNER = {".shrink.": ".downsample.", ".grow.": ".upsample."}  # within a level of the one-dimensional U-Net
SETTINGS = {"told": "embedding_width", "fold_frames": "frames_per_column", "click": "beat_phase"}  # of a configuration
RECIPE = {"clicked": "beat_share"}  # of the recipe in a training record


def current_tensor_name(name: str) -> str:
    """Today's name of a tensor in a file; today's names are returned unchanged."""
    for old, new in TENSORS.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    if name.startswith(("denoiser.net.down.", "denoiser.net.up.")):
        for old, new in INNER.items():
            name = name.replace(old, new)
    return name


def current_record(record: dict[str, Any]) -> dict[str, Any]:
    """A training record with today's names in its recipe."""
    recipe = {RECIPE.get(key, key): value for key, value in record.get("recipe", {}).items()}
    return record | ({"recipe": recipe} if recipe else {})


def shipped() -> list[str]:
    """Names of the models that are shipped with the package."""
    folder = paths.data_folder() / "weights"
    return sorted({path.stem for path in folder.glob("*.safetensors")}
                  | {path.parent.name for path in folder.glob("*/*.safetensors")})


def save(model: StemModel, path: str | Path, record: dict[str, Any]) -> Path:
    """Write a model's weights in half precision, atomically; returns the path.

    Args:
        record: of the training; stored as JSON in the metadata, and in a .json next to the file.

    Raises:
        MachineError: the disk is full.
    """
    path = Path(path)
    tensors = {name: (value.half() if value.is_floating_point() else value).contiguous()
               for name, value in model.state_dict().items()}
    if "denoiser.std" in tensors:  # values of high bins would be denormal in half precision
        tensors["denoiser.std"] = model.denoiser.std.float().contiguous()
    with written_whole(path) as scratch:
        try:
            save_file(tensors, scratch, {"config": json.dumps(model.config.to_dict()), "record": json.dumps(record)})
        except SafetensorError as problem:  # it has no errno
            full = "os error 28" in str(problem)
            raise OSError(errno.ENOSPC if full else errno.EIO, str(problem), str(path)) from None
    with written_whole(path.with_suffix(".json")) as scratch:
        scratch.write_text(json.dumps(record, indent=1) + "\n")
    return path


def load_official_model(path: Path) -> WaveModel:
    """A checkpoint of the official code (arXiv 2302.02257) as a model; nothing in the file is run.

    Raises:
        InputError: no such checkpoint; a number of stems other than 1 and 4; one stem, and the file is not named after
            it.
    """
    denoiser = official.load_official(path)
    shape = cast(UNet1d, denoiser.net).config
    count = shape.stems
    if count not in (1, len(STEMS)) or (count == 1 and path.stem not in STEMS):
        raise InputError(f"{path} has a model of {count} stem(s): of {len(STEMS)} they are {', '.join(STEMS)}; of "
                         "one, name the file after it, as in drums.ckpt")
    own = [name for name, config in WAVE_PRESETS.items() if config.net == shape]
    model = WaveModel(WaveConfig(own[0] if own else path.stem, STEMS if count > 1 else (path.stem,),
                                 net=shape, sigma_data=denoiser.sigma_data, stem_rms=None), denoiser)
    model.record = {"source": f"{path.name}, a checkpoint of the official code of arXiv 2302.02257"}
    return model


def load(name: str | Path = "lite", device: str = "auto") -> StemModel:
    """A model by the name of a shipped one or one in `MODELS`, or by its file's path, on the GPU if there is one.

    A file is a .safetensors of `save`, or a .ckpt of the official code. A folder with one such file, as a training run
    leaves it, gives its model; a folder of such files, one for each stem, gives independent models.

    Raises:
        InputError: no such model or file, not a model file, or weights that do not fit their configuration.
    """
    if str(name) in MODELS:
        return MODELS.find(str(name))().eval().requires_grad_(False).to_device(pick(device))
    folder = paths.data_folder() / "weights"
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        path = folder / name if str(name) in shipped() else paths.expanded(name)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".safetensors", ".ckpt"))
        if len(files) == 1:  # the folder of a training run
            return load(files[0], device)
        if not files and (path / "checkpoint.pt").exists():
            raise InputError(f"{path} holds a training run that has not written its model yet: go on with msdm-lite "
                             f"train --out {path} --resume")
        if files:
            models = [load(file, device) for file in files]
            order = {name: n for n, name in enumerate(STEMS)}
            return IndependentModels(sorted(models, key=lambda model: order.get(model.stems[0], len(order)))).eval()
    if path.is_file() and path.suffix == ".ckpt":
        return load_official_model(path).eval().requires_grad_(False).to_device(pick(device))
    if not path.is_file() or path.suffix != ".safetensors":
        raise InputError(f"there is no model {str(name)!r}: it ships with {', '.join(shipped()) or 'none'}, "
                         "and a path must lead to a .safetensors file, or a .ckpt of the official code")
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            tensors = {current_tensor_name(key): file.get_tensor(key) for key in list(file.keys())}
    except (SafetensorError, OSError) as problem:
        raise InputError(f"{path} is not a safetensors file ({one_line(problem)})") from None
    try:
        values = {SETTINGS.get(key, key): value for key, value in json.loads(
            meta["config"], parse_constant=_refuse_constant).items()}
        config = (WaveConfig if values.get("front") == "wave" else Config).from_dict(values)
        _require_size(config)
        with torch.device("meta"):  # shapes only, so that no memory is taken for a file with a huge configuration
            own = build(config).state_dict()
        history = current_record(json.loads(meta.get("record", "{}")))
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError, AssertionError,
            MemoryError) as problem:
        raise InputError(f"{path} does not say which model it holds ({one_line(problem)})") from None
    unfit = [key for key in own.keys() | tensors.keys()
             if key not in own or key not in tensors or own[key].shape != tensors[key].shape]
    if unfit:
        raise InputError(f"{path}: {len(unfit)} tensors do not fit the model it names, for example {sorted(unfit)[0]}")
    if not all(value.isfinite().all() for value in tensors.values() if value.is_floating_point()):
        raise InputError(f"{path}: the weights are not all finite: it is damaged, or its training went wrong")
    model = build(config)
    model.record = history
    model.load_state_dict({key: value.to(own[key].dtype) for key, value in tensors.items()})
    return model.eval().requires_grad_(False).to_device(pick(device))


def _refuse_constant(name: str) -> None:
    """Raises ValueError: JSON of Python knows NaN and Infinity, and no configuration has them."""
    raise ValueError(f"{name} in the configuration")


def _require_size(config: Any) -> None:
    """Raises ValueError for a configuration with more layers than any network here: to count them would take hours."""
    net = getattr(config, "net", config)
    layers = [*net.blocks, sum(net.blocks), len(net.blocks), len(getattr(config, "widths", ())),
              len(getattr(config, "bands", ())), len(config.stems)]
    if any(not 0 <= number <= MOST for number in layers):
        raise ValueError(f"{max(layers)} layers or stems")


def record(name: str) -> dict[str, Any]:
    """The training record of a shipped model; of a single file it is read without the weights."""
    path = paths.data_folder() / "weights" / f"{name}.safetensors"
    if not path.is_file():
        return load(name, "cpu").record
    with safe_open(path, framework="pt") as file:
        return current_record(json.loads((file.metadata() or {}).get("record", "{}")))
