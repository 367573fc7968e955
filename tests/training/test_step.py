import multiprocessing
import signal

import pytest
import torch

from msdm_lite.errors import InputError
from msdm_lite.models.joint import Model
from msdm_lite.training import loop, step


def test_a_song_that_breaks_meanwhile_is_said_in_one_line():
    """A loader's worker hands its error on with the whole traceback in it, as torch words it."""
    class Broken(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            raise InputError("song1/bass.wav: damaged")

    for workers in (0, 1) if multiprocessing.get_start_method() == "fork" else (0,):
        batches = iter(torch.utils.data.DataLoader(Broken(), 2, num_workers=workers))
        with pytest.raises(InputError, match=r"^song1/bass\.wav: damaged$"):
            step._next(batches)


def test_a_gradient_that_is_not_finite_stops_before_the_weights_change(recipe, tmp_path, monkeypatch):
    """The loss is finite, its gradient is not: the checkpoint of the step before stays."""
    real, calls = Model.loss, []

    def poisoned(self, x, *others):
        calls.append(1)
        loss = real(self, x, *others)
        if len(calls) < 3 or not torch.is_grad_enabled():
            return loss
        weight = next(self.denoiser.net.parameters())
        return loss + (0 * weight.sum()).abs().sqrt()  # the derivative of the root at zero

    monkeypatch.setattr(Model, "loss", poisoned)
    monkeypatch.setattr(loop, "_validate", lambda *_: {"steps": 0})  # it would call the loss as well
    with pytest.raises(FloatingPointError, match=r"gradient of step 2 has the norm nan.*song[123] at \d+"):
        loop.train(recipe, tmp_path / "run", progress=False, checkpoint_minutes=0)
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 2 and all(value.isfinite().all() for value in state["model"].values())


def test_a_second_interrupt_is_not_swallowed():
    """The first lets the step finish; the second ends it."""
    with pytest.raises(KeyboardInterrupt), step.interruptible() as pressed:
        signal.raise_signal(signal.SIGINT)
        assert pressed == [True]
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("it went on")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
