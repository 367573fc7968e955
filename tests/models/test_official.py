import os
import sys
import types
import zipfile

import pytest
import torch

from msdm_lite.diffusion.denoiser import Denoiser1d
from msdm_lite.errors import InputError
from msdm_lite.models import official
from msdm_lite.models.official import load_official, official_names
from msdm_lite.models.unet1d import PRESETS, UNet1d
from tests.official import NAME, TINY, refuses


def test_a_lightning_checkpoint_with_a_class_of_the_old_library(net, content, save, monkeypatch):
    """The hyper-parameters hold an instance of a class that is not there when the file is read."""
    for module in ("audio_diffusion_pytorch", "audio_diffusion_pytorch.diffusion"):
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    old = sys.modules["audio_diffusion_pytorch.diffusion"]
    old.LogNormal = type("LogNormal", (), {"__module__": old.__name__, "__setstate__": lambda self, state: os._exit(1)})
    distribution = old.LogNormal()
    distribution.mean, distribution.std = -3.0, 1.0
    content["hyper_parameters"] |= {"sigma_distribution": distribution, "seen": {1, 2}, "raw": b"\xff\x00",
                                    "device": torch.device("cpu"), "type": torch.float32}
    content["optimizer_states"] = [{"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2, 3)}},
                                    "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.99), "params": [0]}]}]
    content["rng"] = torch.zeros(3, dtype=torch.uint8)
    path = save(content)
    monkeypatch.delitem(sys.modules, old.__name__)
    with pytest.raises(Exception, match=r"weights_only|LogNormal"):  # what makes this reader necessary
        torch.load(path, weights_only=True)
    model = load_official(path)
    assert model.net.config == TINY and model.sigma_data == 0.3 and not model.training
    x, sigma = torch.randn(2, 4, 4 * TINY.downsampling), torch.tensor([0.1, 1.0])
    assert torch.equal(model(x, sigma), Denoiser1d(net, 0.3)(x, sigma))
    assert not any(p.requires_grad or p.is_meta for p in model.parameters())


def test_fields_may_be_missing(net, content, save, tmp_path):
    """No second copy, no hyper-parameters, no byte order (older PyTorch), half precision, parameters for tensors."""
    half = {name: torch.nn.Parameter(value.half()) for name, value in content["state_dict"].items()
            if name.startswith("model.unet.")}
    path = save({"state_dict": half})
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "old.ckpt", "w") as new:
        for name in old.namelist():
            if not name.endswith(("byteorder", "version", ".format_version", ".storage_alignment")):
                new.writestr(name, old.read(name))
    model = load_official(tmp_path / "old.ckpt", heads=2, groups=2, sigma_data=0.2)
    assert model.sigma_data == 0.2
    for name, value in net.state_dict().items():
        assert torch.equal(model.net.state_dict()[name], value.half().float())


def test_views_of_one_storage_are_read_as_they_are(net, content, save):
    """All weights as parts of one flat tensor, and one of them transposed."""
    values = {name: value for name, value in content["state_dict"].items() if name.startswith("model.unet.")}
    flat = torch.cat([value.flatten() for value in values.values()])
    parts = flat.split([value.numel() for value in values.values()])
    state = {name: part.view(value.shape) for (name, value), part in zip(values.items(), parts, strict=True)}
    square = "model.unet.to_mapping.0.weight"
    state[square] = state[square].t().contiguous().t()
    model = load_official(save(content | {"state_dict": state}))
    for name, value in net.state_dict().items():
        assert torch.equal(model.net.state_dict()[name], value)


def test_the_papers_network_is_434_tensors_of_the_old_librarys():
    with torch.device("meta"):
        net = UNet1d(PRESETS["paper"])
    names = dict(part for parts in official_names(net).values() for part in parts)
    assert len(names) == 434
    assert official.infer(names) == PRESETS["paper"]
    old = pytest.importorskip("audio_diffusion_pytorch", reason="audio-diffusion-pytorch 0.0.43, the library to "
                              "compare with, is not installed (it is no dependency)")
    with torch.device("meta"):
        theirs = old.UNet1d(
            in_channels=4, channels=256, patch_blocks=1, patch_factor=16, multipliers=[1, 2, 4, 4, 4, 4, 4],
            factors=[4, 4, 4, 2, 2, 2], num_blocks=[2] * 6, attentions=[0, 0, 0, 1, 1, 1], attention_heads=8,
            attention_features=128, attention_multiplier=2, resnet_groups=8, kernel_multiplier_downsample=2,
            kernel_sizes_init=[1, 3, 7], use_nearest_upsample=False, use_skip_scale=True,
            use_attention_bottleneck=True, use_context_time=True)
    assert names == {name: tuple(value.shape) for name, value in theirs.state_dict().items()}


def test_learned_patches_were_not_the_papers():
    with torch.device("meta"), pytest.raises(InputError, match="no learned patch"):
        official_names(UNet1d(PRESETS["base"]))


@pytest.mark.parametrize(("change", "match"), [
    ({NAME: None}, "lacks the tensor to_mapping.0.weight"),
    ({"model.unet.to_mapping.2.bias": None}, "lacks 1 tensors, for example to_mapping.2.bias"),
    ({"model.unet.downsamples.0.downsample.weight": None}, "has not, 81 tensors, for example downsamples.0"),
    ({"model.unet.a\nb\x1b[31m": torch.zeros(1)}, r"for example a\?b\?\[31m$"),
    ({"model.unet.more": torch.zeros(1)}, "the network has not, 1 tensors, for example more"),
    ({"model.encoder.weight": torch.zeros(1)}, "has a tensor that the network has not: model.encoder.weight"),
    ({"model.unet.to_mapping.2.bias": torch.zeros(31)}, r"to_mapping.2.bias has the shape \(31,\), where .*\(32,\)"),
    ({NAME: torch.zeros(0, 32)}, "no proper shape"),
    ({NAME: torch.zeros(4, 4)}, r"no network of the paper \(.*at least 1"),
    ({"model.unet.to_in.module_list.0.block.block1.project.weight": torch.zeros(4)}, "no network of the paper"),
    ({NAME: torch.zeros(32, 32, dtype=torch.int64)}, "not a tensor of floating-point numbers"),
    ({NAME: "a text"}, "not a tensor"),
    ({NAME: torch.full((32, 32), torch.nan)}, "not all finite"),
])
def test_tensors_that_do_not_fit(content, save, change, match):
    for name, value in change.items():
        content["state_dict"].pop(name, None)
        if value is not None:
            content["state_dict"][name] = value
    refuses(save(content), match)


def test_heads_that_do_not_fit(content, save):
    with pytest.raises(InputError, match="width 8 cannot be divided into 3 heads"):
        load_official(save(content), heads=3)
    with pytest.raises(InputError, match="multiple of the 3 groups"):
        load_official(save(content), groups=3)
