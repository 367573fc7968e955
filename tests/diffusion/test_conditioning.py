from dataclasses import replace

import pytest
import torch

from msdm_lite.diffusion.conditioning import Conditioning, Task
from msdm_lite.errors import InputError

X = torch.randn(3, 4, 5, 7)


def test_further_conditions_go_along():
    """They have the batch as their first axis, and are taken apart by item."""
    known = Conditioning.on_stems(X, [1], mixture=True, style=torch.arange(3.0)).with_conditions(key=torch.ones(3, 2))
    assert known.given("style").tolist() == [0, 1, 2] and known.given("key").shape == (3, 2)
    assert known.given("tempo") is None
    some = known.items(torch.tensor([2, 0]))
    assert some.given("style").tolist() == [2, 0] and some.stems[:, 1].all() and some.mixture.all()
    known.require("this model", "style", "key")
    with pytest.raises(InputError, match="this model cannot be conditioned on the key"):
        known.require("this model", "style")


def test_a_span_is_clean_beside_the_given_stems():
    span = torch.zeros(1, 1, 1, 7, dtype=torch.bool)
    span[..., 2:4] = True
    known = replace(Conditioning.on_stems(X, [1]), span=span)
    free = known.unknown(X)
    assert free.shape == (3, 4, 1, 7) and not free[:, 1].any() and not free[..., 2:4].any()
    assert free[:, [0, 2, 3]][..., [0, 1, 4, 5, 6]].all() and known.any_known()
    assert torch.equal(known.items(torch.tensor([1])).span, span)


def test_a_task_knows_what_is_left():
    y, given = X.sum(1), X.clone()
    task = Task(tuple(X.shape), y, given, (0, 2))
    assert task.others == [1, 3] == task.among
    assert torch.allclose(task.remainder, X[:, [1, 3]].sum(1), atol=1e-5)
    known = task.conditioning(X)
    assert known.mixture.all() and known.stems.sum().item() == 6
    alone = Task(tuple(X.shape), y)
    assert alone.among is None and alone.remainder is y and alone.unconditional(X) is None
    nothing = Task(tuple(X.shape))
    assert nothing.conditioning(X) is None and nothing.like(torch.device("cpu")).shape == ()


@pytest.mark.parametrize("settings, says", [
    ({"stems": (4,), "given": X}, r"\[4\] cannot be the known"), ({"stems": (0, 1, 2, 3), "given": X}, "cannot be the"),
    ({"stems": (0,)}, "need their sound"), ({"given": X}, "needs known stems or a span"),
    ({"given": X, "span": torch.ones(7, dtype=torch.bool), "mixture": X.sum(1)}, "no mixture goes with a span")])
def test_tasks_that_do_not_fit_together(settings, says):
    with pytest.raises(InputError, match=says):
        Task(tuple(X.shape), **settings)
