"""What a training run does: everything that decides it, and the songs that it names.

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
    """What a training run does; stored with its checkpoint and in the model's record. None: what suits the preset."""

    preset: str = "lite"
    data: str = "all"  # "band", "composed", "all", or a folder of stems
    minutes: float | None = None
    steps: int | None = None
    start: str | None = None  # a model whose weights are learned further; its minutes and steps count
    stems: tuple[str, ...] | None = None  # a model of these alone; None: of all
    batch: int = 8  # crops a process takes at once
    accumulate: int = 1  # such batches in a step
    optimizer: str | None = None  # "muon" or "adamw"
    lr: float | None = None
    warmup: int = 200  # steps
    cooldown: float = 0.3  # the last share of the run, in which the learning rate falls
    ema: float = 0.999
    clip: float = 1.0
    weight_decay: float = 0.01
    shapes: tuple[float, ...] | None = None  # shares of the crops with nothing, the mixture, stems, both known
    sketched: float | None = None  # share of the crops, mixture unknown, that come with their sketch
    beat_share: float | None = None  # share of the crops that come with their click, for a model that can hear one
    sigma_free: tuple[float, float] | None = None  # mean and deviation of ln sigma, mixture unknown
    sigma_known: tuple[float, float] = (0.2, 1.5)  # the same, mixture known
    gain_db: float = 2.0
    silence: float = 0.04
    remix: float = 0.0
    detune: float = 50.0  # cents
    variations: int = 0  # of every training song, beside the song as written
    programs: bool = True  # the variations have other instruments of the family,
    transpose: bool = True  # are in other keys,
    soundfonts: bool = True  # and come from either of two soundfonts
    balance: str = "rms"  # or "loudness": what the levels of the corpus' stems are made equal in
    seed: int = 0
    log_every: int = 50  # steps

    def check(self) -> None:
        """Can there be such a run?

        Raises:
            InputError: numbers that make no sense, or a length in both minutes and steps, or in neither.
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
        """With nothing left open. Noise levels and rate for waveforms are the paper's (arXiv 2302.02257).

        The paper trains with plain Adam: no weight decay, warm-up, cool-down, average or clipping, and shifts alone.

        Raises:
            InputError: shapes of noise for a model whose crops have theirs.
        """
        if self.shapes and not (len(model.stems) > 1 and model.shares[3]):
            raise InputError(f"shapes are not for {self.preset}: what its crops know is fixed")
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
        """The learning rate of a step, when a share of the run is done: warm-up, a plateau, and a straight way down.

        The plateau knows no end: a copy of its checkpoint can be cooled down early, and the run itself goes on.
        """
        assert self.lr is not None, "for_model() settles it"
        return self.lr * min(1, (step + 1) / self.warmup) * max(0.01, min(1, (1 - done) / max(self.cooldown, 1e-9)))

    def command(self) -> str:
        """The command line that does the same, but for what only Python can change."""
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
