"""A folder like MUSDB18-HQ from training to scores, by the commands that a user types."""

import json

import soundfile
import torch

from msdm_lite.cli import main
from msdm_lite.data import readers
from msdm_lite.models import weights

STEMS = ("bass", "drums", "other", "vocals")


def test_other_stems_from_training_to_scores(musdb, tmp_path, capsys):
    run, song = tmp_path / "run", musdb / "test" / "Artist - Song 2"
    assert main.main(["train", "--data", str(musdb), "--stems", *STEMS, "--preset", "tiny", "--steps", "2",
                      "--batch", "2", "--out", str(run)]) == 0
    model = run / f"{'-'.join(STEMS)}.safetensors"
    assert capsys.readouterr().out.strip() == str(model)
    loaded = weights.load(model, "cpu")
    assert loaded.stems == STEMS and loaded.record["songs"] == 1  # the other is held out
    assert loaded.record["command"].split("--stems ")[1].startswith("bass drums other vocals")
    loudest = loaded.denoiser.std.argmax(1)  # MDCT bins are 10.8 Hz wide
    assert loudest[0] < 8 and 20 < loudest[3] < 40

    assert main.main(["separate", str(song / "mixture.wav"), "--model", str(model), "--steps", "1",
                      "--mono", "--rate", "model", "--out", str(tmp_path / "apart")]) == 0
    assert sorted(path.name for path in (tmp_path / "apart").glob("*.wav")) == [f"{stem}.wav" for stem in STEMS]
    total = sum(soundfile.read(tmp_path / "apart" / f"{stem}.wav")[0] for stem in STEMS)
    mixture = readers.find(musdb / "test", stems=("mixture",))[0].read()[0]
    assert abs(total - mixture).max() < 1e-3

    assert main.main(["generate", "--model", str(model), "--seconds", "2", "--steps", "2",
                      "--out", str(tmp_path / "new")]) == 0
    written = {path.name for path in (tmp_path / "new").rglob("*.wav")}
    assert written == {"mix.wav", *(f"{stem}.wav" for stem in STEMS)}

    assert main.main(["accompany", str(song / "drums.wav"), str(song / "vocals.wav"), "--model", str(model),
                      "--steps", "2", "--out", str(tmp_path / "band")]) == 0
    given = readers.find(musdb / "test", stems=("vocals",))[0].read()[0]
    made = {stem: torch.from_numpy(soundfile.read(tmp_path / "band" / f"{stem}.wav", dtype="float32")[0])
            for stem in STEMS}
    assert (made["vocals"].numpy() == given).mean() > 0.99 and made["bass"].std() > 0 and made["other"].std() > 0

    assert main.main(["evaluate", "--songs", str(musdb), "--model", str(model), "--steps", "1", "--seconds", "6",
                      "--out", str(tmp_path / "scores.json")]) == 0
    found = json.loads((tmp_path / "scores.json").read_text())
    assert list(found["active"]) == [*STEMS, "all"] and list(found["songs"]) == ["Artist - Song 2"]
