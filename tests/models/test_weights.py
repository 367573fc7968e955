import json
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

import msdm_lite
from msdm_lite.diffusion.denoiser import Denoiser1d
from msdm_lite.errors import InputError, MachineError
from msdm_lite.models import weights
from msdm_lite.models.config import PRESETS, WAVE_PRESETS, Config, WaveConfig, preset
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


def test_weights_and_constants_that_are_not_finite(tiny, tmp_path):
    path = weights.save(tiny, tmp_path / "tiny.safetensors", {})
    tensors = safetensors.torch.load_file(path)
    first = next(name for name, value in tensors.items() if value.is_floating_point())
    meta = {"config": json.dumps(tiny.config.to_dict())}
    for value in (torch.nan, torch.inf):
        safetensors.torch.save_file(tensors | {first: torch.full_like(tensors[first], value)}, path, meta)
        with pytest.raises(InputError, match="weights are not all finite"):
            weights.load(path)
        safetensors.torch.save_file(tensors, path, {"config": json.dumps(tiny.config.to_dict() | {"stem_rms": value})})
        with pytest.raises(InputError, match=r"(NaN|Infinity) in the configuration"):
            weights.load(path)


def test_layers_of_layers_are_not_counted(tmp_path):
    """256 levels of 256 blocks would be sixty thousand modules."""
    net = preset("tiny-wave").to_dict()
    deep = net["net"] | {"blocks": [256] * 256, "factors": [2] * 256, "attention": [0] * 256, "multipliers": [1] * 257}
    path = tmp_path / "deep.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(2)}, path, {"config": json.dumps(net | {"net": deep})})
    with pytest.raises(InputError, match="65536 layers or stems"):
        weights.load(path, "cpu")


VALUES = st.recursive(st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=5),
                      lambda inner: st.lists(inner, max_size=4), max_leaves=6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from([*preset("tiny").to_dict(), "net", "levels", "more"]), VALUES, min_size=1,
                       max_size=3), st.booleans())
def test_any_configuration_in_a_file_is_read_or_refused_with_one_line(tmp_path_factory, change, wave):
    config = preset("tiny-wave" if wave else "tiny").to_dict() | change
    path = tmp_path_factory.mktemp("any") / "any.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(2)}, path, {"config": json.dumps(config)})
    with pytest.raises(InputError) as caught:
        weights.load(path, "cpu")
    assert "\n" not in str(caught.value)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 2**64 - 1) | st.integers(0, 200), st.binary(max_size=60) | st.text(
    st.sampled_from('{}[]":,_metadatshpoffF3210'), max_size=60).map(str.encode))
def test_any_header_is_refused_with_one_line(tmp_path_factory, length, rest):
    path = tmp_path_factory.mktemp("any") / "any.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + rest)
    with pytest.raises(InputError) as caught:
        weights.load(path, "cpu")
    assert "\n" not in str(caught.value)


def shipped_files():
    return sorted((paths.data_folder() / "weights").rglob("*.safetensors"))


def today(config: dict) -> Config | WaveConfig:
    """The configuration in a file's metadata, with today's names."""
    values = {weights.SETTINGS.get(key, key): value for key, value in config.items()}
    return (WaveConfig if values.get("front") == "wave" else Config).from_dict(values)


@pytest.mark.parametrize("file", shipped_files(), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_shipped_tensor_is_one_of_todays_network(file):
    """One to one, with the same shapes."""
    with safe_open(file, framework="pt") as opened:
        meta = opened.metadata()
        shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in list(opened.keys())}
    renamed = {name: weights.current_tensor_name(name) for name in shapes}
    assert len(set(renamed.values())) == len(shapes)
    with torch.device("meta"):
        own = weights.build(today(json.loads(meta["config"]))).state_dict()
    assert {renamed[name]: shape for name, shape in shapes.items()} == {
        name: tuple(value.shape) for name, value in own.items()}
    recipe = weights.current_record(json.loads(meta["record"])).get("recipe", {})
    assert not weights.RECIPE.keys() & recipe.keys()


def test_the_old_names_are_those_of_the_shipped_files():
    """Every entry of the tables is needed by a shipped file."""
    names, settings, recipes = set(), set(), set()
    for file in shipped_files():
        with safe_open(file, framework="pt") as opened:
            names |= set(opened.keys())
            settings |= json.loads(opened.metadata()["config"]).keys()
            recipes |= json.loads(opened.metadata()["record"]).get("recipe", {}).keys()
    for old in weights.TENSORS:
        assert any(name.startswith(old) for name in names), old
    for old in weights.INNER:
        assert any(old in name and name.startswith(("denoiser.net.down.", "denoiser.net.up.")) for name in names), old
    assert weights.SETTINGS.keys() <= settings and weights.RECIPE.keys() <= recipes


@pytest.mark.parametrize("name", sorted(PRESETS | WAVE_PRESETS))
def test_todays_names_map_to_themselves(name):
    with torch.device("meta"):
        own = weights.build(preset(name)).state_dict()
    assert own and all(weights.current_tensor_name(key) == key for key in own)
    config = preset(name).to_dict()
    assert not weights.SETTINGS.keys() & config.keys() and today(json.loads(json.dumps(config))) == preset(name)
    assert weights.current_record({"recipe": {"beat_share": 0.5}, "steps": 3}) == {
        "recipe": {"beat_share": 0.5}, "steps": 3}


@pytest.mark.parametrize("name", ["tiny", "tiny-wave", "lite-sketch", "lite-guided", "lite-supervised"])
def test_todays_names_are_saved_and_load_back_equal(name, tmp_path):
    small = {} if name == "tiny-wave" else {"widths": (8, 16), "blocks": (1, 1), "embedding_width": 8}
    model = weights.build(replace(preset(name), **small))
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.1)
    record = {"steps": 3, "recipe": {"beat_share": 0.5, "sketched": 0.0}}
    path = weights.save(model, tmp_path / "new.safetensors", record)
    with safe_open(path, framework="pt") as opened:
        assert set(opened.keys()) == set(model.state_dict())
    again = weights.load(path, "cpu")
    assert again.config == model.config and again.record == record
    for key, value in again.state_dict().items():
        expected = model.state_dict()[key]
        assert torch.equal(value, expected if key == "denoiser.std" else expected.half().float()), key


def test_a_file_with_the_old_names_loads_as_the_one_with_todays(tiny, tmp_path):
    path = weights.save(tiny, tmp_path / "new.safetensors", {"recipe": {"beat_share": 0.25}})
    tensors = safetensors.torch.load_file(path)

    def old(name):
        return next((before + name.removeprefix(now) for before, now in weights.TENSORS.items()
                     if name.startswith(now)), name)

    config = {next((before for before, now in weights.SETTINGS.items() if now == key), key): value
              for key, value in tiny.config.to_dict().items()}
    safetensors.torch.save_file({old(name): value for name, value in tensors.items()}, tmp_path / "old.safetensors",
                                {"config": json.dumps(config), "record": json.dumps({"recipe": {"clicked": 0.25}})})
    assert {old(name) for name in tensors} != set(tensors)
    first, second = weights.load(path, "cpu"), weights.load(tmp_path / "old.safetensors", "cpu")
    assert first.config == second.config and first.record == second.record == {"recipe": {"beat_share": 0.25}}
    assert all(torch.equal(first.state_dict()[key], value) for key, value in second.state_dict().items())


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


def test_a_registered_model_is_loaded_by_its_name(monkeypatch, tiny):
    monkeypatch.setitem(weights.MODELS, "mine", lambda: Model(preset("tiny", ("bass", "drums"))).train())
    model = msdm_lite.load("mine", "cpu")
    assert model.stems == ("bass", "drums") and not model.training
    assert not any(p.requires_grad for p in model.parameters())
    with pytest.raises(InputError, match="there is no model 'yours'"):
        msdm_lite.load("yours", "cpu")


@pytest.mark.parametrize("blocks", [(10**8, 1, 1), (1, 1, -3)])
def test_a_file_that_asks_for_a_hundred_million_layers_is_refused_at_once(tmp_path, tiny, blocks):
    config = {**tiny.config.to_dict(), "blocks": blocks}
    safetensors.torch.save_file({"denoiser.std": torch.zeros(4, 1024)}, tmp_path / "huge.safetensors",
                                {"config": json.dumps(config)})
    with pytest.raises(InputError, match=r"does not say which model it holds .*layers or stems"):
        msdm_lite.load(tmp_path / "huge.safetensors")


def test_the_folder_of_a_training_run_is_its_model(tiny, tmp_path):
    """Of several stems too; a run that has written no model yet is told from a folder without models."""
    weights.save(tiny, tmp_path / "run" / "tiny.safetensors", {"steps": 3})
    (tmp_path / "run" / "checkpoint.pt").touch()
    loaded = weights.load(tmp_path / "run", "cpu")
    assert loaded.stems == tiny.stems and loaded.record == {"steps": 3}
    (tmp_path / "run" / "tiny.safetensors").unlink()
    with pytest.raises(InputError, match="has not written its model yet: go on with msdm-lite train --out"):
        weights.load(tmp_path / "run", "cpu")
    (tmp_path / "run" / "checkpoint.pt").unlink()
    with pytest.raises(InputError, match="there is no model"):
        weights.load(tmp_path / "run", "cpu")
