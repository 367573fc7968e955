"""A result that cannot be right is an error, in Python and on the command line, and nothing is written."""

import pytest
import torch

import msdm_lite
from msdm_lite.audio import io as audio_io
from msdm_lite.cli import main
from msdm_lite.errors import DivergenceError

MIX = 0.1 * torch.randn(11025, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def tiny():
    return msdm_lite.load("tiny", "cpu")


@pytest.mark.parametrize("method, also", [("gaussian", r", c above 1\.06"), ("dirac", "")])
def test_too_few_steps_stop(tiny, method, also):
    levels = []
    with pytest.raises(DivergenceError, match=rf"than 10 steps, churn below \d+, fewer corrections than 2{also}, an"
                       ) as said:
        msdm_lite.separate(MIX, tiny, method, steps=10, callback=lambda state: levels.append(state.sigma))
    assert "\n" not in str(said.value) and 0 < len(levels) < 10  # before its end
    free = msdm_lite.separate(MIX, tiny, method, steps=10, limit=float("inf"))
    assert free.abs().max() > 100 * MIX.abs().max()  # what was returned before


def test_the_example_of_twenty_steps_and_the_defaults(tiny):
    with pytest.raises(DivergenceError, match="more than 20 steps"):
        msdm_lite.separate(MIX, tiny, "gaussian", steps=20)
    for method in ("mixture-constrained", "wiener", "projdiff"):
        assert msdm_lite.separate(MIX, tiny, method).abs().max() < 10 * MIX.abs().max()
    quiet = msdm_lite.separate(1e-4 * MIX, tiny, "wiener", level="keep")
    assert quiet.abs().max() < 0.1  # the noise is larger than a mixture that is kept quiet, and that is no divergence


def test_the_command_says_one_line_and_writes_nothing(tmp_path, capsys):
    audio_io.save(tmp_path / "mix.wav", MIX, 22050)
    assert main.main(["separate", str(tmp_path / "mix.wav"), "--out", str(tmp_path / "out"), "--model", "tiny",
                      "--method", "gaussian", "--steps", "20", "--device", "cpu"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("msdm-lite: the sampler diverges: at sigma = ") and "more than 20 steps" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["mix.wav"]
