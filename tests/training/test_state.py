import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from msdm_lite.errors import InputError
from msdm_lite.models.config import preset
from msdm_lite.training import loop, state
from msdm_lite.utils import files


def test_a_full_disk_loses_nothing(recipe, tmp_path, monkeypatch):
    real, calls = torch.save, []

    def full(state, path):
        calls.append(path)
        if len(calls) > 2:
            Path(path).write_bytes(b"half")
            raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")
        real(state, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match=r"checkpoint of step 3 cannot be written .*--resume"):
        loop.train(recipe, tmp_path / "run", progress=False, checkpoint_minutes=0)
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 2
    assert not list((tmp_path / "run").glob("*.part"))
    monkeypatch.setattr(torch, "save", real)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("", (), {"free": 1000})())
    with pytest.raises(InputError, match="the disk is full"):
        loop.train(recipe, tmp_path / "other", progress=False)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_ends_while_another_gets_ready_is_not_overwritten(recipe, tmp_path, monkeypatch, resume):
    saved, real = tmp_path / "run" / "checkpoint.pt", files.claimed
    if resume:
        loop.train(replace(recipe, steps=1), tmp_path / "run", progress=False)

    def late(folder):
        saved.parent.mkdir(exist_ok=True)
        saved.write_bytes(b"of another run")
        return real(folder)

    monkeypatch.setattr(loop, "claimed", late)
    with pytest.raises(InputError, match="another run has written"):
        loop.train(recipe, tmp_path / "run", resume=resume, progress=False)
    assert saved.read_bytes() == b"of another run"


def test_a_run_is_taken_up_as_it_was_begun(recipe, tmp_path, caplog):
    one = replace(recipe, preset="lite-single", stems=("bass",), steps=1)
    small = replace(preset("lite-single", ("bass",)), widths=(16, 16, 16, 32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "preset", lambda name, stems: replace(small, stems=stems))
        loop.train(one, tmp_path / "run", progress=False)
        for change, says in (({"stems": ("drums",)}, "--stems bass, not drums"),
                             ({"optimizer": "adamw"}, "--optimizer muon, not adamw"),
                             ({"steps": 2, "batch": 2}, None)):
            with pytest.raises(InputError, match=says) if says else contextlib.nullcontext():
                loop.train(replace(one, **change), tmp_path / "run", resume=True, progress=False)
    assert "is of a run with batch 4; from here on it is otherwise" in caplog.text
    assert "steps" not in caplog.text


def test_a_damaged_checkpoint_is_one_line(recipe, tmp_path):
    saved = loop.train(replace(recipe, steps=1), tmp_path / "run", progress=False).parent / "checkpoint.pt"
    whole = saved.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no checkpoint"):
        saved.write_bytes(content)
        with pytest.raises(InputError, match="damaged or no checkpoint"):
            loop.train(recipe, tmp_path / "run", resume=True, progress=False)
        assert saved.read_bytes() == content
    torch.save({"model": {}}, saved)
    with pytest.raises(InputError, match="KeyError"):
        loop.train(recipe, tmp_path / "run", resume=True, progress=False)


def test_the_average_forgets_the_first_weights_soon():
    """After n updates the decay is (1 + n) / (10 + n) at most: a tenth of what came first, then less and less."""
    average, update = [torch.ones(1)], state._ramped(0.999)
    for count in range(30):
        update(average, [torch.zeros(1)], torch.tensor(count))
    expected = 1.0
    for count in range(30):
        expected *= min(0.999, (1 + count) / (10 + count))
    assert average[0].item() == pytest.approx(expected, rel=1e-4) and expected < 1e-6


def test_only_scraps_of_a_run_are_removed(recipe, tmp_path):
    """A browser's half-loaded file ends in .part as well."""
    (tmp_path / "run").mkdir()
    own = [tmp_path / "run" / name for name in ("checkpoint.pt.71-140.part", "log.jsonl.7-1.part",
                                                "tiny.safetensors.8-2.part", "tiny.json.8-2.part")]
    others = [tmp_path / "run" / name for name in ("film.mp4.part", "checkpoint.pt.part", "other.safetensors.8-2.part")]
    for file in own + others:
        file.write_text("half")
    loop.train(replace(recipe, steps=1), tmp_path / "run", progress=False)
    assert not any(file.exists() for file in own) and all(file.read_text() == "half" for file in others)
