"""Accompaniment: new stems for an unfinished band, what `msdm-lite accompany` calls.

Source: Mariani et al., arXiv 2302.02257, partial generation. Chapter: `book/08-imputation.ipynb`.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from msdm_lite.audio import io as audio_io
from msdm_lite.diffusion import methods, sampling
from msdm_lite.diffusion.conditioning import Task
from msdm_lite.diffusion.guidances import AnyGuidance
from msdm_lite.diffusion.samplers import Step
from msdm_lite.diffusion.sampling import Callback
from msdm_lite.errors import InputError
from msdm_lite.inference import levels
from msdm_lite.inference.cascade import load_sketcher, sample_sketch, sketch_evaluations
from msdm_lite.inference.defaults import imputation_method, require_seed
from msdm_lite.inference.encoding import check_samples, decode, encode_stems, gain_for, require_level
from msdm_lite.inference.windows import Windowed
from msdm_lite.models import weights
from msdm_lite.models.base import StemModel
from msdm_lite.utils import files
from msdm_lite.utils.device import large_blocks_returned

LOG = logging.getLogger("msdm_lite")


def load_stems(given: Mapping[str, str | Path | Tensor], model: StemModel) -> dict[str, Tensor]:
    """Stems by name, (T,) each, of one length: shorter ones are padded with silence, with a warning.

    Raises:
        InputError: a file that cannot be used, a stem that the model does not have, none, or all of them.
    """
    for name in given:
        model.stem_index(name)
    if not given:
        raise InputError("no stem is given: name at least one, or generate a whole band")
    if len(given) == len(model.stems):
        raise InputError("all stems are given: there is no stem to add")
    waves = {}
    for name, source in given.items():
        waves[name] = audio_io.samples(source, model.sample_rate)
        if waves[name].ndim != 1:
            raise InputError(f"{name} is mono, (T,), and not of shape {tuple(waves[name].shape)}")
        check_samples(waves[name], model, name)
    longest = max(map(len, waves.values()))
    for name, wave in list(waves.items()):
        if len(wave) < longest:
            LOG.warning("%s is %.2f s shorter than the longest stem: silence follows it", name,
                        (longest - len(wave)) / model.sample_rate)
            waves[name] = torch.nn.functional.pad(wave, (0, longest - len(wave)))
    return waves


@torch.no_grad()
@large_blocks_returned()
def accompany(given: Mapping[str, str | Path | Tensor], model: StemModel | str = "lite", *,
              seed: int = 0, method: str | None = None, steps: int | None = None, progress: bool = False,
              sketcher: StemModel | str | None = None, guidance: AnyGuidance | str | None = None,
              sampler: Step | str | None = None, callback: Callback | None = None, overlap: float = 0.25,
              batch: int | None = None, level: str = "training", **settings: Any) -> Tensor:
    """A whole band (S, T): the given stems, unchanged, and the generated others.

    Args:
        given: some of the model's stems, by name: files of any rate, or samples (T,) at the model's rate.
        model: from `msdm_lite.load`, or its name.
        seed: the same seed gives the same band on the same device.
        method: a name in `msdm_lite.diffusion.methods.IMPUTATIONS`. If None, "stems-given" where the model was trained
            for it (`StemModel.trained_for`), and "replacement" where not.
        steps: noise levels; the method's own number if None.
        sketcher: a model, or its name, that first generates a sketch of the new stems, which the model then decodes.
        guidance: a name in `msdm_lite.diffusion.guidances.GUIDANCES`, or an object, `guidance(x, sigma, denoise) -> d`.
            Without a method it has the noise levels and the churn of "stems-given" if it is for states that contain the
            given stems (`inside`), and of "replacement" if not.
        sampler: a name in `msdm_lite.diffusion.samplers.SAMPLERS`, or a step.
        callback: called with each state of the sampler, (x, sigma, x0) with x (1, S, rows, L), at falling noise levels,
            the last of them 0; an exception in it ends the accompaniment. The states of a sketch are not among them.
        overlap: share of a window that it has in common with the next, where the stems are longer than a segment.
        batch: windows that go through the network together, which changes time and memory only; what suits the device
            if None.
        level: "training": the network gets the given stems at the level that it was trained at; "keep": as they are.
        settings: any other field of `msdm_lite.diffusion.methods.Method`, and of the guidance.

    The new stems have the loudness relative to the given ones that the model was trained on.

    Raises:
        InputError: no stem, all stems or others than the model's; files or settings that cannot be used.
    """
    if isinstance(model, str | Path):
        model = weights.load(model)
    require_level(level)
    require_seed(seed)
    chosen = imputation_method(model, method, steps=steps, guidance=guidance, sampler=sampler, **settings)
    sketcher = load_sketcher(sketcher, model)
    waves = load_stems(given, model)
    T = len(next(iter(waves.values())))
    numbers = [model.stems.index(name) for name in waves]
    sounds = {name: levels.prepared(wave, model.sample_rate, name, "not for the model; the stem stays as it is",
                                pauses=True)
              for name, wave in waves.items()}
    sounding = [rms for _, rms in sounds.values() if rms > 1e-12]
    if not sounding:
        LOG.warning("the given stems are silent: the new ones do not depend on them")
    # One gain for all, so that their balance stays: on average they have the RMS level of the training stems
    whole = (sum(rms**2 for rms in sounding) / len(sounding)) ** 0.5 if sounding else 0.0
    gain = gain_for(whole, model.stem_rms, level) if sounding else 1.0
    clean = encode_stems({n: sound for n, (sound, _) in zip(numbers, sounds.values(), strict=True)}, model, T, gain)
    denoise = Windowed(model, overlap, batch)
    sketching = Windowed(sketcher, overlap, batch) if sketcher else None
    total = chosen.nfe * denoise.batch_count(1, clean.shape[-1])
    weight = getattr(chosen.guidance, "weight", 1.0)
    total += sketch_evaluations(sketching, clean.shape[-1], weight)
    generator = torch.Generator().manual_seed(seed)
    conditions: dict[str, Tensor] = {}
    with tqdm(total=total, desc="accompanying", unit="batch", disable=not progress, leave=False) as bar:
        denoise.tick = bar.update
        if sketching:
            sketching.tick = bar.update
            given_sketch = model.sketch_of(clean)
            full_sketch = sample_sketch(sketching, clean.shape[-1], generator, None, given_sketch, numbers,
                                        weight)
            conditions["sketch"] = full_sketch
        task = Task(tuple(clean.shape), given=clean, stems=numbers, conditions=conditions)
        states = methods.sample(task, denoise, chosen, generator)
        del clean, task  # the sampler has what it needs of them
        band = decode(sampling.final_x(states, callback)[0], model, T, 1 / gain)
    for n, wave in zip(numbers, waves.values(), strict=True):  # to the last bit
        band[n] = wave
    return band


def with_mix(band: Tensor, model: StemModel) -> dict[str, Tensor]:
    """The stems (S, T) of a band by name, and their mix."""
    return dict(zip(model.stems, band, strict=True)) | {"mix": band.sum(0)}


def file_names(model: StemModel) -> list[str]:
    """The names of the files of a band."""
    return [f"{name}.wav" for name in (*model.stems, "mix")]


def save_band(folder: str | Path, band: Tensor, model: StemModel) -> list[Path]:
    """Write the stems (S, T) and their mix to a folder, all or none. Returns the paths of the files.

    Raises:
        InputError: they cannot be written there.
    """
    folder = files.writable_folder(folder)
    return audio_io.save_all({folder / f"{name}.wav": wave for name, wave in with_mix(band, model).items()},
                             model.sample_rate)
