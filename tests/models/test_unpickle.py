"""Programs that a file may carry: each would leave the file `proof` behind. And files that are not whole."""

import io
import os
import pickle
import re
import tracemalloc
import zipfile
from collections import OrderedDict

import pytest
import torch

from msdm_lite.models import official, unpickle
from msdm_lite.models.unpickle import Inert, PlainDict, Storage
from tests.official import NAME, refuses


@pytest.mark.parametrize("call", [
    ("os", "system"), ("posix", "system"), ("subprocess", "getoutput"), ("builtins", "eval"), ("builtins", "exec"),
    ("builtins", "getattr"), ("builtins", "__import__"), ("__builtin__", "eval"), ("torch.hub", "load"),
    ("torch.storage", "_load_from_bytes"), ("torch", "load"), ("torch._utils", "_rebuild_from_type_v2"),
    ("pathlib", "Path.touch"), ("collections", "OrderedDict.__init__.__globals__"), ("functools", "partial"),
    ("mainframe", "main"), ("torch.nn", "Module"), ("operator", "attrgetter"), ("importlib", "import_module"),
    (official.__name__, "load_official"),
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
    refuses(pack(program), f"does not need {re.escape(repr('.'.join(call)))}, and this reader refuses it")
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
    refuses(path, "more bytes than the file has")


def test_another_order_of_bytes(content, save, tmp_path):
    path = save(content)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "big.ckpt", "w") as new:
        for name in old.namelist():
            new.writestr(name, b"big" if name.endswith("byteorder") else old.read(name))
    refuses(tmp_path / "big.ckpt", "another order of bytes")
