"""Files that are not whole, or say what they are not: each is refused with one line, within bounded memory."""

import pickle
import random
import struct
import tracemalloc
import zipfile
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msdm_lite.errors import InputError
from msdm_lite.models.archive import Archive
from msdm_lite.models.official import load_official
from tests.official import HYPER, NAME, refuses


def test_tensors_are_read_one_at_a_time_with_their_strides(save):
    whole = torch.arange(24.0, dtype=torch.float64).reshape(4, 6)
    with save({"whole": whole, "turned": whole.T, "part": whole[1:3]}).open("rb") as file:
        archive = Archive(file)
        notes = archive.content()
        assert archive.check("turned", notes["turned"]) == (6, 4)
        assert torch.equal(archive.tensor(notes["turned"]), whole.T.float())
        assert torch.equal(archive.tensor(notes["part"]), whole[1:3].float())
        with pytest.raises(InputError, match="part 'nothing' is missing"):
            archive.entry("nothing", 16)


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


def read_all(path) -> str | None:
    """What `load_official` says of the file; None if it is read. Another exception than InputError is a fault."""
    try:
        model = load_official(path)
    except InputError as problem:
        assert "\n" not in str(problem)
        return str(problem)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    return None


def test_a_flipped_bit_changes_nothing_or_is_found(content, save):
    """Anywhere in the file: in the tensors, in the pickle, and in the headers and the list of the zip."""
    content["optimizer_states"] = [{"exp_avg": torch.zeros(300)}]  # a part that no model needs is compared too
    path = save(content)
    data, want = path.read_bytes(), load_official(path).state_dict()
    chosen, found = random.Random(0), 0
    directory = data.rindex(b"PK\x06\x06") if b"PK\x06\x06" in data else data.rindex(b"PK\x05\x06")
    places = [chosen.randrange(len(data)) for _ in range(30)] + [
        chosen.randrange(directory, len(data)) for _ in range(15)]
    with zipfile.ZipFile(path) as file:
        infos = file.infolist()
    inside = range(infos[-1].header_offset + 64, infos[-1].header_offset + 64 + infos[-1].file_size)
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1 << chosen.randrange(8)
        path.write_bytes(flipped)
        if read_all(path) is not None:
            found += 1
            continue
        got = load_official(path).state_dict()
        assert all(torch.equal(got[name], value) for name, value in want.items()) and place not in inside
    assert found > 20


def test_every_byte_of_the_list_of_entries_may_be_wrong(pack):
    """Names of no encoding, sizes, offsets and kinds: in-process, of a small file."""
    path = pack(b"N.", **{"0": bytes(9)})
    data = path.read_bytes()
    start = data.index(b"PK\x01\x02")
    for place in range(start, len(data)):
        for value in (0, 0x08, 0xFF):
            path.write_bytes(data[:place] + bytes([value]) + data[place + 1:])
            assert read_all(path)  # the pickle is None: never a model


def test_a_name_that_is_no_text(pack):
    """The list says UTF-8, and the name is not."""
    path = pack(b"N.", **{"caf\u00e9": bytes(9)})
    path.write_bytes(path.read_bytes().replace("caf\u00e9".encode(), b"caf\xff\xfe"))
    refuses(path, r"not whole \(UnicodeDecodeError")


def test_a_list_of_very_many_entries(tmp_path):
    """Each entry of the list would take ten times its bytes in memory."""
    one = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    count = (16 << 20) // len(one)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 65535, 65535, count * len(one), 0, 0)
    (tmp_path / "many.ckpt").write_bytes(one * count + end)
    tracemalloc.start()
    refuses(tmp_path / "many.ckpt", "far too many entries")
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


@pytest.mark.parametrize("count", [2001, 20_000])
def test_very_many_tensors_are_not_looked_at(save, count):
    """To build a network of so many levels would take hours."""
    one = torch.zeros(2, 2, 2)
    refuses(save({"state_dict": {f"model.unet.downsamples.{n}.downsample.weight": one for n in range(count)}}),
            f"has {count} tensors, more than any")
    few = {f"model.unet.downsamples.{n}.downsample.weight": torch.zeros(2, 2, 2) for n in range(1500)}
    refuses(save({"state_dict": few, "hyper_parameters": dict(HYPER)}), "lacks the tensor")


def test_values_with_gaps_and_numbers_without_end(content, save):
    content["state_dict"][NAME] = torch.zeros(64, 32)[::2]
    refuses(save(content), "gaps between its values")
    content["state_dict"][NAME] = Rebuilt(0, (10**4000, 10**4000), (1, 1), False, OrderedDict())
    refuses(save(content), "beyond its storage")


def test_values_too_large_for_single_precision(content, save):
    content["state_dict"][NAME] = torch.full((32, 32), 1e300, dtype=torch.float64)
    refuses(save(content), "not all finite")


def test_no_more_than_the_weights_and_one_tensor_are_in_memory(content, save):
    """As bytes; the tensors of the model are these bytes."""
    content["optimizer_states"] = [torch.zeros(1 << 21)]  # 8 MB that are compared, and not kept
    path = save(content)
    load_official(path)
    tracemalloc.start()
    load_official(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 8e6 and peak < 4e6


SIZES = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=40), SIZES, st.booleans()), max_size=5),
       st.binary(max_size=9))
def test_any_zip_is_refused_with_one_line(tmp_path_factory, entries, more):
    """Entries with any names and claims, and a pickle of any bytes."""
    path = tmp_path_factory.mktemp("any") / "any.ckpt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", b"\x80\x02}(X\x0a\0\0\0state_dict" + more + b".")
        for name, data, size, lies in entries:
            info = zipfile.ZipInfo(f"a/data/{name}")
            if not any(info.filename == other.filename for other in file.infolist()):
                file.writestr(info, data)
                if lies:
                    file.getinfo(info.filename).file_size = size
    assert read_all(path)
