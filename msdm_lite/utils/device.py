"""Where tensors live and how fast: the memory allocator, the device, the precision.

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

if TYPE_CHECKING:  # imported where it is needed: what only tunes the allocator comes before it
    import torch


def _tunable() -> bool:
    """Is the allocator glibc's, and can it be configured?"""
    return sys.platform == "linux" and os.environ.get("MSDM_LITE_MALLOC") != "0" and platform.libc_ver()[0] == "glibc"


def tune_allocator() -> bool:
    """Keep freed memory instead of handing it back to Linux; call before the first large tensor. True if it was done.

    glibc returns every large block to the system when it is freed, and gets it again page by page for the next tensor.
    On machines where a page fault is dear this costs several times the computing itself. `mallopt` tells glibc to keep
    the memory. It holds for the whole process; set MSDM_LITE_MALLOC=0 to leave the allocator alone.
    """
    if not _tunable():
        return False
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch: large pages for large tensors
    mallopt = ctypes.CDLL(None).mallopt
    M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


@contextlib.contextmanager
def large_blocks_returned() -> Iterator[None]:
    """What `tune_allocator` did holds inside for blocks below 32 MB alone; larger ones go back to Linux when freed.

    For songs of many minutes: their states are few and large, and kept memory that does not fit the next is lost.
    Training, with its many tensors of some 50 MB, would be a fifth slower so.
    """
    if not _tunable():
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
        InputError: there is no such device here.
    """
    import torch

    from msdm_lite.errors import InputError

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        return device
    except (RuntimeError, AssertionError):
        raise InputError(f"there is no device {name!r} here; there is always cpu") from None


@once
def processor(kind: str = "cpu") -> str:
    """The name of this machine's processor, or of its GPU ("cuda"), for records."""
    if kind == "cuda":
        import torch

        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def precision(kind: str = "cpu") -> str:
    """What a network computes in on that kind of device outside of `autocast`, as it does when it samples."""
    import torch

    tensor_cores = kind == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability()[0] >= 8
    return "float32, convolutions in TF32" if tensor_cores and torch.backends.cudnn.allow_tf32 else "float32"


@once
def fast_bfloat16(kind: str) -> bool:
    """Does half precision pay on this kind of device ("cpu", "cuda")? On a CPU only with AMX or AVX512-BF16."""
    if kind == "cuda":
        import torch

        if not torch.cuda.is_available():
            return False
        # Before Ampere (a T4, say) it is emulated: supported, and slow
        return torch.version.hip is not None or torch.cuda.get_device_capability()[0] >= 8
    try:
        text = Path("/proc/cpuinfo").read_text()
        return "amx_bf16" in text or "avx512_bf16" in text
    except OSError:
        return False


def autocast(device: "torch.device", wanted: bool | None = None) -> contextlib.AbstractContextManager:
    """A context for training in bf16 where it pays, or as `wanted`."""
    import torch

    use = fast_bfloat16(device.type) if wanted is None else wanted
    return torch.autocast(device.type, torch.bfloat16) if use else contextlib.nullcontext()
