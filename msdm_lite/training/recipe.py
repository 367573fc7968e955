"""The recipe of a training run: all settings that determine its result.

Chapter: `book/05-training.ipynb`.
"""

import logging
import math
import shlex
from dataclasses import dataclass, replace

from msdm_lite.errors import InputError
from msdm_lite.models.base import StemModel
from msdm_lite.models.joint import WaveModel
from msdm_lite.utils.provenance import command_word

LOG = logging.getLogger("msdm_lite")


@dataclass(frozen=True)
class Recipe:
    """Settings of a training run, stored in its checkpoint and in the model's record. None: the preset's default."""

    preset: str = "lite"
    data: str = "all"  # "band", "composed", "all", or a folder of stems
    minutes: float | None = None
    steps: int | None = None
    start: str | None = None  # a model to fine-tune; its minutes or steps count as part of the run
    stems: tuple[str, ...] | None = None  # train on these stems only; None: all
    batch: int = 8  # crops per process in a batch
    accumulate: int = 1  # batches whose gradients are accumulated in a step
    optimizer: str | None = None  # "muon" or "adamw"
    lr: float | None = None
    warmup: int = 200  # steps
    cooldown: float = 0.3  # last fraction of the run, in which the learning rate falls
    ema: float = 0.999
    clip: float = 1.0  # maximum of the gradient norm
    weight_decay: float = 0.01
    shapes: tuple[float, ...] | None = None  # shares of the crops given nothing, the mixture, stems, both
    sketched: float | None = None  # share of the crops conditioned on their sketch, if not on the mixture
    beat_share: float | None = None  # share of the crops with beat conditioning, for a model that takes it
    sigma_free: tuple[float, float] | None = None  # mean, standard deviation of ln sigma, mixture not given
    sigma_known: tuple[float, float] = (0.2, 1.5)  # the same, given the mixture
    gain_db: float = 2.0
    silence: float = 0.04
    remix: float = 0.0
    detune: float = 50.0  # cents
    variations: int = 0  # of every training song, beside the song as written
    programs: bool = True  # the variations have other instruments of the family,
    transpose: bool = True  # are in other keys,
    soundfonts: bool = True  # and come from either of two soundfonts
    balance: str = "rms"  # or "loudness": the measure in which the stems of the corpus are made equal
    seed: int = 0
    log_every: int = 50  # steps

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
        if min(self.gain_db, self.detune) < 0 or not all(
                0 <= p <= 1 for p in (self.silence, self.remix, self.cooldown)):
            raise InputError("gain-db and detune are 0 or more; silence, remix and cooldown are shares from 0 to 1")

    def for_model(self, model: StemModel) -> "Recipe":
        """A copy in which the model's defaults replace None. For waveforms the learning rate is the paper's.

        The paper (arXiv 2302.02257) trains with Adam, without weight decay, warm-up, cool-down, weight averaging or
        clipping; its only augmentation is shifts.

        Raises:
            InputError: `shapes` is set for a model whose conditioning in training is fixed.
        """
        if self.shapes and not (len(model.stems) > 1 and model.shares[3]):
            raise InputError(f"shapes are not for {self.preset}: the conditioning of its crops is fixed")
        conditions = not isinstance(model, WaveModel)
        shares = model.shares if len(model.stems) > 1 else StemModel.shares
        optimizer = self.optimizer or ("muon" if conditions else "adamw")
        rate = 1e-4 if not conditions else 3e-3 if optimizer == "muon" else 1e-3
        return replace(self, optimizer=optimizer, lr=self.lr or rate,
                       sigma_free=self.sigma_free or model.levels,
                       beat_share=model.beat_share if self.beat_share is None else self.beat_share,
                       sketched=model.sketched if self.sketched is None else self.sketched,
                       shapes=self.shapes or shares)

    def rate(self, step: int, done: float) -> float:
        """The learning rate of a step, when the share `done` of the run is done: warm-up, plateau, linear cool-down.

        The plateau does not depend on the length of the run: a copy of a checkpoint can be cooled down early, while the
        run itself continues. The cool-down ends at a hundredth of the peak.
        """
        assert self.lr is not None, "for_model() settles it"
        return self.lr * min(1, (step + 1) / self.warmup) * max(0.01, min(1, (1 - done) / max(self.cooldown, 1e-9)))

    def command(self) -> str:
        """The command line of this recipe, without the settings that only Python can change."""
        words = ["msdm-lite", "train", "--preset", self.preset, "--data", self.data]
        words += ["--stems", *self.stems] if self.stems else []
        for name in ("start", "optimizer", "batch", "accumulate", "lr", "cooldown", "gain_db", "silence", "remix",
                     "detune", "variations", "programs", "transpose", "soundfonts", "balance", "seed", "minutes",
                     "steps"):
            value, flag = getattr(self, name), name.replace("_", "-")
            if value is False:
                words.append(f"--no-{flag}")
            elif value != getattr(Recipe, name):
                words += [f"--{flag}", command_word(value)]
        return shlex.join(words)
