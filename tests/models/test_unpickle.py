"""Programs that a file may carry: each would leave the file `proof` behind, or ask for gigabytes, or for hours."""

import io
import os
import pickle
import re
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msdm_lite.errors import InputError
from msdm_lite.models import official, unpickle
from msdm_lite.models.unpickle import Inert, Node, PlainDict, Storage
from tests.official import refuses


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
    before = {cls: dict(vars(cls)) for cls in (Inert, PlainDict, Storage, Node, unpickle.Note, unpickle.Parameter,
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


def eight(number: int) -> bytes:
    return number.to_bytes(8, "little")


MEGA = bytes(1 << 20)
TEXT = pickle.BINUNICODE8 + eight(len(MEGA)) + MEGA


@pytest.mark.parametrize("program", [
    b"\x80\x05\x96" + eight(6 << 30) + b".",                             # BYTEARRAY8, of 6 GB
    b"\x80\x05\x96" + eight(1 << 62) + b".",
    b"\x80\x04\x8e" + eight(6 << 30) + b".",                             # BINBYTES8
    b"\x80\x04\x8d" + eight(6 << 30) + b".",                             # BINUNICODE8
    b"\x80\x02\x8b\xff\xff\xff\x7f.",                                   # LONG4
    b"\x80\x02\x8b\xff\xff\xff\xff.",
    b"\x80\x03B\xff\xff\xff\xff.", b"X\xff\xff\xff\xff.", b"T\xff\xff\xff\x7f.",
    b"\x80\x04\x95" + eight(6 << 30) + b".",                             # a frame
    b"I" + b"9" * 100_000 + b"\n.", b"L" + b"9" * 100_000 + b"L\n.",
    b"\x8f" * 500_000 + b".", b"}" * 500_000 + b".", b"(" * 500_000 + b".",  # 64 to 216 bytes each
    b"\x80\x04" + b"}\x94" * 250_000 + b".",
    b"N" + b"2" * 500_000 + b".",
    INERT + TEXT + b"q\x00" + b"0(h\x00t" + b"R" * 9 + b".",
    INERT + b"q\x00" + TEXT + b"q\x01" + b"0h\x00h\x01R" * 20_000 + b".",  # a call with a million letters, often
    b"\x80\x02" + INERT + b"q\x00" + TEXT + b"q\x01" + b"0h\x00h\x01\x81" * 20_000 + b".",
    b"(" + b"N" * 70 + b"tq\x010" + INERT + b"q\x00" + b"0h\x00h\x01R" * 20_000 + b".",
    b"\x80\x04(" + b"N" * 70 + b"tq\x010" + INERT + b"q\x00" + b"0h\x00h\x01}\x92" * 20_000 + b".",
    b"\x80\x04" + pickle.BINUNICODE8 + eight(1 << 20) + b"main" + b"." * ((1 << 20) - 4) + b"\x94\x8c\x01a\x94"
    + b"h\x00h\x01\x930" * 20_000 + b".",                               # a name of a million letters, often
    b"ccollections\nOrderedDict\nq\x000](" + b"N]e" * 9 + b"q\x01" + b"0h\x00(h\x01tR" * 9 + b".",
    b"\x80\x02}(" + b"".join(b"\x8a\x0a" + (n * (2**61 - 1)).to_bytes(10, "little") + b"N"
                             for n in range(1, 100_000)) + b"u.",        # keys that all have the hash 0
    b"\x80\x04\x8f(" + b"".join(b"\x8a\x0a" + (n * (2**61 - 1)).to_bytes(10, "little")
                                 for n in range(1, 100_000)) + b"\x90.",
    bytes(17 << 20),
])
def test_no_pickle_asks_for_much_memory_or_time(program):
    """At most 500 MB; and unchecked, some of these take hours."""
    tracemalloc.start()
    with pytest.raises(InputError) as caught:
        unpickle.load(program)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500e6 + 2 * len(program) and "\n" not in str(caught.value)


def test_a_pickle_of_many_small_objects_stays_within_its_bound():
    """The most expensive steps, as many as are allowed."""
    tracemalloc.start()
    found = unpickle.load(b"\x80\x04(" + b"\x8f\x94" * (unpickle.MOST_STEPS // 2 - 3) + b"l.")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == unpickle.MOST_STEPS // 2 - 3 and peak < 200e6


STEP = st.integers(0, 255).map(lambda step: bytes([step]))
NAMES = st.sampled_from([name.replace(".", "\n", 1).encode() for name in unpickle.ALLOWED if name.count(".") == 1]
                        + [b"torch._utils\n_rebuild_tensor_v2", b"omegaconf.nodes\nAnyNode", b"os\nsystem"])
PIECES = st.one_of(
    STEP,
    st.sampled_from([b"(", b"t", b"R", b"b", b"u", b"s", b"e", b"a", b"}", b"]", b")", b"\x81", b"\x85", b"\x86", b"2",
                     b"0", b"Q", b"\x94", b"\x8f", b"\x90", b"\x91", b"N", b"\x88"]),
    st.binary(max_size=9),
    NAMES.map(lambda name: b"c" + name + b"\n"),
    st.integers(0, 255).map(lambda n: b"K%c" % n), st.integers(0, 9).map(lambda n: b"h%c" % n),
    st.integers(0, 9).map(lambda n: b"q%c" % n),
    st.tuples(st.sampled_from([b"\x8d", b"\x8e", b"\x96", b"\x95"]), st.integers(0, 2**64 - 1)).map(
        lambda pair: pair[0] + eight(pair[1])),
    st.tuples(st.sampled_from([b"\x8b", b"B", b"X", b"T", b"r", b"j", b"\x84"]), st.integers(0, 2**32 - 1)).map(
        lambda pair: pair[0] + pair[1].to_bytes(4, "little")),
    st.sampled_from(["storage", "cpu", "0", "_val", "_content", "state_dict", "__setstate__", "__class__"]).map(
        lambda text: b"X" + len(text).to_bytes(4, "little") + text.encode()),
    st.sampled_from([float("nan"), float("inf"), 1e300]).map(lambda x: pickle.dumps(x)[2:-1]),
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(PIECES, max_size=60))
def test_any_program_is_read_or_refused_with_one_line(pieces):
    """Pieces of programs in any order, built from the steps that a pickle has."""
    before = {cls: dict(vars(cls)) for cls in (Inert, PlainDict, Storage, Node, unpickle.Note)}
    program = b"\x80\x04" + b"".join(pieces) + b"."
    try:
        unpickle.load(program)
    except InputError as problem:
        assert "\n" not in str(problem)
    assert all(dict(vars(cls)) == attributes for cls, attributes in before.items())
