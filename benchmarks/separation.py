"""What separation costs: `python benchmarks/separation.py`, a part of `make bench`.

`lite` on a minute of sound in single precision, at its default and at ten evaluations; what everything around the
network costs beside the network itself, measured inside one run; and the memory of a long song.
"""

import statistics
import subprocess
import sys
import time

import torch

import msdm_lite
from msdm_lite.diffusion import methods, sampling
from msdm_lite.diffusion.conditioning import Task
from msdm_lite.inference.encoding import encode
from msdm_lite.inference.windows import Windowed
from msdm_lite.utils import device

SECONDS, ROUNDS = 60, 5


class Timed:
    """Something that denoises, whose calls are timed."""

    def __init__(self, model, call):
        self.config, self.device, self.call, self.seconds = model.config, model.device, call, 0.0

    def denoise(self, *args, **also):
        begin = time.perf_counter()
        found = self.call(*args, **also)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - begin
        return found


def separation(model, steps: int) -> None:
    """Seconds for a minute, and what is not the network, as shares of it: medians over rounds."""
    mix = 0.1 * torch.randn(SECONDS * model.sample_rate, generator=torch.Generator().manual_seed(0))
    walls, samplers, windows = [], [], []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        msdm_lite.separate(mix, model, steps=steps)
        walls.append(time.perf_counter() - begin)
    y, method = encode(mix, model)[None], methods.by_name("mixture-constrained", steps=steps)
    for _ in range(2 + ROUNDS):  # `separate` hands its memory back, and the first rounds of these get it anew
        network = Timed(model, model.denoise)
        joined = Timed(model, Windowed(network))
        begin = time.perf_counter()
        with torch.no_grad():
            task = Task((1, len(model.stems), *y.shape[1:]), y)
            sampling.final_state(methods.sample(task, joined.denoise, method, torch.Generator().manual_seed(0)))
        samplers.append((time.perf_counter() - begin - joined.seconds) / network.seconds)
        windows.append(joined.seconds / network.seconds - 1)
    wall, sampler, window = (statistics.median(of) for of in (walls, samplers[2:], windows[2:]))
    print(f"{steps:3d} evaluations: {wall:6.2f} s for {SECONDS} s of sound, {SECONDS / wall:.1f} times as fast as it "
          f"plays; beside the network: sampler {100 * sampler:.1f} %, windows {100 * window:.1f} %")


def memory(minutes: float, call: str) -> None:
    """The most memory that a call on a song of that length took, in a process of its own."""
    code = ("import resource, sys, torch, msdm_lite\n"
            f"song, seconds = 0.1 * torch.randn(int({minutes} * 60 * 22050)), {minutes} * 60\n"
            f"msdm_lite.{call}\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    print(f"{minutes:g} minutes, {call}: {int(done.stdout) / 1e9:.2f} GB at the most")


def main() -> None:
    model = msdm_lite.load("lite")
    print(f"lite, {torch.get_num_threads()} threads, single precision, "
          f"{device.processor() if model.device.type == 'cpu' else 'GPU'}; medians of {ROUNDS}")
    for steps in (1, 10):
        separation(model, steps)
    memory(1, "separate(song)")
    for call in ("separate(song)", "separate(song, steps=2)", "separate(song, method='dirac', steps=2)",
                 "separate(song, method='gaussian', steps=2)", "separate(song, method='pigdm', steps=2)",
                 "separate(song, method='projdiff', steps=2)",
                 "separate(song, method='wiener', sampler='heun', steps=2)",
                 "separate(song, samples=2)", "separate(song, given={'drums': song}, steps=2)",
                 "separate(song, given={'drums': song, 'bass': song}, steps=2)",
                 "separate(song.expand(2, -1), keep_stereo=True)", "generate(seconds=seconds, steps=3)",
                 "accompany({'drums': song, 'bass': song}, steps=3)"):
        memory(10, call)


if __name__ == "__main__":
    main()
