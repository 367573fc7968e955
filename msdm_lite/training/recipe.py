"""The recipe of a training run: all settings that determine its result. And how the run is carried out.

Both are data classes from which tyro makes the options of `msdm-lite train`. Chapter: `book/05-training.ipynb`.
"""

import logging
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

from tyro.conf import arg

from msdm_lite.audio.io import MIX
from msdm_lite.errors import InputError
from msdm_lite.models.base import StemModel
from msdm_lite.utils.provenance import command_word

LOG = logging.getLogger("msdm_lite")


def _open(metavar: str, otherwise: str) -> object:
    """How `--help` shows a setting that may be left open; `otherwise` is used then."""
    return arg(metavar=metavar, help_behavior_hint=f"(default: {otherwise})")


Count = Annotated[int, arg(metavar="N")]
Number = Annotated[float, arg(metavar="X")]
Share = Annotated[float, arg(metavar="0..1")]
Shares = Annotated[tuple[float, float, float, float] | None, _open("0..1 0..1 0..1 0..1", "the preset's")]
Levels = tuple[float, float]
OPTIMIZER = arg(metavar="{muon,adamw}", help_behavior_hint="(default: muon for MDCT spectrograms, adamw for waveforms)")


# Source: exp/train_weakly_msdm.yaml
OFFICIAL_SINGLE = {"learning rate": 1e-5, "crops in a step": 16}  # of the official code of arXiv 2302.02257


@dataclass(frozen=True)
class Recipe:
    """Settings of a training run, stored in its checkpoint and in the model's record. None: the preset's default.

    Args:
        preset: configuration of the model: tiny, lite, lite-single (one stem), lite-small (all stems, as large as
            that), lite-supervised (separation only), lite-guided (for classifier-free guidance), lite-sketch (coarse
            spectrograms), lite-mix (the mixture only), tiny-wave (waveforms); for a GPU large, base and paper.
        data: training songs: of the corpus, or a folder of stems such as Slakh2100 or MUSDB18-HQ.
        minutes: length of the run, without validation.
        steps: length of the run in optimizer steps.
        start: fine-tune the weights of this model; its minutes or steps count as part of the run.
        stems: train on these stems only, or on a folder's stems of these names. A folder of models of one stem each is
            a model of all of them.
        batch: crops per process in a batch.
        accumulate: batches whose gradients are accumulated in one step.
        optimizer: the optimizer of the weight matrices.
        lr: peak learning rate.
        warmup: first steps, in which the learning rate rises.
        cooldown: last fraction of the run, in which the learning rate falls to a hundredth; a resumed run may have
            another.
        ema: decay of the moving average of the weights.
        clip: maximum of the gradient norm; 0 for no limit.
        weight_decay: of the weight matrices.
        shapes: shares of the crops given nothing, the mixture, stems, and both.
        sketched: share of the crops conditioned on their sketch, among those without the mixture.
        beat_share: share of the crops with beat conditioning, for a model that takes it.
        sigma_free: mean and standard deviation of ln sigma, where the mixture is not given.
        sigma_known: the same where it is given.
        gain_db: augmentation: standard deviation of a random gain of each stem.
        silence: augmentation: probability that a stem is silenced.
        remix: augmentation: probability that the stems of a crop come from different songs.
        detune: augmentation: half the crops are detuned, all stems alike, by at most this much.
        variations: augmentation: further versions of each song, in other keys and sounds (build them first).
        programs: variations have other instruments of the family.
        transpose: variations are in other keys.
        soundfonts: variations come from either of two soundfonts.
        balance: measure in which the stems of the corpus are equal: active RMS or integrated loudness.
        seed: seed of weights, crops and noise.
        log_every: steps between two lines of the log.
    """

    preset: Annotated[str, arg(metavar="NAME")] = "lite"
    data: Annotated[str, arg(metavar="band|composed|all|FOLDER")] = "all"
    minutes: Annotated[float | None, _open("MINUTES", "--steps says how long")] = None
    steps: Annotated[int | None, _open("N", "--minutes says how long")] = None
    start: Annotated[str | None, _open("NAME|FILE", "random weights")] = None
    stems: Annotated[tuple[str, ...] | None, _open("STEM", "all")] = None
    batch: Count = 8
    accumulate: Count = 1
    optimizer: Annotated[Literal["muon", "adamw"] | None, OPTIMIZER] = None
    lr: Annotated[float | None, _open("RATE", "3e-3 muon, 1e-3 adamw, 1e-4 for waveforms")] = None
    warmup: Count = 200
    cooldown: Share = 0.3
    ema: Share = 0.999
    clip: Number = 1.0
    weight_decay: Number = 0.01
    shapes: Shares = None
    sketched: Annotated[float | None, _open("0..1", "the preset's")] = None
    beat_share: Annotated[float | None, _open("0..1", "the preset's")] = None
    sigma_free: Annotated[Levels | None, _open("MEAN STD", "the preset's")] = None
    sigma_known: Annotated[Levels, arg(metavar="MEAN STD")] = (0.2, 1.5)
    gain_db: Annotated[float, arg(metavar="DB")] = 2.0
    silence: Share = 0.04
    remix: Share = 0.0
    detune: Annotated[float, arg(metavar="CENTS")] = 50.0
    variations: Count = 0
    programs: bool = True
    transpose: bool = True
    soundfonts: bool = True
    balance: Literal["rms", "loudness"] = "rms"
    seed: Count = 0
    log_every: Count = 50

    @property
    def name(self) -> str:
        """Name of the file of weights, without its ending."""
        return "-".join(self.stems) if self.stems else self.preset

    def check(self) -> None:
        """Check the settings before anything long is computed.

        Raises:
            InputError: a number is out of range, or not exactly one of minutes and steps is set.
        """
        if (self.minutes is None) == (self.steps is None):
            raise InputError("say how long to train: either --minutes or --steps")
        if min(self.batch, self.accumulate, self.log_every) < 1:
            raise InputError("batch, accumulate and log-every must be 1 or more")
        length = self.steps if self.minutes is None else self.minutes
        if length is None or not 0 < length < math.inf or (self.lr is not None and not 0 < self.lr < math.inf):
            raise InputError("minutes, steps and lr must be above 0")
        if self.seed < 0:
            raise InputError(f"the seed must be 0 or more, not {self.seed}")
        if self.shapes is not None and (len(self.shapes) != 4 or min(self.shapes) < 0
                                        or abs(sum(self.shapes) - 1) > 1e-6):
            raise InputError(f"shapes are four shares that sum to 1, not {self.shapes}")
        shares = (self.silence, self.remix, self.cooldown, self.ema, self.sketched or 0, self.beat_share or 0)
        if not all(0 <= share <= 1 for share in shares):
            raise InputError("silence, remix, cooldown, ema, sketched and beat-share are shares from 0 to 1")
        if not all(0 <= x < math.inf for x in (self.gain_db, self.detune, self.clip, self.weight_decay, self.warmup)):
            raise InputError("gain-db, detune, clip, weight-decay and warmup are 0 or more")
        if any(not math.isfinite(mean) or not 0 <= std < math.inf
               for mean, std in (self.sigma_known, self.sigma_free or self.sigma_known)):
            raise InputError("sigma-free and sigma-known are a mean, and a standard deviation of 0 or more")

    def for_model(self, model: StemModel) -> "Recipe":
        """A copy in which the model's defaults replace None, see `StemModel.training_defaults`.

        Raises:
            InputError: `shapes` is set for a model whose conditioning in training is fixed.
        """
        own = model.training_defaults
        if self.shapes and not (len(model.stems) > 1 and own.shares[3]):
            raise InputError(f"shapes are not for {self.preset}: the conditioning of its crops is fixed")
        shares = own.shares if len(model.stems) > 1 else (1.0, 0.0, 0.0, 0.0)
        optimizer: Any = self.optimizer or own.optimizer
        return replace(self, optimizer=optimizer, lr=self.lr or own.rates[optimizer],
                       sigma_free=self.sigma_free or own.levels,
                       beat_share=own.beat_share if self.beat_share is None else self.beat_share,
                       sketched=own.sketched if self.sketched is None else self.sketched,
                       shapes=self.shapes or shares)

    def warn_of_single_stem(self, model: StemModel, processes: int = 1) -> None:
        """Say where the training of a model of one stem departs from that of the official single-source models.

        Those (arXiv 2302.02257) were trained with a learning rate of 1e-5 and batches of 16.

        Args:
            processes: number of processes that train together.
        """
        if len(model.stems) != 1 or model.stems == (MIX,):
            return
        rate = self.lr or self.for_model(model).lr
        ours = {"learning rate": rate, "crops in a step": self.batch * self.accumulate * processes}
        apart = [f"{name} {value:g}, theirs {OFFICIAL_SINGLE[name]:g}" for name, value in ours.items()
                 if value != OFFICIAL_SINGLE[name]]
        if apart:
            LOG.warning("a model of %s alone, not trained as the official single-source models: %s", model.stems[0],
                        "; ".join(apart))

    def rate(self, step: int, done: float) -> float:
        """The learning rate of a step, when the share `done` of the run is done: warm-up, plateau, linear cool-down.

        The plateau does not depend on the length of the run: a copy of a checkpoint can be cooled down early, while the
        run itself continues. The cool-down ends at a hundredth of the peak.
        """
        assert self.lr is not None, "for_model() settles it"
        rising = min(1, (step + 1) / self.warmup) if self.warmup else 1
        return self.lr * rising * max(0.01, min(1, (1 - done) / max(self.cooldown, 1e-9)))

    def command(self, running: "Running | None" = None, processes: int = 1) -> str:
        """The command line that repeats a run of this recipe, with every setting that is not the default.

        Args:
            running: how it was carried out; only what changes the result is part of the command.
            processes: number of processes that trained together.
        """
        words = ["msdm-lite", "train"]
        if processes > 1:
            words = ["torchrun", "--nproc_per_node", str(processes), "-m", "msdm_lite", "train"]
        last = ("minutes", "steps")
        names = [field.name for field in fields(self)]
        settings = {name: getattr(self, name) for name in (*[n for n in names if n not in last], *last)}
        words += [word for name, value in settings.items() if name in ("preset", "data") or value != DEFAULTS[name]
                  for word in _option(name, value)]
        if running is not None:
            words += [word for name in ("compile", "resident") if getattr(running, name)
                      for word in _option(name, True)]
        return shlex.join(words)

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> "Recipe":
        """The recipe in a model's record, or in a checkpoint; settings of later versions have their defaults."""
        known = {key: value for key, value in values.items() if key in DEFAULTS}
        settings: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value
                                    for key, value in known.items()}
        return cls(**settings)


DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(Recipe)}


def _option(name: str, value: Any) -> list[str]:
    """The words of an option of the command line."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", *map(command_word, value if isinstance(value, list | tuple) else [value])]


@dataclass(frozen=True)
class Running:
    """How a run is carried out: where, in which pieces, and what it writes meanwhile. Not what it learns.

    Args:
        resume: resume from the checkpoint in --out.
        checkpoint_minutes: time between two checkpoints, each followed by a validation.
        validation_crops: crops of validation songs that each validation measures.
        compile: compile the denoiser with torch.compile.
        workers: processes that read crops, for each process that trains.
        resident: keep all songs in the memory of the GPU (8 GB for the corpus), and cut crops there.
        device: where to compute.
        progress: show a progress bar.
    """

    resume: bool = False
    checkpoint_minutes: Annotated[float, arg(metavar="MINUTES")] = 5.0
    validation_crops: Count = 24
    compile: bool = False
    workers: Count = 1
    resident: bool = False
    device: Annotated[str, arg(metavar="{auto,cpu,cuda}")] = "auto"
    progress: Annotated[bool, arg(help_behavior_hint="(default: on a terminal)")] = True

    def check(self) -> None:
        """Check the settings before anything long is computed.

        Raises:
            InputError: a number is out of range.
        """
        if min(self.workers, self.validation_crops) < 1 or not self.checkpoint_minutes >= 0:
            raise InputError("workers and validation_crops must be 1 or more, and checkpoint-minutes 0 or more")
