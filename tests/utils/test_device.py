import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import msdm_lite
from msdm_lite.data import example_clips
from msdm_lite.errors import InputError
from msdm_lite.utils import device

linux = pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="tunes glibc")


def resident() -> float:
    """Memory that the process holds, in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


ALLOCATOR = """
import torch
from msdm_lite.utils import device
from tests.utils.test_device import resident

assert device.tune()
with device.large_blocks_returned():
    before = resident()
    x = torch.ones(50_000_000)  # 200 MB
    assert resident() > before + 150
    del x
    assert resident() < before + 50
x = torch.ones(50_000_000)
before = resident()
keep = torch.ones(1000)  # above it in the heap
del x
assert resident() > before - 50 and keep.sum() == 1000  # kept again, for the next tensor
"""


@linux
def test_large_blocks_go_back_to_the_system():
    """In a process of its own: in a heap with holes, as other tests leave them, a large block may lie in a hole."""
    environment = {name: value for name, value in os.environ.items() if name != "MSDM_LITE_MALLOC"}
    done = subprocess.run([sys.executable, "-c", ALLOCATOR], cwd=Path(__file__).parents[2], env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_allocator_is_left_alone_on_request(monkeypatch):
    monkeypatch.setenv("MSDM_LITE_MALLOC", "0")
    assert not device.tune()
    with device.large_blocks_returned():
        assert torch.ones(10).sum() == 10


def test_devices_by_name():
    assert device.pick("cpu").type == "cpu" and device.pick().type in ("cpu", "cuda")
    with pytest.raises(InputError, match="no device 'abacus'"):
        device.pick("abacus")


def test_records_name_the_gpu_where_it_did_the_work(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A GPU")
    device.processor.cache_clear()
    assert device.processor("cuda") == "A GPU" and device.processor() == device.processor("cpu") != "A GPU"
    device.processor.cache_clear()


@pytest.mark.parametrize("capability, allowed, says", [
    ((9, 0), True, "float32, convolutions in TF32"), ((9, 0), False, "float32"), ((7, 5), True, "float32")])
def test_records_name_the_precision_of_a_gpu(monkeypatch, capability, allowed, says):
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: capability)
    monkeypatch.setattr("torch.version.hip", None)
    monkeypatch.setattr("torch.backends.cudnn.allow_tf32", allowed)
    assert device.precision("cuda") == says
    assert device.precision("cpu") == "float32"


# The same seed gives the same sound on every device, up to rounding
TASKS = {
    "separate": lambda model, stems: msdm_lite.separate(stems.sum(0), model),
    "separate, Dirac": lambda model, stems: msdm_lite.separate(stems.sum(0), model, "dirac", steps=10, corrections=1),
    "generate": lambda model, stems: msdm_lite.generate(model, 3.0, steps=10)[0],
    "accompany": lambda model, stems: msdm_lite.accompany({"drums": stems[1]}, model, steps=10),
}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here to compare the CPU with")
@pytest.mark.parametrize("name", TASKS)
def test_cpu_and_gpu_agree(name):
    """To one part in a hundred: the noise is drawn on the CPU for both, and GPUs convolve with ten bits (TF32)."""
    stems = example_clips.clip("band_00")
    here, there = (TASKS[name](msdm_lite.load("lite", device), stems) for device in ("cpu", "cuda"))
    assert (here - there).norm() / here.norm() < 0.01


def test_a_device_without_values_is_none():
    for name in ("meta", "cuda:99", "abacus", ""):
        with pytest.raises(InputError, match="there is no device"):
            device.pick(name)
    assert device.pick("cpu") == torch.device("cpu")
