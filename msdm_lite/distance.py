"""How far bands that a model made are from real ones: FAD and sub-FAD, copying and collapse, by genre.

`python -m msdm_lite.distance --task generate --out FILE` compares bands from noise with songs of the test split, beside
what songs of the training split are from them: no model can be expected to come nearer. `--task paint` keeps only the
sketches of those training songs, and has them painted: as near as any sketcher could come. `--task accompany` does it
for all fourteen choices of players to add; the embedding hears the given and the new players together, as in the paper
(arXiv 2302.02257, sub-FAD, after Donahue et al., arXiv 2301.12662). All need the rendered corpus
(`msdm-lite data build`). Chapter: `book/10-measuring.ipynb`.
"""

import time
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from msdm_lite import (
    coherence,
    fad,
    folders,
    generation,
    judge,
    methods,
    metrics,
    musicnn,
    recorded,
    sampling,
    vggish,
    weights,
)
from msdm_lite.audio import SAMPLE_RATE, STEMS
from msdm_lite.crops import Crops
from msdm_lite.errors import InputError
from msdm_lite.face import StemModel
from msdm_lite.recipe import songs_of
from msdm_lite.seeds import seed_of
from msdm_lite.sketch import sketch
from msdm_lite.song import from_picture, to_pictures
from msdm_lite.terminal import script
from msdm_lite.windows import Windowed


def real(data: str, split: str, n: int, seconds: float, seed: int = 0) -> tuple[Tensor, list[str], list[str]]:
    """n random crops (n, 4, T) of songs of a split in which two stems or more are heard; their songs, and styles.

    Raises:
        InputError: there are too few of them.
    """
    tracks = songs_of(data, split)
    styles = {track.name: getattr(track, "style", "") for track in tracks}
    crops = Crops(tracks, round(seconds * SAMPLE_RATE), 20 * n, seed)
    found: list[Tensor] = []
    names: list[str] = []
    for index in range(len(crops)):
        item = crops[index]
        if coherence.audible(item["stems"]).sum() > 1:
            found.append(item["stems"])
            names.append(item["name"])
        if len(found) == n:
            return torch.stack(found), names, [styles[name] for name in names]
    raise InputError(f"{data} has too little music of two players or more for {n} crops of {seconds:g} s")


# Of each number, by its name: what the same command may make otherwise on another machine
NEAR: recorded.Tolerance = {"": 0.1, "errors": 0.05, "error": 0.05} | dict.fromkeys(
    ("copies", "diversity", "audible", "heard", "played", "onsets", "chroma", "judged"), recorded.SLIGHT)
EMBEDDINGS = {"musicnn": musicnn.embed, "vggish": vggish.embed}


def cloud(bands: Tensor, embedding: str = "musicnn") -> Tensor:
    """Embeddings of the mixtures of bands (n, S, T): (n, W, d), W windows of three seconds, or of one (VGGish)."""
    return torch.cat([EMBEDDINGS[embedding](some.sum(1)) for some in bands.split(16)])


def apart(made: Tensor, other: Tensor, seed: int = 0) -> dict:
    """Distance of clouds (n, W, d), (m, W, d): as it is, its standard error, and the limit of ever more sounds."""
    flat, against = made.flatten(0, 1), other.flatten(0, 1)
    sizes = [len(flat) // k for k in (4, 3, 2, 1)]
    end, means = fad.limit(flat, against, sizes, seed=seed)
    return {"fad": means[-1], "error": fad.uncertain(made, other, seed=seed), "limit": end,
            "sizes": dict(zip(map(str, sizes), means, strict=True))}


def generated(model: StemModel, n: int, seconds: float, data: str, seed: int = 0,
              sketcher: StemModel | None = None, steps: int | None = None, progress: bool = True,
              embedding: str = "musicnn") -> dict:
    """Bands from noise beside bands of the training and of the test songs, n each.

    `copies` is how near a sound is to the nearest training sound, over how near a test sound is: well under 1, and the
    model repeats what it learned. `diversity` is the mean distance between two sounds, over that of test sounds: well
    under 1, and it makes the same over and over.
    """
    made = torch.cat([generation.generate(model, seconds, 1, seed + i, steps=steps, sketcher=sketcher)
                      for i in tqdm(range(n), desc="generating", unit="band", disable=not progress)])
    learned, test = (cloud(real(data, split, n, seconds, seed)[0], embedding) for split in ("train", "test"))
    return placed(made, learned, test, seed, embedding)


@torch.no_grad()
def painted(model: StemModel, bands: Tensor, seed: int = 0, steps: int | None = None, progress: bool = True) -> Tensor:
    """Bands (n, S, T) of which no more than the sketch is kept, painted by a model: what a perfect sketcher would give.

    Raises:
        InputError: the model was not trained to paint sketches.
    """
    model.must_paint()
    chosen, denoise = methods.named("ode", methods.GENERATIONS, steps=steps), Windowed(model)
    made = torch.empty_like(bands)
    for i, band in enumerate(tqdm(bands, desc="painting", unit="band", disable=not progress)):
        clean = to_pictures(dict(enumerate(band)), model, band.shape[-1])
        states = methods.conditional(partial(denoise, sketch=sketch(clean, model.config.sketch)), clean.shape, chosen,
                                     generator=torch.Generator().manual_seed(seed_of(seed, i)), device=model.device)
        made[i] = from_picture(sampling.end(states)[0], model, band.shape[-1])
    return made


def out_of_phase(model: StemModel, bands: Tensor, seed: int = 0) -> Tensor:
    """Bands (n, S, T) whose pictures keep every size and get other signs: as loud everywhere, and phases of chance."""
    made = torch.empty_like(bands)
    for i, band in enumerate(bands):
        clean = to_pictures(dict(enumerate(band)), model, band.shape[-1]).cpu()
        signs = torch.randint(2, clean.shape, generator=torch.Generator().manual_seed(seed_of(seed, i))) * 2 - 1
        made[i] = from_picture((clean * signs)[0], model, band.shape[-1])
    return made


def placed(made: Tensor, learned: Tensor, test: Tensor, seed: int = 0, embedding: str = "musicnn") -> dict:
    """Where made bands (n, S, T) lie, beside the clouds (n, W, d) of training and of test songs: see `generated`."""
    own = cloud(made, embedding)
    train, held = learned.flatten(0, 1), test.flatten(0, 1)
    flat = own.flatten(0, 1)
    two = torch.stack([fad.nearest(cloud, train).median() for cloud in (flat, held)])
    found: dict[str, Any] = {"made": apart(own, test, seed), "train": apart(learned, test, seed),
             "halves": fad.frechet(test[::2].flatten(0, 1), test[1::2].flatten(0, 1)),
             "copies": (two[0] / two[1]).item(), "diversity": fad.diversity(flat) / fad.diversity(held),
             "audible": coherence.audible(made).all(1).float().mean().item()}
    return found | {"ratio": found["made"]["fad"] / found["train"]["fad"]}


def subsets(stems: Sequence[str] = STEMS) -> list[tuple[str, ...]]:
    """All choices of players to add, some but not all: fourteen of four stems."""
    return [some for size in range(1, len(stems)) for some in combinations(stems, size)]


def of_songs(values: np.ndarray, songs: np.ndarray) -> dict:
    """Mean and interval over songs of values of crops (n,), of which some are of one song and not independent."""
    parts = [values[songs == song] for song in sorted(set(songs))]
    means = [part[~np.isnan(part)].mean() for part in parts if not np.isnan(part).all()]
    return metrics.interval(np.array(means))


def imputed(model: StemModel, bands: Tensor, songs: Sequence[str], styles: Sequence[str],
            wanted: Sequence[tuple[str, ...]], seed: int = 0, sketcher: StemModel | None = None,
            steps: int | None = None, progress: bool = True, embedding: str = "musicnn") -> dict:
    """For each choice of players to add to bands (n, 4, T): sub-FAD, density, and whether the new players follow.

    Each stands beside the same of real players from another song: where they are no worse, the model is not listening.
    And by style, over all choices; the distance of a style has the more bias, the fewer its bands: hold it to that of
    the strangers beside it, and to no other style's.
    """
    truth = cloud(bands, embedding)
    found: dict[str, dict] = {}
    agreements: dict[str, list] = {}
    clouds: dict[str, list[Tensor]] = {"fad": [], "strangers": []}  # of each choice, (n, W, d)
    levels, sounds, sounded = [], [], []  # of each choice, (n, new players)
    song_of = np.array(songs)
    order = torch.arange(len(bands)).roll(1)
    for some in tqdm(wanted, desc="accompanying", unit="subset", disable=not progress):
        new = [STEMS.index(name) for name in some]
        made, dealt, strange = bands.clone(), bands.clone(), bands.clone()
        for i, band in enumerate(bands):
            given = {name: band[n] for n, name in enumerate(STEMS) if name not in some}
            made[i] = generation.accompany(given, model, seed + i, steps=steps, sketcher=sketcher)
        dealt[:, new] = made[order][:, new]
        strange[:, new] = bands[order][:, new]
        own, other = (judge.agreements(one, STEMS) for one in (made, dealt))
        difference = {name: own[name] - other[name] for name in own}
        for name, values in difference.items():
            agreements.setdefault(name, []).append(values)
        level = 10 * (made[:, new].square().mean(-1).clamp(min=1e-10)
                      / bands[:, new].square().mean(-1).clamp(min=1e-10)).log10()
        heard, playing = coherence.audible(made)[:, new], coherence.audible(bands)[:, new]
        for kind, one in (("fad", made), ("strangers", strange)):
            clouds[kind].append(cloud(one, embedding))
        levels.append(torch.where(playing, level, torch.nan))
        sounds.append(heard)
        sounded.append(playing)
        found[", ".join(some)] = {
            **{kind: fad.frechet(far[-1].flatten(0, 1), truth.flatten(0, 1)) for kind, far in clouds.items()},
            "heard": heard.float().mean().item(), "played": playing.float().mean().item(),
            "level_db": level[playing].mean().item(),
            **{name: of_songs(values, song_of) for name, values in difference.items()}}
    # Of a band, over all choices: one value for an interval over bands
    each = {name: np.nanmean(np.stack(values), 0) for name, values in agreements.items()}
    everywhere = {kind: torch.stack(far, 1) for kind, far in clouds.items()}  # (n, choices, W, d)
    level, heard, playing = (torch.cat(values, 1) for values in (levels, sounds, sounded))
    by_style: dict[str, dict] = {}
    for style in sorted(set(styles)):
        here = torch.tensor([one == style for one in styles])
        near = truth[here].flatten(0, 1)
        by_style[style] = {
            "n": int(here.sum()), "heard": heard[here].float().mean().item(),
            "played": playing[here].float().mean().item(), "level_db": level[here].nanmean().item(),
            **{kind: fad.frechet(far[here].flatten(0, 2), near) if len(near) > 1 else None
               for kind, far in everywhere.items()},
            **{name: of_songs(values[here.numpy()], song_of[here.numpy()]) for name, values in each.items()}}
    return {"subsets": found, "by_style": by_style}


def main(out: Path, task: Literal["generate", "paint", "accompany"] = "generate", model: str = "lite",
         sketch: str | None = None, n: int = 300, seconds: float = 6.0, data: str = "band", steps: int | None = None,
         embedding: Literal["musicnn", "vggish"] = "musicnn", seed: int = 0) -> None:
    """Measure it and write one JSON file.

    Args:
        out: where.
        task: generate; paint, the sketches of training songs; or accompany: all fourteen choices of players to add.
        model: a shipped name or a path.
        sketch: a model that makes sketches first, which the other then paints.
        n: how many bands, eight or more.
        seconds: of each, three or more.
        data: band, composed or all: whose test songs they are held to, and given players come from.
        steps: noise levels; the method's own number if not given.
        embedding: musicnn, or vggish, which published distances use; it needs `torchvggish` and, once, the network.
        seed: of everything random.
    """
    folders.writable_file(out)  # before the long work
    if n < 8 or seconds < 3:
        raise InputError(f"{n} bands of {seconds:g} s: eight of three seconds are the least")
    loaded, begun = weights.load(model), time.perf_counter()
    sketcher = generation.pair(sketch, loaded)
    if task == "generate":
        found = generated(loaded, n, seconds, data, seed, sketcher, steps, embedding=embedding)
    elif task == "paint":
        if sketch:
            raise InputError("the sketches that are painted are those of songs: no model is needed to make them")
        bands = real(data, "train", n, seconds, seed)[0]
        test = cloud(real(data, "test", n, seconds, seed)[0], embedding)
        found = placed(painted(loaded, bands, seed, steps), cloud(bands, embedding), test, seed, embedding)
        found["out_of_phase"] = apart(cloud(out_of_phase(loaded, bands, seed), embedding), test, seed)
    else:
        found = imputed(loaded, *real(data, "test", n, seconds, seed), subsets(), seed, sketcher, steps,
                        embedding=embedding)
    command = recorded.command("python", "-m", "msdm_lite.distance", task=task, model=model, n=n, seconds=seconds,
                               data=data, seed=seed, sketch=sketch, steps=steps,
                               embedding=embedding if embedding != "musicnn" else None, out=out)
    recorded.save({"what": f"Frechet distance of {embedding} embeddings of mixtures to songs of the test split; of "
                           "accompaniments, given and new players together",
                   "task": task, "model": model, "settings": {"sketch": sketch, "steps": steps, "seconds": seconds},
                   "data": data, "n": n, "interval": "95 % percentile bootstrap over songs", **found, "seed": seed,
                   **recorded.circumstances(loaded, begun, sketcher, NEAR), "command": command}, out)


if __name__ == "__main__":
    script(main)
