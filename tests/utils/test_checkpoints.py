import os
import pickle

import pytest
import torch

from msdm_lite.errors import MachineError
from msdm_lite.utils.checkpoints import load_tensors, require_safe_torch, save_tensors


class Evil:
    def __reduce__(self):
        return os.getpid, ()


def test_tensors_come_back_and_code_does_not(tmp_path):
    torch.save({"x": torch.arange(3), "n": [1, "a"]}, tmp_path / "good.pt")
    found = load_tensors(tmp_path / "good.pt")
    assert found["x"].tolist() == [0, 1, 2] and found["n"] == [1, "a"]
    torch.save({"x": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_tensors(tmp_path / "evil.pt")


@pytest.mark.parametrize(("version", "safe"), [("2.4.0", False), ("2.5.1+cpu", False), ("2.6.0", True),
                                               ("2.11.0+cu128", True)])
def test_older_pytorch_is_refused_before_the_file_is_opened(tmp_path, monkeypatch, version, safe):
    torch.save({"x": 3}, tmp_path / "good.pt")
    monkeypatch.setattr(torch, "__version__", version)
    if safe:
        assert load_tensors(tmp_path / "good.pt") == {"x": 3}
        require_safe_torch("a file")
        return
    monkeypatch.setattr(torch, "load", lambda *_args, **_settings: pytest.fail("it was opened"))
    for call in (lambda: load_tensors(tmp_path / "good.pt"), lambda: require_safe_torch(tmp_path / "good.pt")):
        with pytest.raises(MachineError, match=rf"good\.pt: to read it wants PyTorch 2\.6 .*{version[:5]}"):
            call()


def test_a_full_disk_is_one_line_whatever_torch_raises(tmp_path, monkeypatch):
    save_tensors({"x": torch.ones(2)}, tmp_path / "a.pt")
    assert load_tensors(tmp_path / "a.pt")["x"].tolist() == [1, 1]

    def full(value, path):
        raise RuntimeError("basic_ios::clear: iostream error\nand more")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(MachineError, match=r"b\.pt cannot be written \(basic_ios::clear: iostream error\): [^\n]*disk"):
        save_tensors({}, tmp_path / "b.pt")
