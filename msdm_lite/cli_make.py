"""The commands that make things, and tell of what was made: `msdm-lite train`, `data`, `models` and `results`.

Chapter: `book/05-training.ipynb`.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro


def train(out: Path, preset: str = "lite", data: str = "all", minutes: float | None = None, steps: int | None = None,
          resume: bool = False, start: str | None = None, stems: tuple[str, ...] = (), batch: int = 8,
          accumulate: int = 1, optimizer: Literal["muon", "adamw"] | None = None, lr: float | None = None,
          cooldown: float = 0.3, gain_db: float = 2.0, silence: float = 0.04, remix: float = 0.0, detune: float = 50.0,
          variations: int = 0, programs: bool = True, transpose: bool = True, soundfonts: bool = True,
          balance: Literal["rms", "loudness"] = "rms", seed: int = 0, log_every: int = 50,
          checkpoint_minutes: float = 5.0, compile: bool = False, workers: int = 1, resident: bool = False,
          device: str = "auto") -> None:
    """Train a model on the corpus (`msdm-lite data build` makes it) or on your own stems. Can be killed and resumed.

    Several GPUs, machines: `torchrun --nproc_per_node 8 -m msdm_lite train` and these options; `accelerate launch` too.

    Args:
        out: folder for the checkpoint, the log (JSON lines and TensorBoard) and, at the end, the weights.
        preset: lite or tiny; lite-single, for one stem, and lite-small, as large and for all; lite-supervised, which
            separates and does nothing else; lite-guided, for classifier-free guidance; lite-sketch; lite-mix, of what
            all stems sum to; tiny-wave, of waveforms; large (lite, twice as wide), base or paper too, which want a GPU.
        data: band, composed or all training songs; or a folder of stems, Slakh2100 among them.
        minutes: how long to train, validation not counted; or say --steps.
        steps: how many steps to train.
        resume: go on from the checkpoint in --out.
        start: go on from the weights of a model, one that ships or a .safetensors file, on these data: its minutes or
            steps count as part of yours, and the optimizer starts anew.
        stems: learn these alone; all if not given. Models of one stem each, in one folder, are a model of all.
        batch: crops a process takes at once.
        accumulate: such batches in a step; for a large batch in little memory.
        optimizer: muon (for lite and tiny, if not given) or adamw (for base and paper).
        lr: the highest learning rate; if not given 3e-3 with muon, 1e-3 with adamw, 1e-4 for base and paper.
        cooldown: the last share of the run, in which the learning rate falls to a hundredth; another may be given
            with --resume.
        gain_db: augmentation: standard deviation of a random gain for each stem; 0 for none.
        silence: augmentation: probability that a stem is silenced; 0 for none.
        remix: augmentation: probability that the stems of a crop come from different songs.
        detune: augmentation: half the crops are out of tune, all stems alike, by up to so many cents; 0 for none.
        variations: augmentation: further versions of each song, in other keys and sounds (build them first).
        programs: the variations have other instruments of the family.
        transpose: the variations are in other keys.
        soundfonts: the variations come from either of two soundfonts.
        balance: what the corpus' stems are made equally strong in: active RMS, or integrated loudness (build it first).
        seed: of weights, crops and noise.
        log_every: steps between two lines of the log.
        checkpoint_minutes: between two checkpoints; each is followed by a validation.
        compile: let torch.compile work on the denoiser first.
        workers: processes that read crops.
        resident: copy all songs into the GPU's memory first (the corpus takes 8 GB of it) and cut crops there; for a
            GPU that waits for its cores.
        device: auto, cpu or cuda.
    """
    from msdm_lite.recipe import Recipe
    from msdm_lite.train import train as run

    recipe = Recipe(preset=preset, data=data, minutes=minutes, steps=steps, start=start, stems=stems or None,
                    batch=batch, accumulate=accumulate, optimizer=optimizer, lr=lr, cooldown=cooldown, seed=seed,
                    gain_db=gain_db, silence=silence, remix=remix, detune=detune, variations=variations,
                    programs=programs, transpose=transpose, soundfonts=soundfonts, balance=balance,
                    log_every=log_every)
    path = run(recipe, out, resume, device, sys.stderr.isatty(), checkpoint_minutes, compile, workers, resident)
    if os.environ.get("RANK", "0") == "0":  # of several processes the first writes, and says so
        print(path)


def data(action: Annotated[Literal["build", "compose", "clips", "card"], tyro.conf.Positional], source: str = "all",
         variations: int = 0, programs: bool = True, transpose: bool = True, soundfonts: bool = True,
         balance: Literal["rms", "loudness"] = "rms", skip: bool = False, songs: int = 500, seed: int = 0,
         workers: int | None = None, out: Path | None = None) -> None:
    """Make the corpus: render what is missing, compose the band songs anew, cut the clips, or measure for the card.

    Args:
        action: build: render songs into the cache; stop it and call again as you like. compose: write the band songs'
            MIDI. clips: cut the test clips. card: figures and pictures of the data card.
        source: build: all, band, composed, or one Debian package.
        variations: build: further versions of each training song, in other keys and sounds.
        programs: build: the variations have other instruments of the family.
        transpose: build: the variations are in other keys.
        soundfonts: build: the variations come from either of two soundfonts.
        balance: build: what makes stems equally strong: active RMS, or integrated loudness as in Slakh2100.
        skip: build: leave out the songs whose package cannot be had here.
        songs: compose: how many.
        seed: of the composing and of the clips' places.
        workers: build: processes; one for each core if not given.
        out: where what is composed, cut or measured goes; the package's own data folder if not given.
    """
    from msdm_lite import corpus, resources

    if action == "build":
        wanted = corpus.songs(None, None if source == "all" else source, variations, balance,
                              programs=programs, transpose=transpose, soundfonts=soundfonts)
        made = corpus.build(wanted, workers, skip, progress=sys.stderr.isatty())
        print(f"{made} songs rendered, {sum(song.ready for song in wanted)} of {len(wanted)} "
              f"in {resources.cache('corpus')}")
    elif action == "compose":
        from msdm_lite import compose

        print(compose.write(out or resources.sources() / "songs", songs, seed))
    elif action == "clips":
        from msdm_lite import cut

        print(cut.write(out or resources.sources() / "clips", seed=seed))
    else:
        from msdm_lite import card

        print(card.write(out or resources.sources()))


def models(card: bool = False, out: Path | None = None) -> None:
    """The models that ship: how large, how long they were trained, what each is for.

    Args:
        card: write the model card and its pictures.
        out: where they go; the package's own data folder if not given.
    """
    from msdm_lite import model_card, resources

    if card:
        print(model_card.write(out or resources.sources()))
        return
    for line in model_card.overview():
        if not line.startswith("|---"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            print(f"{cells[0]:<18}{cells[1]:>11}{cells[2]:>10}  {cells[3]:<24}{cells[4]}")


def results(names: tyro.conf.Positional[tuple[str, ...]] = (), everything: bool = False, check: bool = False,
            table: bool = False, count: int = 2, seconds: float = 300.0, seed: int | None = None) -> None:
    """Make the recorded results again: those named, or those that are missing or made with other weights.

    Args:
        names: which; --check draws its own.
        everything: those that are up to date too.
        check: change nothing: compute some anew and compare them with the record. Exit code 2 if they differ.
        table: change nothing: print the small table of the README.
        count: check: how many.
        seconds: check: only those that took no longer.
        seed: check: of the draw.
    """
    from msdm_lite import results as r
    from msdm_lite.errors import InputError

    if table:
        from msdm_lite import claims

        print(claims.summary())
        return
    if not check:
        for path in r.make(names, everything, sys.stderr.isatty()):
            print(path)
        for name in r.COMMANDS:
            print(f"{name}: {r.state(name)}")
        return
    found = r.check(count, seconds, seed, sys.stderr.isatty())
    for name, problems in found.items():
        print(f"{name}: {'as recorded' if not problems else '; '.join(problems[:5])}")
    if wrong := [name for name, problems in found.items() if problems]:
        raise InputError(f"not as recorded: {', '.join(wrong)}")
