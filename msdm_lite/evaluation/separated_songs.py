"""Test songs one by one: read, separated as wholes or in independent segments, and scored; what was scored is kept.

A song that cannot be scored does not stop the others. Source of the independent segments: the code of Mariani et al.,
arXiv 2302.02257. Chapter: `book/13-scaling-up.ipynb`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from msdm_lite.data.tracks import Track
from msdm_lite.errors import InputError
from msdm_lite.evaluation import song_scores
from msdm_lite.evaluation.records import PartialResults
from msdm_lite.inference.separation import separate, separate_batch
from msdm_lite.models.base import StemModel

Scores = dict[str, Tensor]  # of a song, see `song_scores.of_song`


class LeftOut(Exception):
    """A song cannot be scored; the message says why."""


def excerpt_samples(track: Track, seconds: float | None, sample_rate: int) -> int:
    """The number of samples of an excerpt of so many seconds, or of the whole song if None."""
    return track.samples if seconds is None else min(track.samples, round(seconds * sample_rate))


def excerpt(track: Track, seconds: float | None, sample_rate: int, stems: Sequence[str] | None = None) -> Tensor:
    """Stems (S, T) of so many seconds from the middle of a song, of the whole song if None; of all stems or of some."""
    count = excerpt_samples(track, seconds, sample_rate)
    every = torch.from_numpy(track.read((track.samples - count) // 2, count))
    return every if stems is None or tuple(stems) == track.stems else every[[track.stems.index(s) for s in stems]]


def separate_song(mixture: Tensor, model: StemModel, chunks: bool, batch: int = 1, **settings: Any) -> Tensor:
    """Stems (S, T') of a mixture (T,), separated as a whole or, with `chunks`, in independent segments as in the paper.

    With `chunks` the remainder at the end, shorter than a segment, is dropped.

    Args:
        batch: number of segments that go through the model together.

    Raises:
        InputError: as `separate`; or, with `chunks`, the mixture is shorter than a segment.
    """
    if not chunks:
        return separate(mixture, model, **settings)
    size = segment_samples(model)
    if len(mixture) < size:
        raise InputError(f"{len(mixture) / model.sample_rate:.1f} s are shorter than a segment of the model, "
                         f"{model.segment:.1f} s")
    pieces = mixture[: len(mixture) // size * size].split(size)
    if batch == 1:
        return torch.cat([separate(piece, model, **settings) for piece in pieces], 1)
    together = [separate_batch(torch.stack(pieces[i : i + batch]), model, **settings)
                for i in range(0, len(pieces), batch)]
    return torch.cat([stems for part in together for stems in part], 1)


def segment_samples(model: StemModel) -> int:
    """The length of a segment of a model, in samples."""
    return model.config.frames * model.transform.hop


def equal_length_batches(tracks: Sequence[Track], seconds: float | None, sample_rate: int, most: int
                         ) -> Iterator[list[Track]]:
    """Batches of consecutive songs whose excerpts have equal length, at most `most` in each."""
    some: list[Track] = []
    for track in tracks:
        if some and (len(some) == most or excerpt_samples(track, seconds, sample_rate) != excerpt_samples(
                some[0], seconds, sample_rate)):
            yield some
            some = []
        some.append(track)
    if some:
        yield some


@dataclass(frozen=True)
class Scoring:
    """How songs are separated and scored.

    Args:
        model: the model; None if `baseline` makes stems (S, T) of the true ones.
        stems: names of the stems.
        sample_rate: in Hz.
        seconds, chunks: see `separation_quality.Songs`.
        songs: number of songs that go through the model together.
        segments: number of segments of a song that do, with `chunks`.
        settings: of `separate`.
    """

    model: StemModel | None
    baseline: Callable[[Tensor], Tensor] | None
    stems: tuple[str, ...]
    sample_rate: int
    seconds: float | None
    chunks: bool = False
    songs: int = 1
    segments: int = 1
    settings: dict[str, Any] = field(default_factory=dict)

    def of(self, tracks: Sequence[Track]) -> dict[str, Scores | LeftOut]:
        """The scores of songs of one length by name, or why a song has none."""
        found: dict[str, Scores | LeftOut] = {}
        true: dict[str, Tensor] = {}
        for track in tracks:
            try:
                true[track.name] = excerpt(track, self.seconds, self.sample_rate, self.stems)
            except (InputError, OSError) as problem:
                found[track.name] = LeftOut(str(problem))
        together: dict[str, Tensor] = {}
        if self.songs > 1 and true:
            assert self.model is not None
            mixtures = torch.stack([stems.sum(0) for stems in true.values()])
            together = dict(zip(true, separate_batch(mixtures, self.model, **self.settings), strict=True))
        for name, stems in true.items():
            try:
                one = together[name] if together else self._alone(stems)
            except (InputError, FloatingPointError) as problem:
                found[name] = LeftOut(str(problem))
                continue
            made = song_scores.of_song(one, stems[:, : one.shape[1]], self.sample_rate)
            heard = len(made["published"]) or len(made["every"])
            found[name] = made if heard else LeftOut("it has no window in which two stems play")
        return found

    def _alone(self, stems: Tensor) -> Tensor:
        if self.baseline:
            return self.baseline(stems)
        assert self.model is not None
        return separate_song(stems.sum(0), self.model, self.chunks, self.segments, **self.settings)


def part_name(track: Track) -> str:
    """The name under which the scores of a song are kept: a song of another length is another one."""
    return f"{track.name}, {track.samples} samples"


def each(tracks: Sequence[Track], scoring: Scoring, parts: PartialResults | None = None
         ) -> Iterator[tuple[Track, Scores | LeftOut]]:
    """Each song with its scores, or with why it has none; scores that are among the parts are not computed again."""
    for some in equal_length_batches(tracks, scoring.seconds, scoring.sample_rate, scoring.songs):
        new = [track for track in some if parts is None or not parts.has(part_name(track))]
        found: dict[str, Scores | LeftOut] = {}
        for track in some:
            def make(name: str = track.name, new: Sequence[Track] = tuple(new),
                     found: dict[str, Scores | LeftOut] = found) -> Scores:
                found.update({} if found else scoring.of(new))  # the first of a batch computes all of it
                one = found[name]
                if isinstance(one, LeftOut):
                    raise one
                return one

            try:
                yield track, parts.keep(part_name(track), make) if parts else make()
            except LeftOut as problem:
                yield track, problem
