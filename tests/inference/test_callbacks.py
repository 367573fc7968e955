"""What the three public verbs have in common: a callback, cancellation, windows, and methods as names or objects."""

import gc
import inspect
import weakref
from dataclasses import dataclass

import pytest
import torch
from tqdm import tqdm

import msdm_lite
from msdm_lite.diffusion.guidance import unconditional
from msdm_lite.diffusion.guidances import TaskGuidance
from msdm_lite.diffusion.samplers import euler
from msdm_lite.errors import InputError
from msdm_lite.inference.accompaniment import accompany
from msdm_lite.inference.generation import generate
from msdm_lite.inference.separation import separate

T = 4 * 22050  # two segments of `tiny`, nearly: three windows
LIMITS = {"sigma_max": 5.0, "sigma_min": 0.01, "churn": 0.0}


def sound(seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(T, generator=torch.Generator().manual_seed(seed))


VERBS = {
    "separate": lambda model, **settings: separate(sound(), model, "mixture-constrained", **settings),
    "generate": lambda model, **settings: generate(model, T / 22050, **settings),
    "accompany": lambda model, **settings: accompany({"drums": sound()}, model, method="stems-given", **settings),
}
each_verb = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())


class Cancelled(Exception):
    """The user's own."""


@each_verb
def test_a_callback_sees_every_state(tiny, verb):
    """One state for each noise level, at falling levels; what it sees last is what is decoded; it changes nothing."""
    states = []
    found = verb(tiny, steps=4, callback=states.append)
    assert len(states) == 4
    levels = [state.sigma for state in states]
    assert levels == sorted(levels, reverse=True) and len(set(levels)) == 4 and levels[-1] == 0
    frames = tiny.transform.length(T)
    assert all(state.x.shape == state.x0.shape == (1, 4, tiny.transform.rows, frames) for state in states)
    assert torch.equal(states[-1].x, states[-1].x0)  # at level 0 the state is the estimate
    assert torch.equal(found, verb(tiny, steps=4))


def test_states_of_bands_that_are_made_together(tiny):
    shapes = []
    generate(tiny, 0.5, 3, steps=2, batch=2, callback=lambda state: shapes.append((len(state.x), state.sigma > 0)))
    assert shapes == [(2, True), (2, False), (1, True), (1, False)]


def test_states_of_several_samples_come_one_run_after_another(tiny):
    levels = []
    separate(sound(), tiny, steps=2, samples=2, callback=lambda state: levels.append(state.sigma))
    assert len(levels) == 4 and levels[:2] == levels[2:] and levels[1] == 0 < levels[0]


@each_verb
def test_an_exception_in_the_callback_cancels_and_leaves_nothing(tiny, verb):
    """Neither states, nor a progress bar, nor a changed mode of torch; the next call gives what it always gives."""
    kept = []

    def cancel(state):
        kept.extend(map(weakref.ref, (state, state.x, state.x0)))
        if len(kept) == 6:
            raise Cancelled

    before = verb(tiny, steps=3)
    with pytest.raises(Cancelled):
        verb(tiny, steps=3, callback=cancel, progress=True)
    gc.collect()
    assert len(kept) == 6 and all(reference() is None for reference in kept)
    assert torch.is_grad_enabled() and not getattr(tqdm, "_instances", ())
    assert torch.equal(verb(tiny, steps=3), before)


@each_verb
def test_overlap_changes_the_windows(tiny, verb, monkeypatch):
    """More overlap, more windows; and another result, as every frame near a seam has another context."""
    seen = []
    denoise = type(tiny).denoise
    monkeypatch.setattr(type(tiny), "denoise", lambda model, x, *rest: seen.append(len(x)) or denoise(model, x, *rest))
    little, much = verb(tiny, steps=1), sum(seen)
    seen.clear()
    wide, many = verb(tiny, steps=1, overlap=0.75), sum(seen)
    assert much == 3 and many == 5 and not torch.allclose(little, wide, atol=1e-5)
    for wrong in (-0.1, 1.0):
        with pytest.raises(InputError, match="overlap by a share"):
            verb(tiny, steps=1, overlap=wrong)


@pytest.mark.parametrize("verb", [VERBS["separate"], VERBS["accompany"]], ids=["separate", "accompany"])
def test_a_batch_of_windows_changes_nothing_but_rounding(tiny, verb, monkeypatch):
    seen = []
    denoise = type(tiny).denoise
    monkeypatch.setattr(type(tiny), "denoise", lambda model, x, *rest: seen.append(len(x)) or denoise(model, x, *rest))
    one, two = (verb(tiny, steps=1, batch=batch) for batch in (1, 2))
    assert seen == [1, 1, 1, 2, 1]
    assert (one - two).abs().max() < 1e-4 * one.abs().max()
    for wrong in (0, -1):
        with pytest.raises(InputError, match="one or more"):
            verb(tiny, steps=1, batch=wrong)


@each_verb
def test_a_sampler_by_name_or_as_a_step(tiny, verb):
    settings = {"steps": 3, **LIMITS}
    named, other = (verb(tiny, sampler=name, **settings) for name in ("euler", "heun"))
    assert torch.equal(verb(tiny, sampler=euler, **settings), named) and not torch.equal(named, other)
    calls = []

    def half(x, sigma, following, derivative, memory):  # a step of one's own
        calls.append(following)
        return euler(x, sigma, following, derivative, memory)

    assert torch.equal(verb(tiny, sampler=half, **settings), named) and len(calls) == 3
    with pytest.raises(InputError, match="no sampler 'magic'"):
        verb(tiny, sampler="magic")


@dataclass(frozen=True)
class Damped(TaskGuidance):
    """The derivative of the prior, times a factor; the simplest guidance that has a setting."""

    factor: float = 1.0

    def __call__(self, x, sigma, denoise):
        return self.factor * unconditional()(x, sigma, denoise)


@pytest.mark.parametrize("verb", [
    lambda model, **settings: generate(model, 0.5, steps=3, sampler="euler", **settings),
    lambda model, **settings: accompany({"drums": sound()[:11025]}, model, steps=3, **settings)],
    ids=["generate", "accompany"])
def test_a_guidance_by_name_or_as_an_object(tiny, verb):
    """The prior by name is the prior as an object; a guidance of one's own takes part, with its setting."""
    named = verb(tiny, guidance="prior")
    assert torch.equal(verb(tiny, guidance=Damped()), named)
    assert torch.equal(verb(tiny, guidance=Damped(), factor=0.5), verb(tiny, guidance=Damped(0.5)))
    assert not torch.equal(verb(tiny, guidance=Damped(0.5)), named)
    with pytest.raises(InputError, match="no guidance 'magic'"):
        verb(tiny, guidance="magic")


def test_a_guidance_without_a_method_has_the_levels_of_the_method_that_suits_it(tiny):
    """Accompaniment: "stems-given" for a guidance whose states contain the given stems, "replacement" for others."""
    given = {"drums": sound()[:11025]}

    def levels(**settings):
        seen = []
        accompany(given, tiny, steps=4, callback=lambda state: seen.append(state.sigma), **settings)
        return seen

    assert levels(guidance="conditioned") == levels(method="stems-given") == levels()
    assert levels(guidance="prior") == levels(guidance=Damped()) == levels(method="replacement") != levels()


def test_the_public_verbs_take_their_options_by_name():
    """By position the main arguments alone; the options of all three have the same names."""
    common = {"steps", "seed", "progress", "guidance", "sampler", "callback", "overlap", "batch", "method"}
    for verb, positional in ((msdm_lite.separate, ["source", "model", "method"]),
                             (msdm_lite.generate, ["model", "seconds", "n", "seed"]),
                             (msdm_lite.accompany, ["given", "model"])):
        parameters = inspect.signature(verb).parameters
        assert [name for name, one in parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD] == positional
        assert common <= set(parameters)
