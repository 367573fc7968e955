"""The same seed gives the same sound on every device, but for rounding. Needs a GPU, and says so without one."""

import pytest
import torch

import msdm_lite
from msdm_lite.data import example_clips

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here to compare the CPU with")

TASKS = {
    "separate": lambda model, stems: msdm_lite.separate(stems.sum(0), model),
    "separate, Dirac": lambda model, stems: msdm_lite.separate(stems.sum(0), model, "dirac", 10, corrections=1),
    "generate": lambda model, stems: msdm_lite.generate(model, 3.0, steps=10)[0],
    "accompany": lambda model, stems: msdm_lite.accompany({"drums": stems[1]}, model, steps=10),
}


@pytest.mark.parametrize("name", TASKS)
def test_cpu_and_gpu_agree(name):
    """To one part in a hundred: the noise is drawn on the CPU for both, and GPUs convolve with ten bits (TF32)."""
    stems = example_clips.clip("band_00")
    here, there = (TASKS[name](msdm_lite.load("lite", device), stems) for device in ("cpu", "cuda"))
    assert (here - there).norm() / here.norm() < 0.01
