"""What must work beside the oldest torch and numpy: for `make oldest`, where nothing but the package is installed."""

import numpy
import torch

import msdm_lite
from msdm_lite.data import example_clips
from msdm_lite.evaluation import metrics

mix = example_clips.clip(example_clips.clips("band")[0]["name"])
for name, method in (("tiny", "mixture-constrained"), ("tiny", "wiener"), ("tiny-wave", "dirac")):
    found = msdm_lite.separate(mix.sum(0), msdm_lite.load(name), method=method, steps=4)
    assert found.shape == mix.shape and found.isfinite().all()
gain = metrics.si_sdr_improvement(msdm_lite.separate(mix.sum(0), msdm_lite.load("tiny")), mix).nanmean()
assert gain > 5
bands = msdm_lite.generate(msdm_lite.load("tiny"), seconds=2, n=1, seed=0, steps=4)
assert bands.isfinite().all() and bands.std() > 0
band = msdm_lite.accompany({"drums": mix[1]}, msdm_lite.load("tiny"), steps=4)
assert torch.equal(band[1], mix[1])
print(f"torch {torch.__version__}, numpy {numpy.__version__}: separates ({gain:.1f} dB), generates, accompanies")
