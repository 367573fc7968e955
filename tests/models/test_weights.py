import json
from dataclasses import replace

import pytest
import safetensors.torch
import torch

import msdm_lite
from msdm_lite.diffusion.denoiser import Denoiser1d
from msdm_lite.errors import InputError, MachineError
from msdm_lite.models import weights
from msdm_lite.models.config import preset
from msdm_lite.models.joint import Model
from msdm_lite.models.unet1d import UNet1d
from msdm_lite.utils import paths
from tests.official import HYPER, TINY, official_state


def test_what_is_saved_comes_back(tiny, tmp_path):
    path = weights.save(tiny, tmp_path / "tiny.safetensors", {"steps": 3})
    again = weights.load(path)
    assert again.config == tiny.config and again.record == {"steps": 3}
    assert json.loads((tmp_path / "tiny.json").read_text()) == {"steps": 3}
    x, sigma = 0.05 * torch.randn(1, 4, 1024, 8), torch.tensor([0.3])
    # half precision keeps 11 bits of each weight
    assert (again.denoise(x, sigma) - tiny.denoise(x, sigma)).abs().max() < 1e-3
    assert torch.equal(again.denoiser.std, tiny.denoiser.std)
    assert not list(tmp_path.glob("*.part"))


def test_a_full_disk_leaves_the_model_that_was_there(tiny, tmp_path, monkeypatch):
    path = weights.save(tiny, tmp_path / "tiny.safetensors", {"steps": 3})
    before = path.read_bytes()

    def full(tensors, scratch, meta):
        scratch.write_bytes(b"half")
        raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(MachineError, match="no space left"):
        weights.save(tiny, path, {"steps": 4})
    assert path.read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == [
        "tiny.json", "tiny.safetensors"]
    assert json.loads((tmp_path / "tiny.json").read_text()) == {"steps": 3}


@pytest.mark.parametrize("name", ["nope", "nope.safetensors", "."])
def test_no_such_model(name):
    with pytest.raises(InputError, match="there is no model"):
        weights.load(name)


def test_files_that_hold_no_model(tmp_path, tiny):
    (tmp_path / "text.safetensors").write_text("not a model")
    with pytest.raises(InputError, match="not a safetensors file"):
        weights.load(tmp_path / "text.safetensors")
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "bare.safetensors")
    with pytest.raises(InputError, match="does not say which model"):
        weights.load(tmp_path / "bare.safetensors")
    tensors = {k: v.contiguous() for k, v in tiny.state_dict().items()}
    meta = {"config": json.dumps(preset("lite").to_dict())}
    safetensors.torch.save_file(tensors, tmp_path / "other.safetensors", meta)
    with pytest.raises(InputError, match="do not fit"):
        weights.load(tmp_path / "other.safetensors")
    giant = {"config": json.dumps(tiny.config.to_dict() | {"widths": [2**20] * len(tiny.config.widths)})}  # terabytes
    safetensors.torch.save_file(tensors, tmp_path / "giant.safetensors", giant)
    with pytest.raises(InputError, match="do not fit"):
        weights.load(tmp_path / "giant.safetensors")


def test_no_such_preset_or_device(tiny, tmp_path):
    with pytest.raises(InputError, match="no preset 'huge'"):
        preset("huge")
    path = weights.save(tiny, tmp_path / "tiny.safetensors", {})
    with pytest.raises(InputError, match="no device 'abacus'"):
        weights.load(path, "abacus")


def test_the_shipped_model_is_what_its_record_says():
    """lite: its file is small, its training long enough, and it says on what."""
    model = weights.load("lite")
    assert isinstance(model, Model) and model.stems == ("bass", "drums", "guitar", "piano")
    assert model.record["minutes"] >= 60 and model.record["songs"] >= 60
    assert paths.data("weights", "lite.safetensors").stat().st_size < 20e6


def test_msdm_lite_loads_it_by_its_path(net, content, save, tmp_path):
    """As any model: denoising, separating by the paper's samplers, and saving in our own format."""
    model = msdm_lite.load(save(content), "cpu")
    assert "official code" in model.record["source"] and model.stems == ("bass", "drums", "guitar", "piano")
    assert model.config.sigma_data == 0.3 and not model.takes_conditioning
    x, sigma = 0.1 * torch.randn(2, 4, 6 * TINY.downsampling), torch.tensor([0.05, 1.0])
    expected = Denoiser1d(net, 0.3).denoise(x, sigma)
    got = model.transform.inverse(model.denoise(model.transform.forward(x), sigma))
    assert torch.allclose(got, expected, atol=1e-6)
    mix = 0.1 * torch.randn(3000)
    stems = msdm_lite.separate(mix, model, "dirac", steps=2)
    assert stems.shape == (4, 3000) and torch.allclose(stems.sum(0), mix, atol=1e-3)
    with pytest.raises(InputError, match="try dirac"):
        msdm_lite.separate(mix, model, "mixture-constrained")
    again = msdm_lite.load(weights.save(model, tmp_path / "ours.safetensors", model.record), "cpu")
    assert again.config == model.config and again.record == model.record
    halved = again.transform.inverse(again.denoise(again.transform.forward(x), sigma))
    assert torch.allclose(halved, expected, atol=1e-2)  # half precision


def test_a_bad_ckpt_is_one_line(tmp_path):
    (tmp_path / "x.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="not a checkpoint"):
        msdm_lite.load(tmp_path / "x.ckpt")


def test_a_checkpoint_of_one_stem_is_called_by_its_file(tmp_path):
    """The paper's independent models: a folder of them is one model of all."""
    single = UNet1d(replace(TINY, stems=1))
    content = {"epoch": 3, "hyper_parameters": dict(HYPER), "state_dict": official_state(single)}
    for name in ("drums", "bass"):
        torch.save(content, tmp_path / f"{name}.ckpt")
    one = weights.load_official_model(tmp_path / "drums.ckpt")
    assert one.stems == ("drums",)
    assert one.denoise(torch.zeros(1, 1, 1, 4 * TINY.downsampling), torch.ones(1)).shape[1] == 1
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match=r"name the file after it, as in drums\.ckpt"):
        weights.load_official_model(tmp_path / "last.ckpt")
