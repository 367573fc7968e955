from dataclasses import replace

import numpy as np

from msdm_lite.models import config, weights
from msdm_lite.models.unet1d import UNet1dConfig
from msdm_lite.training import loop
from tests.conftest import lines


def test_waveform_models_train_too(recipe, tmp_path, monkeypatch):
    """With the paper's noise levels and rate, and a quick separation, by Wiener shares, as validation."""
    small = UNet1dConfig(channels=16, patch=4, multipliers=(1, 2), factors=(4,), blocks=(1,), attention=(0,), heads=1,
                         head_width=8, groups=4, learned_patch=True, segment=4096)
    monkeypatch.setitem(config.WAVE_PRESETS, "small", config.WaveConfig("small", net=small))
    path = loop.train(replace(recipe, preset="small", steps=3), tmp_path / "run", progress=False)
    model = weights.load(path)
    assert model.record["recipe"]["sigma_free"] == [-3.0, 1.0] and model.record["recipe"]["lr"] == 1e-4
    assert model.record["recipe"]["shapes"] == [1, 0, 0, 0] and not model.takes_conditioning
    last = lines(tmp_path / "run")[-1]
    assert np.isfinite(last["val_si_sdr_improvement"]) and "val_known_1.0" not in last
