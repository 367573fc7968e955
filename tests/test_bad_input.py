"""Bad input of many kinds, each through the function or the command line that reads it.

Each kind ends in one line that names what is wrong: the file, the option or the value. None ends in another exception.
All files are made here.
"""

import json
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch

import msdm_lite
from msdm_lite.audio import io as audio_io
from msdm_lite.cli import main
from msdm_lite.data import corpus, midi, readers
from msdm_lite.data.dataset import Crops, songs_of
from msdm_lite.diffusion import schedules
from msdm_lite.errors import InputError
from msdm_lite.evaluation import coherence, fad, metrics, records
from msdm_lite.evaluation.separated_songs import separate_song
from msdm_lite.evaluation.separation_quality import Songs
from msdm_lite.models import weights
from msdm_lite.models.config import preset
from msdm_lite.models.joint import Model
from msdm_lite.models.unet1d import PRESETS, UNet1d
from msdm_lite.models.weights import build
from msdm_lite.studies import __main__ as studies
from msdm_lite.training import loop
from msdm_lite.training.recipe import Recipe
from msdm_lite.training.state import TrainingState

RATE = 22050


@pytest.fixture(scope="module")
def model() -> Model:
    return build(preset("tiny")).eval().requires_grad_(False)


# Files


def text(path: Path, content: str | bytes = "this is no such file\n" * 20) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def sound(path: Path, samples: Any = None, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.1 * np.sin(0.1 * np.arange(rate // 2)) if samples is None else np.asarray(samples, float)
    soundfile.write(path, wave, rate, **({"subtype": "FLOAT"} if path.suffix == ".wav" else {}))
    return path


def link(path: Path, to: Path) -> Path:
    path.symlink_to(to)
    return path


def pipe(path: Path) -> Path:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    os.mkfifo(path)
    return path


def weights_file(path: Path, config: Any = None, drop: str = "", more: dict | None = None, **meta: str) -> Path:
    """A file of `tiny` with another configuration or other tensors; `config` replaces fields, or is the text itself."""
    model = build(preset("tiny"))
    tensors = {name: value.contiguous() for name, value in model.state_dict().items() if name != drop} | (more or {})
    said = config if isinstance(config, str) else json.dumps(model.config.to_dict() | (config or {}))
    safetensors.torch.save_file(tensors, path, {"config": said, **meta})
    return path


class Calls:
    """Runs a program if it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch it-ran",)


def checkpoint(path: Path, program: bytes | None) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/readme.txt" if program is None else "archive/data.pkl", program or b"")
    return path


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def slakh(root: Path, metadata: str | bytes) -> Path:
    """A folder with one song of Slakh2100 that has this metadata."""
    sound(root / "Track00001" / "stems" / "S00.flac")
    text(root / "Track00001" / "metadata.yaml", metadata)
    return root


def bundle(root: Path) -> Path:
    """Two models of the same stem."""
    model = build(preset("tiny", ("bass",)))
    for name in ("one", "two"):
        weights.save(model, root / f"{name}.safetensors", {})
    return root


# What reads them


def restored(folder: Path) -> None:
    """Resume from the checkpoint in a folder."""
    model = build(preset("tiny"))
    TrainingState(model, Recipe(preset="tiny", steps=1).for_model(model), folder).restore()


def trained(folder: Path, resume: bool = False, **settings: Any) -> None:
    loop.train(Recipe(**({"preset": "tiny", "data": str(folder / "songs"), "steps": 1} | settings)), folder / "run",
               progress=False, resume=resume)


def separated(source: Any, model: Model, **settings: Any) -> torch.Tensor:
    return msdm_lite.separate(source, model, **settings)


def noise(*shape: int) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def spoiled(value: float) -> torch.Tensor:
    wave = noise(5000)
    wave[100] = value
    return wave


Kind = tuple[str, Callable[[Path, Model], object], str]

AUDIO: list[Kind] = [
    ("a file that is not there", lambda p, m: audio_io.load(p / "none.wav"), "none.wav"),
    ("a folder", lambda p, m: audio_io.load(p), "{name}"),
    ("an empty file", lambda p, m: audio_io.load(text(p / "empty.wav", "")), "empty.wav"),
    ("a text", lambda p, m: audio_io.load(text(p / "words.wav")), "words.wav"),
    ("a picture", lambda p, m: audio_io.load(text(p / "cover.wav", b"\x89PNG\r\n\x1a\n" + bytes(400))), "cover.wav"),
    ("noise called flac", lambda p, m: audio_io.load(text(p / "bytes.flac", np.random.default_rng(0).bytes(3000))),
     "bytes.flac"),
    ("JSON called ogg", lambda p, m: audio_io.load(text(p / "list.ogg", '{"songs": []}')), "list.ogg"),
    ("MIDI called wav", lambda p, m: audio_io.load(text(p / "song.wav", b"MThd" + bytes(100))), "song.wav"),
    ("a wav without frames", lambda p, m: audio_io.load(sound(p / "zero.wav", np.zeros((0, 1)))), "zero.wav"),
    ("a sample at 192 kHz, half a one at 22 kHz", lambda p, m: audio_io.load(sound(p / "one.wav", [0.5], 192000)),
     "22050"),
    ("NaN in a file", lambda p, m: audio_io.load(sound(p / "nan.wav", [0.1, np.nan, 0.1])), "nan.wav"),
    ("an infinity in a file", lambda p, m: audio_io.load(sound(p / "inf.wav", [0.1, np.inf, 0.1])), "inf.wav"),
    ("a name of 300 letters", lambda p, m: audio_io.load(p / ("x" * 300 + ".wav")), "xxx.wav"),
    ("a file below a file", lambda p, m: audio_io.load(text(p / "file") / "below.wav"), "below.wav"),
    ("a pipe that nobody writes to", lambda p, m: audio_io.load(pipe(p / "pipe.wav")), "pipe.wav"),
    ("a link to nothing", lambda p, m: audio_io.load(link(p / "gone.wav", p / "nothing.wav")), "gone.wav"),
    ("a link to itself", lambda p, m: audio_io.load(link(p / "loop.wav", p / "loop.wav")), "loop.wav"),
    ("a rate of zero", lambda p, m: audio_io.resample(noise(100), 0, RATE), "not 0"),
    ("an ending that is no format", lambda p, m: audio_io.save(p / "x.mp9", noise(10)), "x.mp9"),
    ("NaN to be saved", lambda p, m: audio_io.save(p / "x.wav", spoiled(np.nan)), "x.wav"),
    ("four dimensions to be saved", lambda p, m: audio_io.save(p / "x.wav", noise(1, 1, 1, 9)), "(1, 1, 1, 9)"),
]
WEIGHTS: list[Kind] = [
    ("a model that does not ship", lambda p, m: weights.load("nope"), "'nope'"),
    ("no such weights", lambda p, m: weights.load(p / "none.safetensors"), "none.safetensors"),
    ("weights with another ending", lambda p, m: weights.load(text(p / "model.pt")), "model.pt"),
    ("a folder without models", lambda p, m: weights.load(p), "{name}"),
    ("a text called safetensors", lambda p, m: weights.load(text(p / "words.safetensors")), "words.safetensors"),
    ("empty weights", lambda p, m: weights.load(text(p / "empty.safetensors", "")), "empty.safetensors"),
    ("a header of exabytes", lambda p, m: weights.load(text(p / "huge.safetensors", struct.pack("<Q", 2**60) + b"{}")),
     "huge.safetensors"),
    ("half the weights", lambda p, m: weights.load(text(p / "half.safetensors", weights_file(
        p / "whole.safetensors").read_bytes()[:-5000])), "half.safetensors"),
    ("weights without a configuration", lambda p, m: weights.load(
        safetensors.torch.save_file({"a": torch.zeros(1)}, p / "bare.safetensors") or p / "bare.safetensors"),
     "bare.safetensors"),
    ("a configuration that is no JSON", lambda p, m: weights.load(weights_file(p / "a.safetensors", "{]")),
     "a.safetensors"),
    ("a configuration that is a list", lambda p, m: weights.load(weights_file(p / "a.safetensors", "[1]")),
     "a.safetensors"),
    ("a field that no configuration has", lambda p, m: weights.load(weights_file(p / "a.safetensors", {"colour": 1})),
     "colour"),
    ("a task that no model has", lambda p, m: weights.load(weights_file(p / "a.safetensors", {"task": "magic"})),
     "magic"),
    ("a front end that is not there", lambda p, m: weights.load(weights_file(p / "a.safetensors", {"front": "fax"})),
     "fax"),
    ("words as widths", lambda p, m: weights.load(weights_file(p / "a.safetensors", {"widths": "wide"})),
     "a.safetensors"),
    ("no stems", lambda p, m: weights.load(weights_file(p / "a.safetensors", {"stems": []})), "a.safetensors"),
    ("a hundred million layers", lambda p, m: weights.load(weights_file(p / "a.safetensors", {
        "blocks": [10**8, 1, 1]})), "a.safetensors"),
    ("layers of terabytes", lambda p, m: weights.load(weights_file(p / "a.safetensors", {"widths": [2**20] * 3})),
     "do not fit"),
    ("a tensor too few", lambda p, m: weights.load(weights_file(p / "a.safetensors", drop="denoiser.std")),
     "denoiser.std"),
    ("a tensor too many", lambda p, m: weights.load(weights_file(p / "a.safetensors", more={
        "extra": torch.zeros(1)})), "extra"),
    ("a record that is no JSON", lambda p, m: weights.load(weights_file(p / "a.safetensors", record="yes}")),
     "a.safetensors"),
    ("two models of one stem", lambda p, m: weights.load(bundle(p)), "bass"),
    ("a text called ckpt", lambda p, m: weights.load(text(p / "last.ckpt")), "last.ckpt"),
    ("an empty ckpt", lambda p, m: weights.load(text(p / "last.ckpt", "")), "last.ckpt"),
    ("a zip without a pickle", lambda p, m: weights.load(checkpoint(p / "last.ckpt", None)), "last.ckpt"),
    ("a pickle that runs a program", lambda p, m: weights.load(checkpoint(p / "last.ckpt", pickle.dumps(Calls()))),
     "system"),
    ("a ckpt without weights", lambda p, m: weights.load(saved(p / "last.ckpt", {"epoch": 3})), "last.ckpt"),
    ("a ckpt of another network", lambda p, m: weights.load(saved(p / "last.ckpt", {
        "state_dict": {"encoder.weight": torch.zeros(2)}})), "last.ckpt"),
]
CHECKPOINTS: list[Kind] = [
    ("a text called checkpoint", lambda p, m: restored(text(p / "checkpoint.pt").parent), "checkpoint.pt"),
    ("an empty checkpoint", lambda p, m: restored(text(p / "checkpoint.pt", "").parent), "checkpoint.pt"),
    ("half a checkpoint", lambda p, m: restored(text(p / "checkpoint.pt", saved(
        p / "whole.pt", {"step": torch.zeros(999)}).read_bytes()[:2000]).parent), "checkpoint.pt"),
    ("a checkpoint that is a list", lambda p, m: restored(saved(p / "checkpoint.pt", [1, 2]).parent), "checkpoint.pt"),
    ("a checkpoint that is a tensor", lambda p, m: restored(saved(p / "checkpoint.pt", torch.zeros(3)).parent),
     "checkpoint.pt"),
    ("a checkpoint that is a number", lambda p, m: restored(saved(p / "checkpoint.pt", 3).parent), "checkpoint.pt"),
    ("a checkpoint that runs a program", lambda p, m: restored(saved(p / "checkpoint.pt", Calls()).parent),
     "checkpoint.pt"),
    ("a checkpoint without its parts", lambda p, m: restored(saved(p / "checkpoint.pt", {"recipe": {}}).parent),
     "checkpoint.pt"),
    ("a checkpoint whose recipe is a number", lambda p, m: restored(saved(p / "checkpoint.pt", {
        "recipe": 3, "step": 1, "seconds": 2.0}).parent), "checkpoint.pt"),
    ("a checkpoint without weights", lambda p, m: restored(saved(p / "checkpoint.pt", {
        "recipe": {}, "step": 1, "seconds": 2.0}).parent), "checkpoint.pt"),
    ("a checkpoint whose step is a word", lambda p, m: restored(saved(p / "checkpoint.pt", {
        "recipe": {}, "step": "ten", "seconds": 2.0}).parent), "checkpoint.pt"),
    ("a checkpoint with another average", lambda p, m: restored(saved(p / "checkpoint.pt", {
        "recipe": {}, "step": 1, "seconds": 2.0, "model": build(preset("tiny")).state_dict(), "average": {},
        "optimizer": {}}).parent), "checkpoint.pt"),
    ("a checkpoint of another size", lambda p, m: restored(saved(p / "checkpoint.pt", {
        "recipe": {}, "step": 1, "seconds": 2.0, "model": {"a": torch.zeros(1)}}).parent), "other sizes"),
    ("a checkpoint of another preset", lambda p, m: restored(saved(p / "checkpoint.pt", {
        "recipe": {"preset": "lite"}, "step": 1, "seconds": 2.0}).parent), "lite"),
    ("nothing to resume", lambda p, m: trained(p, resume=True), "checkpoint.pt"),
    ("a checkpoint in the way", lambda p, m: (text(p / "run" / "checkpoint.pt"), trained(p)), "checkpoint.pt"),
    ("weights in the way", lambda p, m: (text(p / "run" / "tiny.safetensors"), trained(p)), "tiny.safetensors"),
    ("a file in place of the run's folder", lambda p, m: (text(p / "run"), trained(p)), "run"),
]
RECIPES: list[Kind] = [
    ("no preset of that name", lambda p, m: trained(p, preset="grand"), "'grand'"),
    ("a run of no length", lambda p, m: trained(p, steps=None), "--minutes or --steps"),
    ("two lengths of a run", lambda p, m: trained(p, minutes=1.0), "--minutes or --steps"),
    ("minus three steps", lambda p, m: trained(p, steps=-3), "steps"),
    ("NaN minutes", lambda p, m: trained(p, steps=None, minutes=np.nan), "minutes"),
    ("an infinite learning rate", lambda p, m: trained(p, lr=np.inf), "lr"),
    ("a batch of none", lambda p, m: trained(p, batch=0), "batch"),
    ("a seed below zero", lambda p, m: trained(p, seed=-5), "-5"),
    ("a share of two", lambda p, m: trained(p, silence=2.0), "silence"),
    ("shares that are not one together", lambda p, m: trained(p, shapes=(0.5, 0.1, 0.1, 0.1)), "0.5, 0.1"),
    ("a spread of levels below zero", lambda p, m: trained(p, sigma_known=(0.0, -1.0)), "sigma-known"),
    ("a stem twice", lambda p, m: trained(p, stems=("bass", "bass")), "bass, bass"),
    ("a stem that is a path", lambda p, m: trained(p, stems=("../bass",)), "../bass"),
    ("songs that are not there", lambda p, m: trained(p, data=str(p / "nowhere")), "nowhere"),
]
MIDI: list[Kind] = [
    ("no such MIDI file", lambda p, m: midi.read(p / "none.mid"), "none.mid"),
    ("an empty MIDI file", lambda p, m: midi.read(text(p / "empty.mid", "")), "empty.mid"),
    ("a text called mid", lambda p, m: midi.read(text(p / "words.mid")), "words.mid"),
    ("a folder called mid", lambda p, m: midi.read(p), "{name}"),
    ("half a header", lambda p, m: midi.read(text(p / "short.mid", b"MThd\0\0\0\6\0\1")), "short.mid"),
    ("sound called mid", lambda p, m: midi.read(text(p / "sound.mid", sound(p / "a.wav").read_bytes())), "sound.mid"),
]
FOLDERS: list[Kind] = [
    ("metadata that is no YAML", lambda p, m: readers.slakh(slakh(p, "stems: [S00: {")), "{name}"),
    ("metadata that is a list", lambda p, m: readers.slakh(slakh(p, "- S00\n- S01\n")), "{name}"),
    ("empty metadata", lambda p, m: readers.slakh(slakh(p, "")), "{name}"),
    ("metadata in bytes", lambda p, m: readers.slakh(slakh(p, b"\xff\xfe\x00stems")), "{name}"),
    ("metadata without stems", lambda p, m: readers.slakh(slakh(p, "UUID: 3\n")), "{name}"),
    ("stems that are a number", lambda p, m: readers.slakh(slakh(p, "stems: 3\n")), "{name}"),
    ("a YAML tag that makes an object", lambda p, m: readers.slakh(slakh(
        p, "stems: !!python/object/apply:os.system ['touch it-ran']\n")), "{name}"),
    ("no such folder", lambda p, m: readers.find(p / "none"), "none"),
    ("a file for a folder", lambda p, m: readers.find(text(p / "file")), "file"),
    ("an empty folder", lambda p, m: readers.find(p), "{name}"),
    ("stems of other names", lambda p, m: readers.find([sound(p / song / "oboe.wav") for song in ("a", "b")] and p),
     "oboe"),
    ("a layout that is not there", lambda p, m: readers.find(p, "pile"), "'pile'"),
    ("texts for stems", lambda p, m: readers.find(text(p / "song" / "bass.wav").parent.parent), "{name}"),
    ("no split of that name", lambda p, m: corpus.songs("valid"), "valid"),
    ("no source of that name", lambda p, m: corpus.songs(source="nirvana"), "nirvana"),
    ("a balance that is not there", lambda p, m: corpus.songs(balance="peak"), "peak"),
    ("variations below zero", lambda p, m: corpus.songs(variations=-2), "-2"),
    ("no workers", lambda p, m: corpus.build([], 0), "not 0"),
    ("no songs to crop", lambda p, m: Crops([], 64, 1), "no songs"),
    ("no songs in a folder", lambda p, m: songs_of(str(p), "train"), "{name}"),
    ("a record that is not there", lambda p, m: records.read("no-such-record"), "no-such-record"),
]
VALUES: list[Kind] = [
    ("NaN in a mixture", lambda p, m: separated(spoiled(np.nan), m), "not finite"),
    ("an infinity in a mixture", lambda p, m: separated(spoiled(-np.inf), m), "not finite"),
    ("no samples", lambda p, m: separated(noise(0), m), "short"),
    ("a hundredth of a second", lambda p, m: separated(noise(220), m), "0.01"),
    ("a mixture of three dimensions", lambda p, m: separated(noise(2, 3, 5000), m), "(2, 3, 5000)"),
    ("a schedule without steps", lambda p, m: separated(noise(5000), m, method="dirac", steps=0), "0"),
    ("no samples to average", lambda p, m: separated(noise(5000), m, samples=0), "mean of 0"),
    ("no such method", lambda p, m: separated(noise(5000), m, method="magic"), "'magic'"),
    ("no such guidance", lambda p, m: separated(noise(5000), m, guidance="stars"), "stars"),
    ("no such sampler", lambda p, m: separated(noise(5000), m, method="dirac", sampler="dice"), "dice"),
    ("no such level", lambda p, m: separated(noise(5000), m, level="eleven"), "eleven"),
    ("churn below zero", lambda p, m: separated(noise(5000), m, method="dirac", churn=-1.0), "churn"),
    ("a last level above the first", lambda p, m: separated(noise(5000), m, method="dirac", sigma_min=9.0,
                                                            sigma_max=1.0), "9"),
    ("an option that no method has", lambda p, m: separated(noise(5000), m, method="dirac", colour=1), "colour"),
    ("a given stem that the model lacks", lambda p, m: separated(noise(5000), m, given={"oboe": noise(5000)}),
     "'oboe'"),
    ("a given stem of another length", lambda p, m: separated(noise(5000), m, given={"bass": noise(9000)}),
     "(9000,)"),
    ("all stems given", lambda p, m: separated(noise(5000), m, given={name: noise(5000) for name in m.stems}),
     "all stems"),
    ("a batch of one dimension", lambda p, m: msdm_lite.inference.separation.separate_batch(noise(5000), m),
     "(5000,)"),
    ("accompaniment to nothing", lambda p, m: msdm_lite.accompany({}, m), "no stem"),
    ("accompaniment to all", lambda p, m: msdm_lite.accompany({name: noise(5000) for name in m.stems}, m),
     "all stems"),
    ("accompaniment to NaN", lambda p, m: msdm_lite.accompany({"bass": spoiled(np.nan)}, m), "bass"),
    ("bands of no length", lambda p, m: msdm_lite.generate(m, 0.0), "0 s"),
    ("bands of NaN seconds", lambda p, m: msdm_lite.generate(m, np.nan), "nan"),
    ("minus one band", lambda p, m: msdm_lite.generate(m, 1.0, -1), "-1 bands"),
    ("bands without a batch", lambda p, m: msdm_lite.generate(m, 1.0, 1, batch=0), "0 bands"),
    ("a tempo without a sketcher", lambda p, m: msdm_lite.generate(m, 1.0, 1, tempo=90.0), "tempo"),
    ("shapes that differ", lambda p, m: metrics.si_sdr(noise(4), noise(5)), "(5,)"),
    ("windows of shapes that differ", lambda p, m: metrics.windowed_improvements(noise(2, 4), noise(2, 5)), "(2, 5)"),
    ("an interval of seven", lambda p, m: metrics.bootstrap([1.0] * 7), "7"),
    ("an interval with an infinity", lambda p, m: metrics.bootstrap([*range(9), np.inf]), "1 of 10"),
    ("a distance of NaN", lambda p, m: fad.frechet(noise(9, 2) * np.nan, noise(9, 2)), "9 of the 9"),
    ("a distance of infinities", lambda p, m: fad.frechet(noise(9, 2), noise(9, 2) / 0), "second"),
    ("a distance of huge numbers", lambda p, m: fad.frechet(noise(9, 2).double() * 1e250, noise(9, 2)), "too large"),
    ("a distance of one point", lambda p, m: fad.frechet(noise(1, 2), noise(9, 2)), "(1, 2)"),
    ("subsets larger than the set", lambda p, m: fad.fad_infinity(noise(9, 2), noise(9, 2), [5, 10]), "10"),
    ("halves of seven songs", lambda p, m: fad.half_samples(range(7)), "7"),
    ("embeddings of NaN", lambda p, m: fad.embed_mixtures(spoiled(np.nan)[None, None]), "number 0"),
    ("stems of one band shuffled", lambda p, m: coherence.shuffled(noise(1, 4, 99)), "one band"),
    ("pitch of too little", lambda p, m: coherence.pitch_salience(noise(99)), "99"),
    ("minus five songs to score", lambda p, m: Songs(n=-5), "-5"),
    ("a chunk longer than the song", lambda p, m: separate_song(noise(5000), m, True), "0.2 s"),
    ("noise of one level", lambda p, m: schedules.exponential(0, 0.1, 1.0), "0"),
    ("a length that a network cannot take", lambda p, m: UNet1d(PRESETS["tiny-wave"])(noise(1, 4, 513), noise(1)),
     "513"),
]


def command(*words: str) -> Callable[[Path], list[str]]:
    """The words of a command line, with the test's folder in place of {here}."""
    return lambda here: [word.replace("{here}", str(here)) for word in words]


COMMANDS = [  # (kind, words, what the line says)
    ("a command that is not there", command("seperate", "a.wav"), "seperate"),
    ("a module that is not there", command("--import", "no_such_module", "models"), "no_such_module"),
    ("a module file that is not there", command("--import", "{here}/gone.py", "models"), "gone.py"),
    ("a module that is no Python", command("--import", "{here}/broken.py", "models"), "broken.py"),
    ("a module that ends the program", command("--import", "{here}/zero.py", "models"), "ZeroDivisionError"),
    ("--import without a module", command("--import"), "--import"),
    ("a file that is not there", command("separate", "{here}/none.wav", "--model", "tiny", "--out", "{here}/o"),
     "none.wav"),
    ("a text for a song", command("separate", "{here}/words.wav", "--model", "tiny", "--out", "{here}/o"),
     "words.wav"),
    ("a model that is not there", command("separate", "{here}/song.wav", "--model", "nope", "--out", "{here}/o"),
     "'nope'"),
    ("a method that is not there", command("separate", "{here}/song.wav", "--model", "tiny", "--method", "magic",
                                           "--out", "{here}/o"), "magic"),
    ("a device that is not there", command("separate", "{here}/song.wav", "--model", "tiny", "--device", "abacus",
                                           "--out", "{here}/o"), "abacus"),
    ("an output folder below a file", command("separate", "{here}/song.wav", "--model", "tiny", "--out",
                                              "{here}/words.wav/o"), "words.wav"),
    ("a stem that the model lacks", command("accompany", "oboe={here}/song.wav", "--model", "tiny", "--out",
                                            "{here}/o"), "oboe"),
    ("a stem twice", command("accompany", "bass={here}/song.wav", "bass={here}/words.wav", "--model", "tiny", "--out",
                             "{here}/o"), "bass"),
    ("no seconds", command("generate", "--model", "tiny", "--seconds", "0", "--out", "{here}/o"), "0 s"),
    ("infinitely many seconds", command("generate", "--model", "tiny", "--seconds", "inf", "--out", "{here}/o"),
     "inf s"),
    ("no bands", command("generate", "--model", "tiny", "--n", "0", "--out", "{here}/o"), "0 bands"),
    ("a sketch model that makes none", command("generate", "--model", "tiny", "--sketch", "tiny", "--out", "{here}/o"),
     "no sketcher"),
    ("a number of clips", command("evaluate", "--n", "3"), "--n"),
    ("whole clips", command("evaluate", "--whole"), "--whole"),
    ("clips in chunks", command("evaluate", "--chunks"), "--chunks"),
    ("songs that are generated", command("evaluate", "--task", "generate", "--songs", "band"), "--songs"),
    ("a record below a file", command("evaluate", "--model", "tiny", "--out", "{here}/words.wav/a.json"), "words.wav"),
    ("songs of nowhere", command("evaluate", "--model", "tiny", "--songs", "{here}/nowhere"), "nowhere"),
    ("a result that is not there", command("results", "no-such-result"), "no-such-result"),
    ("a source that is not there", command("data", "build", "--source", "nirvana"), "nirvana"),
    ("a preset that is not there", command("train", "--preset", "grand", "--steps", "1", "--out", "{here}/o"),
     "'grand'"),
]


@pytest.mark.parametrize("do, says", [pytest.param(do, says, id=kind) for table in (
    AUDIO, WEIGHTS, CHECKPOINTS, RECIPES, MIDI, FOLDERS, VALUES) for kind, do, says in table])
def test_bad_input_of_python_is_one_line_that_names_it(do, says, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        do(tmp_path, model)
    line = str(caught.value)
    assert says.replace("{name}", tmp_path.name) in line and "\n" not in line and len(line) < 700, line
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("words, says", [pytest.param(words, says, id=kind) for kind, words, says in COMMANDS])
def test_bad_input_of_the_command_line_is_one_line_that_names_it(words, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sound(tmp_path / "song.wav")
    text(tmp_path / "words.wav")
    text(tmp_path / "broken.py", "def (:\n")
    text(tmp_path / "zero.py", "1 / 0\n")
    assert main.main(words(tmp_path)) == 2
    said = capsys.readouterr()
    assert re.fullmatch(r"msdm-lite: [^\n]+\n", said.err) and says in said.err, said.err
    assert said.out == "" and not list(tmp_path.rglob("bass*")) and not (tmp_path / "o").exists()


def test_bad_input_of_studies_is_one_line(capsys):
    assert studies.main(["no-such-study"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no-such-study" in said


def test_there_are_sixty_kinds_or_more():
    kinds = [kind for table in (AUDIO, WEIGHTS, CHECKPOINTS, RECIPES, MIDI, FOLDERS, VALUES) for kind, *_ in table]
    assert len(kinds) == len(set(kinds)) and len({kind for kind, *_ in COMMANDS}) == len(COMMANDS)
    assert len(kinds) >= 60 and len(kinds) + len(COMMANDS) >= 150


# What looks bad and is not


@pytest.mark.parametrize("change", [lambda x: x.double(), lambda x: x.clone().requires_grad_(),
                                    lambda x: torch.stack([x, x], 1)[:, 0], lambda x: x.flip(0).flip(0)],
                         ids=["double precision", "with a gradient", "every other number in memory", "turned twice"])
def test_samples_in_other_forms_give_the_same_stems(change, model):
    mixture = noise(5000)
    expected = separated(mixture, model, steps=2)
    before = mixture.clone()
    assert torch.equal(separated(change(mixture), model, steps=2), expected) and torch.equal(mixture, before)


def test_a_model_of_stems_that_the_corpus_lacks_reads_them_whatever_their_case(tmp_path):
    for name in ("Vocals", "OTHER"):
        sound(tmp_path / "song" / f"{name}.wav")
    (track,) = readers.find(tmp_path, stems=("other", "vocals"))
    assert track.read(0, 100).any(1).tolist() == [True, True]


def test_the_smallest_right_model_is_read_back(tmp_path):
    """What the spoiled weights above are made from is right without its fault."""
    loaded = weights.load(weights_file(tmp_path / "tiny.safetensors"))
    assert loaded.config == replace(preset("tiny")) and loaded.record == {}
