import json

import pytest
import torch

from msdm_lite import pairs
from msdm_lite.known import Known
from msdm_lite.resources import data


def test_without_gains_the_wiener_gain_is_what_it_is(tiny, generator):
    """Of the network's three outputs the second has no effect any more, and the others have."""
    model = pairs.Model(tiny.config, tiny.denoiser.deviation)
    pairs.without_gains(model)
    for p in model.denoiser.net.parameters():  # its last layer starts at zero
        torch.nn.init.normal_(p, std=0.1, generator=generator)
    x = 0.1 * torch.randn(1, 4, 1024, 4, generator=generator)
    out = model.denoiser.net(torch.randn(1, 10, 1024, 4, generator=generator), torch.randn(1, tiny.config.told))
    assert not out[:, 4:8].any() and out[:, :4].any() and out[:, 8:].any()
    assert model.denoise(x, torch.ones(1), Known.nothing(x)).isfinite().all()


def test_one_deviation_has_the_same_power(tiny):
    model = pairs.Model(tiny.config, tiny.denoiser.deviation.clone())
    pairs.one_deviation(model)
    flat, before = model.denoiser.deviation, tiny.denoiser.deviation
    assert flat.shape == before.shape and flat.unique().numel() == 1
    assert flat.square().sum() == pytest.approx(before.square().sum().item(), rel=1e-5)


def test_the_judge_gives_one_to_the_wiener_filter(tiny):
    """Errors are in units of what the filter leaves. A net of zeros is that filter."""
    deviation = tiny.denoiser.deviation
    model = pairs.Model(tiny.config, tiny.denoiser.deviation)
    for p in model.denoiser.net.parameters():
        torch.nn.init.zeros_(p)
    noise = torch.randn(8, 4, 1024, 96, generator=torch.Generator().manual_seed(9))  # not the seed of the judge
    x = deviation[:, :, None] * noise
    found = pairs.judge(model, x, deviation)
    assert {name: value for name, value in found.items() if name.startswith("free")} == pytest.approx(
        {f"free_{level}": 1 for level in pairs.Validation.LEVELS}, abs=0.01)  # ten standard errors
    assert found["si_sdr_improvement"] > 0


def test_the_record_has_every_arm():
    found = json.loads(data("results", "pairs-training.json").read_text())
    assert list(found["arms"]) == list(pairs.ARMS)
    for arm in found["arms"].values():
        assert all("si_sdr_improvement" in arm[kind] for kind in ("balanced", "unbalanced"))
