import math

import pytest
import soundfile
import torch

from msdm_lite.errors import InputError
from msdm_lite.inference import outputs
from msdm_lite.utils import manifest

FACTS = {"command": "msdm-lite", "seed": 0}


def test_files_and_their_manifest(tmp_path):
    waves = {"bass": torch.rand(2, 50), "drums": torch.rand(1, 50)}
    paths = outputs.write(tmp_path / "o", waves, 44100, FACTS, outputs.Format("flac", "16"), {"title": "Song"})
    assert [path.name for path in paths] == ["bass.flac", "drums.flac"]
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"bass.flac", "drums.flac", manifest.NAME}
    run, = manifest.runs(tmp_path / "o")
    assert run == {**FACTS, "outputs": {path.name: manifest.sha256(path) for path in paths}}
    with soundfile.SoundFile(paths[0]) as file:
        assert (file.channels, file.subtype, file.title) == (2, "PCM_16", "Song")
    manifest.require_own(tmp_path / "o", ["bass.flac", "drums.flac"])


def test_what_would_clip_is_turned_down_by_one_gain_and_said(tmp_path, said):
    waves = {"bass": torch.tensor([0.5, -2.0]), "drums": torch.tensor([0.25, 1.0])}
    down = outputs.turned_down(waves, outputs.Format("wav", "16"))
    for name, wave in waves.items():
        torch.testing.assert_close(down[name], wave / 2, rtol=1e-5, atol=0)
    assert len(said()) == 1 and f"{20 * math.log10(2):.1f} dB softer" in said()[0]
    for form in (outputs.Format("wav"), outputs.Format("flac", "24")):
        paths = outputs.write(tmp_path, waves, 22050, FACTS, form)
        peak = abs(soundfile.read(paths[0])[0]).max()
        assert peak == pytest.approx(2.0 if form.name == "wav" else 1.0, rel=1e-5)
    assert outputs.turned_down({"bass": torch.tensor([1.0])}, outputs.Format("flac"))["bass"] == 1.0


def test_formats_that_are_not_there():
    for form in (("wma", None), ("flac", "float"), ("mp3", "16")):
        with pytest.raises(InputError):
            outputs.Format(*form)
    with pytest.raises(InputError, match="96000"):
        outputs.Format("mp3").check(96000)


def test_what_cannot_be_written_changes_nothing(tmp_path):
    outputs.write(tmp_path, {"bass": torch.zeros(5)}, 22050, FACTS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "drums.wav").mkdir()
    with pytest.raises(InputError, match="is not a file"):
        outputs.write(tmp_path, {"bass": torch.ones(5), "drums": torch.ones(5)}, 22050, FACTS)
    (tmp_path / "drums.wav").rmdir()
    with pytest.raises(InputError, match="NaN"):
        outputs.write(tmp_path, {"bass": torch.full((5,), math.nan)}, 22050, FACTS)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_scraps_of_a_killed_run_are_removed(tmp_path):
    for name in (f".{'0a' * 16}.part.wav", f"{manifest.NAME}.12-34.part"):
        (tmp_path / name).touch()
    outputs.write(tmp_path, {"bass": torch.zeros(5)}, 22050, FACTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bass.wav", manifest.NAME]
