"""The memory allocator, the device, and the precision of computations.

Chapter: `book/05-training.ipynb`.
"""

import contextlib
import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported in the functions, because the allocator is tuned before torch is loaded
    import torch


def _tunable() -> bool:
    """Whether the allocator is that of glibc, and MSDM_LITE_MALLOC=0 is not set."""
    return sys.platform == "linux" and os.environ.get("MSDM_LITE_MALLOC") != "0" and platform.libc_ver()[0] == "glibc"


_tuned = False  # whether this process's allocator is


def tune() -> bool:
    """Make glibc keep freed memory in this process; call before the first large tensor. Returns whether it was done.

    The command line and the chapters call it; importing the package does not, since it concerns the whole process. By
    default glibc returns every large block to the system when it is freed, and gets it again page by page for the
    next tensor. On machines where page faults are expensive this takes several times as long as the computation.
    `mallopt` makes glibc keep the memory; set MSDM_LITE_MALLOC=0 to leave the allocator alone.
    """
    global _tuned
    if not _tunable():
        return False
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch: large pages for large tensors
    mallopt = ctypes.CDLL(None).mallopt
    M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1
    _tuned = bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
    return _tuned


@contextlib.contextmanager
def large_blocks_returned() -> Iterator[None]:
    """A context in which freed blocks of 32 MB or more are returned to the system in spite of `tune`.

    It is for songs of many minutes, whose states are few and large: kept memory in which the next one does not fit is
    wasted. It would make training, with its many tensors of about 50 MB, a fifth slower.
    """
    if not _tuned:
        yield
        return
    libc = ctypes.CDLL(None)
    M_MMAP_MAX, M_MMAP_THRESHOLD = -4, -3
    libc.mallopt(M_MMAP_MAX, 65536)
    libc.mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, 0)
        libc.malloc_trim(0)


def pick(name: str = "auto") -> "torch.device":
    """The torch device of that name; "auto" is the GPU if there is one, else the CPU.

    Raises:
        InputError: there is no such device on this machine.
    """
    import torch

    from msdm_lite.errors import InputError

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" has no values
        return device
    except (RuntimeError, AssertionError):
        raise InputError(f"there is no device {name!r} here; there is always cpu") from None


@once
def processor(kind: str = "cpu") -> str:
    """The name of this machine's processor ("cpu") or GPU ("cuda"), for records."""
    if kind == "cuda":
        import torch

        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def precision(kind: str = "cpu") -> str:
    """The precision of a network on that kind of device outside of `autocast`, as in sampling."""
    import torch

    tensor_cores = kind == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability()[0] >= 8
    return "float32, convolutions in TF32" if tensor_cores and torch.backends.cudnn.allow_tf32 else "float32"


@once
def fast_bfloat16(kind: str) -> bool:
    """Whether bfloat16 is fast on this kind of device ("cpu", "cuda"); on a CPU only with AMX or AVX512-BF16."""
    if kind == "cuda":
        import torch

        if not torch.cuda.is_available():
            return False
        # GPUs before Ampere, such as a T4, emulate it: it is supported, but slow
        return torch.version.hip is not None or torch.cuda.get_device_capability()[0] >= 8
    try:
        text = Path("/proc/cpuinfo").read_text()
        return "amx_bf16" in text or "avx512_bf16" in text
    except OSError:
        return False


def autocast(device: "torch.device", wanted: bool | None = None) -> contextlib.AbstractContextManager:
    """A context for training in bfloat16 where that is fast, or as `wanted`."""
    import torch

    use = fast_bfloat16(device.type) if wanted is None else wanted
    return torch.autocast(device.type, torch.bfloat16) if use else contextlib.nullcontext()
