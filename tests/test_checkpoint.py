import io
import os
import pickle
import re
import sys
import tracemalloc
import types
import zipfile
from collections import OrderedDict

import pytest
import torch

import msdm_lite
from msdm_lite import checkpoint, unpickle, weights
from msdm_lite.checkpoint import load_official, official_names
from msdm_lite.edm import Denoiser1d
from msdm_lite.errors import InputError
from msdm_lite.unet1d import PRESETS, UNet1d, UNet1dConfig
from msdm_lite.unpickle import Inert, PlainDict, Storage

TINY = UNet1dConfig(channels=8, patch=2, multipliers=(1, 2, 2), factors=(2, 2), blocks=(1, 1), attention=(0, 1),
                    heads=2, head_width=4, groups=2)
HYPER = {"attention_heads": 2, "resnet_groups": 2, "diffusion_sigma_data": 0.3}


def official_state(net: UNet1d) -> dict[str, torch.Tensor]:
    """The net's weights as the official code stores them: the old library's names, and all of it twice."""
    own, state = net.state_dict(), OrderedDict()
    for name, parts in official_names(net).items():
        for (old, shape), value in zip(parts, own[name].split([shape[0] if len(parts) > 1 else len(own[name])
                                                               for _, shape in parts]), strict=True):
            state[old] = value.reshape(shape).clone()
    return OrderedDict((prefix + old, value) for prefix in checkpoint.PREFIXES for old, value in state.items())


@pytest.fixture
def net() -> UNet1d:
    return UNet1d(TINY).eval()


@pytest.fixture
def content(net) -> dict:
    return {"epoch": 3, "hyper_parameters": dict(HYPER), "state_dict": official_state(net)}


@pytest.fixture
def save(tmp_path):
    def write(content):
        torch.save(content, tmp_path / "last.ckpt")
        return tmp_path / "last.ckpt"
    return write


@pytest.fixture
def pack(tmp_path):
    """A checkpoint of a pickle written by hand."""
    def write(program: bytes, compression=zipfile.ZIP_STORED, **entries: bytes):
        with zipfile.ZipFile(tmp_path / "hand.ckpt", "w", compression) as file:
            file.writestr("archive/data.pkl", program)
            for name, data in entries.items():
                file.writestr(f"archive/data/{name}", data)
        return tmp_path / "hand.ckpt"
    return write


def refuses(path, match):
    with pytest.raises(InputError, match=match) as caught:
        load_official(path)
    assert "\n" not in str(caught.value)


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
    model = load_official(tmp_path / "old.ckpt", heads=2, groups=2)
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
    assert checkpoint.infer(names) == PRESETS["paper"]
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


# Programs that a file may carry. Each would leave the file `proof` behind.

@pytest.mark.parametrize("call", [
    ("os", "system"), ("posix", "system"), ("subprocess", "getoutput"), ("builtins", "eval"), ("builtins", "exec"),
    ("builtins", "getattr"), ("builtins", "__import__"), ("__builtin__", "eval"), ("torch.hub", "load"),
    ("torch.storage", "_load_from_bytes"), ("torch", "load"), ("torch._utils", "_rebuild_from_type_v2"),
    ("pathlib", "Path.touch"), ("collections", "OrderedDict.__init__.__globals__"), ("functools", "partial"),
    ("mainframe", "main"), ("torch.nn", "Module"), ("operator", "attrgetter"), ("importlib", "import_module"),
    ("msdm_lite.checkpoint", "load_official"),
])
@pytest.mark.parametrize("protocol", [0, 4])
def test_other_names_are_refused_by_name(pack, tmp_path, call, protocol):
    proof = tmp_path / "proof"
    argument = f"open({str(proof)!r}, 'w')" if call[1] in ("eval", "exec") else f"touch {proof}"
    if protocol == 0:
        program = f"c{call[0]}\n{call[1]}\n(V{argument}\ntR.".encode()
    else:
        program = pickle.PROTO + b"\x04" + b"".join(
            pickle.SHORT_BINUNICODE + bytes([len(text)]) + text.encode() for text in call) + (
            pickle.STACK_GLOBAL + pickle.MARK + f"V{argument}\n".encode() + b"tR.")
    refuses(pack(program), f"no use for {re.escape(repr('.'.join(call)))}, and this reader refuses it")
    assert not proof.exists()


def test_an_object_that_calls_something_when_it_is_read(content, save, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'proof'}",)

    for where in (content, content["state_dict"], content["hyper_parameters"]):
        where["model.unet.evil"] = Evil()
        refuses(save(content), rf"{os.system.__module__}\.system")
        del where["model.unet.evil"]
    assert not (tmp_path / "proof").exists()


INERT = b"caudio_diffusion_pytorch\nUNet1d\n"


@pytest.mark.parametrize("program", [
    INERT + b"(V touch proof\ntR(V touch proof\ntR.",                      # call what a call gave
    INERT + b"(V a\ntR}(V__setstate__\ncmain\nhook\nubV b\nb.",            # a state that would be called with the next
    INERT + b"(N}(V__call__\ncmain\nhook\nutb.",                           # attributes of the class itself
    INERT + b"(N}(V__setstate__\nNutb(V a\ntRNb.",
    b"ccollections\nOrderedDict\n(N}(V__setstate__\nNutb)R}(Va\nV b\nub.",
    b"ctorch\nFloatStorage\n(N}(Vdtype\nV x\nutb.",
    b"ctorch._utils\n_rebuild_tensor_v2\n(N}(V__defaults__\nV x\nutb.",
    INERT + b"(V a\ntR(V b\nV c\ne(V d\nV e\nu.",                          # appended to, and items set
    b"(V touch proof\ni__main__\nhook\n.",                                 # INST, of another module
    b"(imain\nhook\n.",
    b"\x80\x02cmain\nhook\n)}\x92.",                                      # NEWOBJ_EX
    b"\x80\x02cmain\nhook\n(V a\nt\x81)R.",
    b"\x80\x02\x82\x01.",                                                  # the extension registry
    b"\x80\x04\x8c\x17audio_diffusion_pytorch\x8c\x0futils.os.system\x93(V touch proof\ntR.",
    b"ctorch._utils\n_rebuild_parameter\n(cmain\nhook\ntR(V touch proof\ntR.",
    b"\x80\x02(Vstorage\nV FloatStorage\nV0\nVcpu\nK\x01tQ.",              # a storage that is no storage
    b"\x80\x02V os.system\nQ.",
    b"Nr\xff\xff\xff\xff.",                                                # a memo of gigabytes
    b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa.",                   # a text of exabytes
    b"\x80\x02}" + b"N" + b"\x85" * 200_000 + b"Ns.",                       # keys so deep that hashing them ends Python
    b"\x80\x02}(" + b"N" + b"\x85" * 200_000 + b"Nu.",
    b"\x80\x02(" + b"N" + b"\x85" * 200_000 + b"Nd.",
    b"\x80\x04\x8f(" + b"N" + b"\x85" * 200_000 + b"\x90.",
    b"\x80\x04(" + b"N" + b"\x85" * 200_000 + b"\x91.",
    b"\x80\x02ccollections\nOrderedDict\n](" + b"N" + b"\x85" * 200_000 + b"N\x86e\x85R.",
    b"\x80\x02(ccollections\nOrderedDict\n](" + b"N" + b"\x85" * 200_000 + b"N\x86eo.",
    b"", b".", b"(", b"}}s.", b"\x80\x09N.", b"I" + 9999 * b"9" + b"\n.", b"\xff\xfe", b"(" * 99 + b"t" * 99 + b".",
])
def test_placeholders_smuggle_nothing_and_no_pickle_breaks_the_reader(pack, monkeypatch, tmp_path, program):
    before = {cls: dict(vars(cls)) for cls in (Inert, PlainDict, Storage, unpickle.Note, unpickle.Parameter,
                                               *unpickle.STORAGES.values())}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "system", lambda *_: pytest.fail("it ran"))
    refuses(pack(program), "damaged|no state_dict|refuses")
    assert all(dict(vars(cls)) == attributes for cls, attributes in before.items())
    assert not (tmp_path / "proof").exists()


def test_a_short_pickle_cannot_ask_for_much_memory():
    """Six bytes that store None as number 2**26: in the unpickler written in C a table of a gigabyte."""
    tracemalloc.start()
    unpickle.Reader(io.BytesIO(b"Nr" + (1 << 26).to_bytes(4, "little") + b".")).load()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


def test_a_placeholder_is_what_every_call_gives():
    got = unpickle.Reader(io.BytesIO(INERT + b"(V touch proof\ntR}(Va\nV b\nub.")).load()
    assert type(got) is Inert and not callable(got) and not vars(got)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_truncated_files(content, save, kept):
    path = save(content)
    path.write_bytes(path.read_bytes()[:int(kept * path.stat().st_size)])
    refuses(path, "not a checkpoint that PyTorch wrote, or not whole")


def test_files_that_are_no_checkpoint(save, tmp_path, pack, content):
    refuses(tmp_path / "none.ckpt", "there is no such file")
    refuses(tmp_path, "not a checkpoint")
    (tmp_path / "text.ckpt").write_text("not a model")
    refuses(tmp_path / "text.ckpt", "not a checkpoint")
    torch.save(content, tmp_path / "legacy.ckpt", _use_new_zipfile_serialization=False)
    refuses(tmp_path / "legacy.ckpt", "not a checkpoint")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("readme.txt", "hello")
    refuses(tmp_path / "other.zip", "not one that PyTorch wrote")
    refuses(pack(b"N.", zipfile.ZIP_DEFLATED), "compressed")
    refuses(save([1, 2]), "no state_dict")
    refuses(save({"state_dict": {3: torch.zeros(1)}}), "no state_dict")
    refuses(save({"state_dict": {"encoder.weight": torch.zeros(1)}}), "another model")


def test_a_flipped_bit_is_found(content, save):
    path = save(content)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        largest = max(file.infolist(), key=lambda info: info.file_size if "/data/" in info.filename else 0)
    data[largest.header_offset + 200 + largest.file_size // 2] ^= 1
    path.write_bytes(data)
    refuses(path, "CRC")


NAME = "model.unet.to_mapping.0.weight"  # (32, 32)


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
    with pytest.raises(InputError, match="8 wide, which cannot be cut into 3 heads"):
        load_official(save(content), heads=3)
    with pytest.raises(InputError, match="multiple of the 3 groups"):
        load_official(save(content), groups=3)


class Rebuilt:
    """Pickles as a tensor of any description."""

    def __init__(self, *description):
        self.description = description

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, (torch.zeros(1024)._typed_storage(), *self.description)


@pytest.mark.parametrize(("description", "match"), [
    ((1, (32, 32), (32, 1)), "beyond its storage"),
    ((0, (32, 32), (33, 1)), "beyond its storage"),
    ((0, (32, 64), (0, 1)), "beyond its storage"),            # fits, but would grow when it is copied
    ((-1, (32, 32), (32, 1)), "no proper shape"),
    ((0, (32, 32), (-32, 1)), "no proper shape"),
    ((0, (32, 32), (32,)), "no proper shape"),
    ((0, (1,) * 9, (1,) * 9), "no proper shape"),
    ((0, (True, 32), (32, 1)), "no proper shape"),
    ((0, (32, 32.0), (32, 1)), "no proper shape"),
    ((0, [32, 32], [32, 1]), "no proper shape"),
    ((0, (0, 32), (32, 1)), "no proper shape"),
    ((2**80, (32, 32), (32, 1)), "beyond its storage"),
    ((None, None, None), "no proper shape"),
])
def test_descriptions_that_reach_out_of_the_file(content, save, description, match):
    content["state_dict"][NAME] = Rebuilt(*description, False, OrderedDict())
    refuses(save(content), match)


@pytest.mark.parametrize("numel", [1023, 1025, 2**60, -1])
def test_storages_of_another_size_than_they_say(content, save, numel, tmp_path):
    """The size in the pickle and the bytes beside it must agree."""
    path = save(content)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "changed.ckpt", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("data.pkl"):
                assert pickle.BININT2 + (1024).to_bytes(2, "little") in data
                data = data.replace(pickle.BININT2 + (1024).to_bytes(2, "little"),
                                    pickle.LONG1 + b"\x09" + numel.to_bytes(9, "little", signed=True))
            new.writestr(name, data)
    refuses(tmp_path / "changed.ckpt", "beyond its storage|right size|no proper shape")


def test_entries_that_share_their_bytes_are_refused(pack):
    """A zip whose directory says more than the file has: what makes a small file large."""
    path = pack(b"N.", **{str(n): bytes(1000) for n in range(3)})
    data = path.read_bytes()
    start = data.rindex(b"PK\x01\x02")
    sizes = (50_000).to_bytes(4, "little")
    path.write_bytes(data[:start + 20] + sizes + sizes + data[start + 28:])
    refuses(path, "more bytes than it has")


def test_another_order_of_bytes(content, save, tmp_path):
    path = save(content)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "big.ckpt", "w") as new:
        for name in old.namelist():
            new.writestr(name, b"big" if name.endswith("byteorder") else old.read(name))
    refuses(tmp_path / "big.ckpt", "another order of bytes")


def test_msdm_lite_loads_it_by_its_path(net, content, save, tmp_path):
    """As any model: denoising, separating by the paper's samplers, and saving in our own format."""
    model = msdm_lite.load(save(content), "cpu")
    assert "official code" in model.record["source"] and model.stems == ("bass", "drums", "guitar", "piano")
    assert model.config.sigma_data == 0.3 and not model.takes_known
    x, sigma = 0.1 * torch.randn(2, 4, 6 * TINY.downsampling), torch.tensor([0.05, 1.0])
    expected = Denoiser1d(net, 0.3).denoise(x, sigma)
    got = model.transform.inverse(model.denoise(model.transform.forward(x), sigma))
    assert torch.allclose(got, expected, atol=1e-6)
    mix = 0.1 * torch.randn(3000)
    stems = msdm_lite.separate(mix, model, "dirac", steps=2)
    assert stems.shape == (4, 3000) and torch.allclose(stems.sum(0), mix, atol=1e-3)
    with pytest.raises(InputError, match="try dirac"):
        msdm_lite.separate(mix, model, "mixture-known")
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
    from dataclasses import replace
    single = UNet1d(replace(TINY, stems=1))
    content = {"epoch": 3, "hyper_parameters": dict(HYPER), "state_dict": official_state(single)}
    for name in ("drums", "bass"):
        torch.save(content, tmp_path / f"{name}.ckpt")
    one = weights.official(tmp_path / "drums.ckpt")
    assert one.stems == ("drums",)
    assert one.denoise(torch.zeros(1, 1, 1, 4 * TINY.downsampling), torch.ones(1)).shape[1] == 1
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match=r"name the file after it, as in drums\.ckpt"):
        weights.official(tmp_path / "last.ckpt")
