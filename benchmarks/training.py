"""What a training step costs, preset by preset: `python benchmarks/training.py [PRESET ...]`, a part of `make bench`.

Parameters, operations counted by torch, seconds a step and the most memory, each in a process of its own; and from
these how long a run takes. `paper` is counted only, unless there is a GPU or it is named. `--out FILE` keeps it.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.evaluation import records
from msdm_lite.models.config import preset
from msdm_lite.models.weights import build
from msdm_lite.training import optimizer
from msdm_lite.training.recipe import Recipe
from msdm_lite.utils import device, provenance

PRESETS = {"tiny": 8, "tiny-wave": 8, "lite": 8, "lite-supervised": 8, "lite-guided": 8, "lite-sketch": 8, "large": 4,
           "base": 2, "paper": 1}  # and the batch that is timed; on a GPU eight times that
ROUNDS = 5
KIB = 1 if sys.platform == "darwin" else 1024  # what the system counts a process's memory in


def step_of(name: str, timed: bool) -> dict | None:
    """Print the line of one preset; what was measured."""
    where = device.pick("auto")
    gpu = where.type == "cuda"
    half = device.fast_bfloat16(where.type)
    batch = PRESETS.get(name, 2) * (8 if gpu else 1)
    with torch.device("meta") if not timed else where:
        model = build(preset(name))
    count = sum(p.numel() for p in model.parameters())
    if not timed:
        print(f"{name:16s} {count / 1e6:7.1f} M parameters; not timed here", flush=True)
        return None
    model = model.to_device(where).train()
    recipe = Recipe(preset=name, steps=1).for_model(model)
    moves = optimizer.optimizer(recipe.optimizer, model, recipe.lr, recipe.weight_decay)
    x = 0.05 * torch.randn(batch, len(model.stems), model.transform.rows, model.config.frames, device=where)
    sigma, known = torch.full((batch,), 0.3, device=where), Conditioning.none(x)

    def step() -> None:
        with torch.autocast(where.type, torch.bfloat16, enabled=half):
            value = model.loss(x, sigma, known, torch.randn_like(x)).mean()
        value.backward()
        moves.step()
        moves.zero_grad(set_to_none=True)
        if gpu:
            torch.cuda.synchronize()

    with FlopCounterMode(display=False) as counted:
        step()
    for _ in range(2):
        step()
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    memory = torch.cuda.max_memory_allocated() if gpu else KIB * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, heard = sorted(times)[ROUNDS // 2], batch * model.segment
    print(f"{name:16s} {count / 1e6:7.1f} M parameters, batch {batch:2d} of {model.segment:5.2f} s: "
          f"{counted.get_total_flops() / batch / 1e9:7.1f} GFLOP an item, {seconds:7.2f} s a step, "
          f"{heard / seconds:6.1f} s of music a second, {memory / 1e9:5.2f} GB", flush=True)
    return {"parameters": count, "batch": batch, "segment_seconds": model.segment, "optimizer": recipe.optimizer,
            "flop_an_item": counted.get_total_flops() / batch, "seconds_a_step": seconds, "memory_bytes": memory}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="PRESET")
    parser.add_argument("--out", type=Path, help="a JSON file for what was measured")
    asked = parser.parse_args()
    names = asked.names or list(PRESETS)
    if len(names) == 1:
        found = step_of(names[0], True)
        if asked.out:
            records.save({"presets": {names[0]: found}}, asked.out)
        return
    gpu = device.pick("auto").type == "cuda"
    kind = "cuda" if gpu else "cpu"
    where, precision = device.processor(kind), "bfloat16" if device.fast_bfloat16(kind) else "float32"
    print(f"{torch.get_num_threads()} threads, {where}, {precision}; medians of {ROUNDS} steps")
    measured = {}
    for name in names:
        if name == "paper" and not gpu and not asked.names:
            step_of(name, False)
            continue
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "one.json")
            subprocess.run([sys.executable, __file__, name, "--out", str(out)], check=True)
            measured |= json.loads(out.read_text())["presets"]
    if asked.out:
        records.save({"what": f"a training step, median of {ROUNDS}: forward, backward and optimizer; crops are there",
                      "presets": measured, "device": kind, "processor": where,
                      "threads": torch.get_num_threads(), "precision": precision, "torch": torch.__version__,
                      "command": provenance.command_line("python", "benchmarks/training.py", out=asked.out)},
                     asked.out)


if __name__ == "__main__":
    main()
