"""`make faults`: kill -9 at random moments of four commands, and a full disk. What has its final name must be whole.

A parent process imports everything once and forks a child for each run, so that a run takes a second. Half of the kills
come at random times of the command, half right before a random one of its operations on files, where a fault would be
seen. After each, all files under final names are compared with those of an undisturbed run (what is written several
times, such as a checkpoint, must be readable), and the command, given again, must end as the undisturbed run did.

The disk is full in a small tmpfs of its own namespace; where that is not allowed, a limit of the size of files stands
for it. `python tests/faults.py --kills 20 --seed 0` prints a table, and ends with 1 if anything is wrong.
"""

import argparse
import contextlib
import ctypes
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import accelerate  # noqa: F401 (here once, and not in every child)
import numpy as np
import pyloudnorm  # noqa: F401
import pytorch_optimizer  # noqa: F401
import soundfile
import torch
import torch._dynamo  # the optimizer imports it
import torch.utils.tensorboard
from safetensors import safe_open

from msdm_lite.audio import io as audio_io
from msdm_lite.cli import evaluate, inference, main, make, train  # noqa: F401
from msdm_lite.data import corpus, render
from msdm_lite.inference import separation
from msdm_lite.training import loop, statistics
from msdm_lite.utils import provenance

VOLATILE = ("date", "wall_seconds", "commit", "minutes", "before", "processor")  # what differs from run to run
RATE = 22050
TRIES = 4  # full disks of each command
LEAST = 5  # kills of each command, however slow the machine


@dataclass
class Command:
    """A command line for a folder of results, and that after a kill; `readable` files are written several times."""

    words: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]]
    environment: Callable[[Path], dict[str, str]] = lambda folder: {}
    readable: tuple[str, ...] = ()
    free: tuple[str, ...] = ()  # files that no result depends on, and that may end anywhere
    passing: tuple[str, ...] = ()  # files that are there, and whole, until the result is


def commands(inputs: Path) -> dict[str, Command]:
    """The four commands, on small sounds."""
    separate = ["separate", str(inputs / "mix.wav"), "--model", "tiny", "--method", "wiener", "--steps", "4",
                "--device", "cpu", "--out"]
    learn = ["train", "--preset", "tiny", "--data", str(inputs / "songs"), "--steps", "3", "--batch", "1", "--device",
             "cpu", "--log-every", "1", "--checkpoint-minutes", "0", "--no-progress", "--out"]
    score = ["evaluate", "--songs", str(inputs / "test"), "--model", "tiny", "--method", "mixture-constrained",
             "--whole", "--device", "cpu", "--out"]

    def learn_again(folder: Path) -> list[str]:
        return [*learn, str(folder / "run"), *(["--resume"] if (folder / "run" / "checkpoint.pt").exists() else [])]

    build = ["data", "build", "--source", "band", "--workers", "1", "--balance", "loudness"]
    return {
        "separate": Command(*[lambda folder: [*separate, str(folder / "stems")]] * 2, readable=("msdm-lite.json",)),
        "train": Command(lambda folder: [*learn, str(folder / "run")], learn_again, readable=(
            "checkpoint.pt", "tiny.safetensors", "tiny.json"), free=("log.jsonl", "events.out.tfevents*")),
        "data build": Command(*[lambda folder: build] * 2, lambda folder: {"MSDM_LITE_CACHE": str(folder)}),
        "evaluate": Command(*[lambda folder: [*score, str(folder / "scores.json")]] * 2, passing=("scores-parts/*",))}


def prepare(inputs: Path) -> None:
    """Sounds to separate, to train on, and to score on; and a corpus of three short songs without FluidSynth."""
    rng = np.random.default_rng(0)
    for split, count in (("songs", 3), ("test/test", 2)):
        for number in range(count):
            place = inputs / split / f"song{number}"
            place.mkdir(parents=True)
            for stem in audio_io.STEMS:
                soundfile.write(place / f"{stem}.wav", 0.03 * rng.standard_normal(RATE * 5), RATE, subtype="FLOAT")
    soundfile.write(inputs / "mix.wav", 0.1 * rng.standard_normal(RATE), RATE, subtype="FLOAT")
    few = [song for song in corpus.songs(source="band")][:3]

    def songs(split=None, source=None, variations=0, balance="rms", **switches):
        return [corpus.replace(song, balance=balance) for song in few]

    def sound(path: Path, variation: object = None) -> np.ndarray:
        return 0.1 * np.random.default_rng(len(path.read_bytes())).standard_normal((4, RATE)).clip(-3, 3)

    corpus.songs, render.render, render.soundfont = songs, sound, lambda name="": Path()
    loop.Validation = lambda model, songs, count, gain: lambda model: {"loss": 0.0}  # it writes nothing
    origin = provenance.origin("msdm_lite.evaluation.separation_quality")
    provenance.origin = lambda name: origin
    separation.separate(torch.ones(RATE), "tiny")  # imports what torch imports late
    statistics.fit_standard_deviations = partial(statistics.fit_standard_deviations, count=4)
    statistics.levels = partial(statistics.levels, count=4)


def run(words: list[str], environment: dict[str, str], said: Path, folder: Path, kill_at: int | None = None) -> int:
    """In a child: the command's exit code. It kills itself right before operation `kill_at` on files of the folder."""
    os.setsid()
    os.environ.update(environment)
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    done = 0

    def watch(event: str, args: tuple) -> None:
        nonlocal done
        if event not in ("open", "os.rename", "os.remove", "os.mkdir", "shutil.move") or not args:
            return
        if isinstance(args[0], str | bytes | os.PathLike) and os.fsdecode(args[0]).startswith(str(folder)):
            if done == kill_at:
                os.killpg(0, signal.SIGKILL)
            done += 1

    sys.addaudithook(watch)
    code = 70
    try:
        code = main.main(words)
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    (said.parent / f"{said.name}.count").write_text(str(done))
    return code


def forked(job: Callable[[], int], kill_after: float | None = None) -> int:
    """The exit code of a job in a child process and all its own; -9 if it was killed."""
    child = os.fork()
    if child == 0:
        code = 71
        try:
            code = job()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        for kill in (os.killpg, os.kill):  # before its own group exists: the process alone
            try:
                kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # workers of a child that ended by itself
        os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status)


def content(path: Path) -> str:
    """A hash of what a file says, without dates and times; of a checkpoint and of weights the values.

    Raises:
        Exception: the file cannot be read to its end.
    """
    if path.suffix == ".json":
        return hashlib.sha256(json.dumps(_steady(json.loads(path.read_text())), sort_keys=True).encode()).hexdigest()
    hashed = hashlib.sha256()
    if path.suffix == ".pt":
        state = torch.load(path, weights_only=True)
        if "average" not in state:  # the scores of a song
            return hashlib.sha256(path.read_bytes()).hexdigest()
        values = {f"{part}.{name}": value for part in ("model", "average") for name, value in state[part].items()}
    elif path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            values = {name: file.get_tensor(name) for name in list(file.keys())}
    else:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    for name, value in sorted(values.items()):
        hashed.update(name.encode() + value.contiguous().numpy().tobytes())
    return hashed.hexdigest()


def _steady(value: object) -> object:
    if isinstance(value, dict):
        return {key: _steady(one) for key, one in value.items() if key not in VOLATILE}
    if isinstance(value, str):  # a command has the folder of its run in it
        return " ".join(word for word in value.split() if not word.startswith("/"))
    return [_steady(one) for one in value] if isinstance(value, list) else value


def finals(folder: Path, command: Command) -> dict[str, Path]:
    """The files under final names, by their place in the folder: those without .part among their endings."""
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()
            and ".part" not in path.suffixes and not any(path.match(name) for name in command.free)}


def wrong(folder: Path, command: Command, undisturbed: dict[str, str], complete: bool) -> list[str]:
    """What is wrong with the files under final names: half-written, other than in the undisturbed run, or missing."""
    found, faults = finals(folder, command), []
    for name, path in found.items():
        try:
            said = content(path)
        except Exception as problem:
            faults.append(f"{name} is half-written ({type(problem).__name__})")
            continue
        if name not in undisturbed and not complete and any(path.match(one) for one in command.passing):
            continue
        if name not in undisturbed:
            faults.append(f"{name} is not of the undisturbed run")
        elif said != undisturbed[name] and (complete or path.name not in command.readable):
            faults.append(f"{name} is not as undisturbed")
    return faults + [f"{name} is missing" for name in undisturbed if complete and name not in found]


def killed(name: str, command: Command, work: Path, kills: int, seed: int, seconds: float
           ) -> tuple[list[str], list[str]]:
    """Kill the command at random moments; returns the row of the table, and what was wrong."""
    folder, said = work / "undisturbed", work / "said.txt"
    folder.mkdir(parents=True)
    begun = time.perf_counter()
    code = forked(lambda: run(command.words(folder), command.environment(folder), said, folder))
    took = time.perf_counter() - begun
    if code:
        return [name, f"{took:.1f} s", "-", "-"], [f"{name}, undisturbed: exit code {code}: {said.read_text()[-300:]}"]
    undisturbed = {place: content(path) for place, path in finals(folder, command).items()}
    operations = int((work / "said.txt.count").read_text())
    rng, faults, struck, done = random.Random(seed), [], 0, 0
    until = begun + seconds - TRIES * took  # the rest is for the full disks
    for number in range(kills):
        if number >= LEAST and time.perf_counter() > until:
            break
        done, folder = number + 1, work / f"kill{number}"
        folder.mkdir()
        at = rng.randrange(operations) if number % 2 else None
        after = None if number % 2 else rng.uniform(0, took)
        moment = f"{name}, killed {f'before operation {at}' if after is None else f'after {after:.2f} s'}"
        words, environment = command.words(folder), command.environment(folder)
        struck += forked(partial(run, words, environment, said, folder, at), after) == -signal.SIGKILL
        faults += [f"{moment}: {what}" for what in wrong(folder, command, undisturbed, False)]
        code = forked(lambda folder=folder: run(command.again(folder), command.environment(folder), said, folder))
        if code:
            faults.append(f"{moment}: given again it ends with {code}: {said.read_text()[-300:]}")
        else:
            faults += [f"{moment}, given again: {what}" for what in wrong(folder, command, undisturbed, True)]
        shutil.rmtree(folder)
    return [name, f"{took:.1f} s", f"{struck} of {done}", f"{len(faults)}"], faults


def small_disk(folder: Path, size: int) -> str:
    """In a child: makes `folder` a disk of that size, if the system lets it, or limits the size of a file."""
    libc = ctypes.CDLL(None, use_errno=True)
    spaces = 0x00020000 if os.getuid() == 0 else 0x10020000  # CLONE_NEWNS, CLONE_NEWUSER
    if libc.unshare(spaces) == 0:
        libc.mount(None, b"/", None, 0x44000, None)  # private: nobody else sees the disk
        if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={size}".encode()) == 0:
            return "tmpfs"
    return limited(size)


def limited(size: int) -> str:
    """In a child: no file gets longer than that."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    return "limit"


def full(name: str, command: Command, work: Path, seed: int, tries: int = TRIES) -> tuple[list[str], list[str]]:
    """Run the command on disks that are too small for its result; returns the row of the table, and what was wrong."""
    undisturbed = {place: content(path) for place, path in finals(work / "undisturbed", command).items()}
    sizes = [path.stat().st_size for path in (work / "undisturbed").rglob("*") if path.is_file()]
    rng, faults, refused = random.Random(seed), [], 0
    for number in range(tries):
        folder, report = work / f"disk{number}", work / "disk.json"
        folder.mkdir()
        share = rng.uniform(0.05, 0.9)

        def job(folder: Path = folder, report: Path = report, share: float = share) -> int:
            said = work / "disk-said.txt"
            if sum(sizes) > 65536:
                kind = small_disk(folder, int(share * sum(sizes)))
            else:  # less than pages of a disk
                kind = limited(int(share * max(sizes)))
            code = run(command.words(folder), command.environment(folder), said, folder)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            lines = [line for line in said.read_text().splitlines() if line.startswith("msdm-lite")]
            found = wrong(folder, command, undisturbed, code == 0)
            if code not in (0, 2) or (code == 2 and len(lines) != 1):
                found.append(f"exit code {code}, and it said {said.read_text()[-400:]!r}")
            report.write_text(json.dumps({"code": code, "faults": found, "kind": kind, "lines": lines}))
            return 0

        if forked(job):
            faults.append(f"{name}, disk of {share:.2f}: the check itself failed")
            continue
        seen = json.loads(report.read_text())
        refused += seen["code"] == 2
        faults += [f"{name}, disk of {share:.2f} ({seen['kind']}): {what}" for what in seen["faults"]]
    if not refused:
        faults.append(f"{name}: no disk was too small, of {tries}")
    return [f"{name}, disk full", "", f"{refused} of {tries}", f"{len(faults)}"], faults


def faults(kills: int, seed: int, seconds: float, only: str | None = None) -> int:
    """Print the table of all commands; returns 1 if anything was wrong."""
    torch.set_num_threads(1)
    begun = time.perf_counter()
    found = []
    print("  ".join(f"{cell:<22}" for cell in ("what", "takes", "killed or refused", "faults")))
    with tempfile.TemporaryDirectory(prefix="msdm-faults-") as place:
        inputs = Path(place, "inputs")
        prepare(inputs)
        wanted = {name: command for name, command in commands(inputs).items() if only in (None, name)}
        for number, (name, command) in enumerate(wanted.items()):
            left = (seconds - (time.perf_counter() - begun)) / (len(wanted) - number)
            work = Path(place, name.replace(" ", "-"))
            row, wrongs = killed(name, command, work, kills, seed, left)
            found += wrongs
            print("  ".join(f"{cell:<22}" for cell in row), flush=True)
            if row[3] != "-":
                row, wrongs = full(name, command, work, seed)
                found += wrongs
                print("  ".join(f"{cell:<22}" for cell in row), flush=True)
    print("\n".join([f"{len(found)} faults in {time.perf_counter() - begun:.0f} s", *found]))
    return int(bool(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of each command, if there is time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=180.0, help="for all commands together")
    parser.add_argument("--only", help="one command")
    chosen = parser.parse_args()
    sys.exit(faults(chosen.kills, chosen.seed, chosen.seconds, chosen.only))
