"""Fine-tuning: training that starts from the weights of another model.

Chapter: `book/05-training.ipynb`.
"""

from dataclasses import replace

import torch
from torch import Tensor

from msdm_lite.errors import InputError
from msdm_lite.models.base import StemModel
from msdm_lite.models.config import Config, WaveConfig
from msdm_lite.training.recipe import Recipe


def finetuned_config(start: Config | WaveConfig, wanted: Config | WaveConfig) -> Config | WaveConfig:
    """The configuration of a fine-tuned model: the sizes of `start`, and the sketch and beat inputs that are wanted."""
    if not (isinstance(start, Config) and isinstance(wanted, Config)):
        return start
    return replace(start, sketch=wanted.sketch, beat_phase=wanted.beat_phase)


def start_from(start: StemModel, model: StemModel, recipe: Recipe, stems: tuple[str, ...]) -> None:
    """Copy the weights of `start` into `model`. Inputs that only `model` has get weights of zero.

    Raises:
        InputError: `start` has another preset, other stems or sizes, or has been trained as long already as the recipe
            says in all.
    """
    named = (start.config.preset, start.stems) == (recipe.preset, stems)
    given, own = start.state_dict(), model.state_dict()
    if not named or given.keys() != own.keys():
        raise InputError(f"{recipe.start} is no {recipe.preset} of {', '.join(stems)}: name its preset and its stems, "
                         "or another model to start with")
    done, wanted = (start.record.get("steps", 0), recipe.steps) if recipe.steps else (
        start.record.get("minutes", 0), recipe.minutes)
    if done >= wanted:
        raise InputError(f"{recipe.start} has {done:g} {'steps' if recipe.steps else 'minutes'} behind it, and they "
                         f"count: ask for more than that, not for {wanted:g}")
    model.load_state_dict({name: _widened(given[name], own[name], name, recipe) for name in own})


def _widened(given: Tensor, own: Tensor, name: str, recipe: Recipe) -> Tensor:
    """Weights with columns of zeros added for further inputs, which come after the inputs of `start`."""
    if given.shape == own.shape:
        return given
    more = own.shape[1] - given.shape[1] if given.ndim > 1 and given.ndim == own.ndim else 0
    if more <= 0 or given.shape[:1] + given.shape[2:] != own.shape[:1] + own.shape[2:]:
        raise InputError(f"{recipe.start} is a {recipe.preset} of other sizes than this version's, from {name} on")
    return torch.cat([given, torch.zeros(len(given), more, *given.shape[2:]).to(given)], 1)
