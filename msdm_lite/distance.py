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
from pathlib import Path
from typing import Any, Literal

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
    recorded,
    sampling,
    sub_fad,
    weights,
)
from msdm_lite.clouds import cloud, real
from msdm_lite.errors import InputError
from msdm_lite.face import StemModel
from msdm_lite.parts import Found, Keep, Parts, anew
from msdm_lite.seeds import seed_of
from msdm_lite.sketch import sketch
from msdm_lite.song import from_picture, to_pictures
from msdm_lite.terminal import script
from msdm_lite.windows import Windowed

# Of each number, by its name: what the same command may make otherwise on another machine
NEAR: recorded.Tolerance = {"": 0.1, "errors": 0.05, "error": 0.05, **dict.fromkeys(
    ("copies", "diversity", "audible", "heard", "played", "onsets", "chroma", "judged"), recorded.SLIGHT)}


def apart(made: Tensor, other: Tensor, seed: int = 0, songs: Sequence[str] | None = None) -> dict:
    """Distance of clouds (n, W, d), (m, W, d): as it is, its standard error, and the limit of ever more sounds.

    `songs` says of which song each sound of the first is, where some are of one.
    """
    flat, against = made.flatten(0, 1), other.flatten(0, 1)
    sizes = [len(flat) // k for k in (4, 3, 2, 1)]
    end, means = fad.limit(flat, against, sizes, seed=seed)
    return {"fad": means[-1], "error": fad.uncertain(made, other, seed=seed, songs=songs), "limit": end,
            "sizes": dict(zip(map(str, sizes), means, strict=True))}


def generated(model: StemModel, n: int, seconds: float, data: str, seed: int = 0,
              sketcher: StemModel | None = None, steps: int | None = None, progress: bool = True,
              embedding: str = "musicnn", keep: Keep = anew) -> dict:
    """Bands from noise beside bands of the training and of the test songs, n each: see `placed`.

    And, as `judged`, what `msdm_lite.judge` says of them, beside one crop of each test song.
    """
    def band(i: int) -> Found:
        return {"band": generation.generate(model, seconds, 1, seed + i, steps=steps, sketcher=sketcher)}

    made = torch.cat([keep(f"band-{i:04d}", partial(band, i))["band"]
                      for i in tqdm(range(n), desc="generating", unit="band", disable=not progress)])
    learned, test = (real(data, split, n, seconds, seed) for split in ("train", "test"))
    one_each = sorted({song: i for i, song in reversed(list(enumerate(test[1])))}.values())
    train, held = (cloud(bands, embedding) for bands, *_ in (learned, test))
    return placed(made, train, held, seed, embedding, learned[1]) | {
        "judged": judge.judge(made, test[0][one_each], model.stems, seed) | {"real": len(one_each)}}


@torch.no_grad()
def painted(model: StemModel, bands: Tensor, seed: int = 0, steps: int | None = None, progress: bool = True,
            keep: Keep = anew) -> Tensor:
    """Bands (n, S, T) of which no more than the sketch is kept, painted by a model: what a perfect sketcher would give.

    Raises:
        InputError: the model was not trained to paint sketches.
    """
    model.must_paint()
    chosen, denoise = methods.named("ode", methods.GENERATIONS, steps=steps), Windowed(model)

    def paint(i: int) -> Found:
        length = bands.shape[-1]
        clean = to_pictures(dict(enumerate(bands[i])), model, length)
        states = methods.conditional(partial(denoise, sketch=sketch(clean, model.config.sketch)), clean.shape, chosen,
                                     generator=torch.Generator().manual_seed(seed_of(seed, i)), device=model.device)
        return {"band": from_picture(sampling.end(states)[0], model, length).cpu()}

    return torch.stack([keep(f"band-{i:04d}", partial(paint, i))["band"]
                        for i in tqdm(range(len(bands)), desc="painting", unit="band", disable=not progress)])


def out_of_phase(model: StemModel, bands: Tensor, seed: int = 0) -> Tensor:
    """Bands (n, S, T) whose pictures keep every size and get other signs: as loud everywhere, and phases of chance."""
    made = torch.empty_like(bands)
    for i, band in enumerate(bands):
        clean = to_pictures(dict(enumerate(band)), model, band.shape[-1]).cpu()
        signs = torch.randint(2, clean.shape, generator=torch.Generator().manual_seed(seed_of(seed, i))) * 2 - 1
        made[i] = from_picture((clean * signs)[0], model, band.shape[-1])
    return made


def placed(made: Tensor, learned: Tensor, test: Tensor, seed: int = 0, embedding: str = "musicnn",
           learned_songs: Sequence[str] | None = None, songs: Sequence[str] | None = None) -> dict:
    """Where made bands (n, S, T) lie, beside the clouds (n, W, d) of training and of test songs.

    What is returned:

    - `made`, `train`: how far both are from test songs (`apart`); `ratio`: the first over the second;
    - `halves`: how far two halves of the test songs are apart;
    - `copies`: how near a sound is to the nearest training sound, over how near a test sound is: well under 1, and the
      model repeats what it learned;
    - `diversity`: mean distance between two sounds, over that of test sounds: well under 1, and it makes the same over
      and over;
    - `audible`: the share of bands in which all stems are heard;
    - `intervals` of the last three (95 %).

    Args:
        learned_songs: of which song each training sound is, where some are of one.
        songs: the same of the made bands, where each was made of a song.
    """
    own, train, held = cloud(made, embedding), learned.flatten(0, 1), test.flatten(0, 1)
    near = fad.nearest(own.flatten(0, 1), train).unflatten(0, own.shape[:2])
    usual, various = fad.nearest(held, train).median().item(), fad.diversity(held)
    heard = coherence.audible(made).all(1).double()

    def measured(some: Tensor) -> list[float]:
        return [near[some].median().item() / usual, fad.diversity(own[some].flatten(0, 1)) / various,
                heard[some].mean().item()]

    values = measured(torch.ones(len(made), dtype=torch.bool))
    errors = fad.spread(measured, range(len(made)) if songs is None else songs, seed=seed)
    names = ("copies", "diversity", "audible")
    found: dict[str, Any] = {
        "made": apart(own, test, seed, songs), "train": apart(learned, test, seed, learned_songs),
        "halves": fad.frechet(test[::2].flatten(0, 1), test[1::2].flatten(0, 1)),
        **dict(zip(names, values, strict=True)),
        "intervals": {name: [value - 1.96 * error, value + 1.96 * error]
                      for name, value, error in zip(names, values, errors.tolist(), strict=True)}}
    return found | {"ratio": found["made"]["fad"] / found["train"]["fad"]}


def main(out: Path, task: Literal["generate", "paint", "accompany"] = "generate", model: str = "lite",
         sketch: str | None = None, n: int = 300, seconds: float = 6.0, data: str = "band", steps: int | None = None,
         embedding: Literal["musicnn", "vggish"] = "musicnn", seed: int = 0) -> None:
    """Measure it and write one JSON file. What was made by a run that was stopped is not made again.

    Args:
        out: where; until it is written, bands and what was measured of them are in a folder beside it.
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
    if task == "paint" and sketch:
        raise InputError("the sketches that are painted are those of songs: no model is needed to make them")
    made_by = {key: value for key, value in recorded.circumstances(loaded, begun, sketcher).items() if "record" in key}
    parts = Parts(Path(out), made_by | {"task": task, "model": model, "sketch": sketch, "n": n, "seconds": seconds,
                                        "data": data, "steps": steps, "embedding": embedding, "seed": seed})
    if task == "generate":
        found = generated(loaded, n, seconds, data, seed, sketcher, steps, embedding=embedding, keep=parts.keep)
    elif task == "paint":
        bands, songs, _ = real(data, "train", n, seconds, seed)
        test = cloud(real(data, "test", n, seconds, seed)[0], embedding)
        made = painted(loaded, bands, seed, steps, keep=parts.keep)
        found = placed(made, cloud(bands, embedding), test, seed, embedding, songs, songs)
        found["out_of_phase"] = apart(cloud(out_of_phase(loaded, bands, seed), embedding), test, seed, songs)
    else:
        found = sub_fad.imputed(loaded, *real(data, "test", n, seconds, seed), sub_fad.subsets(), seed, sketcher, steps,
                        embedding=embedding, keep=parts.keep)
    command = recorded.command("python", "-m", "msdm_lite.distance", task=task, model=model, n=n, seconds=seconds,
                               data=data, seed=seed, sketch=sketch, steps=steps,
                               embedding=embedding if embedding != "musicnn" else None, out=out)
    where = recorded.circumstances(loaded, begun - parts.seconds, sketcher, NEAR)  # with the runs before
    recorded.save({"what": f"Frechet distance of {embedding} embeddings of mixtures to songs of the test split; of "
                           "accompaniments, given and new players together",
                   "task": task, "model": model, "settings": {"sketch": sketch, "steps": steps, "seconds": seconds},
                   "data": data, "n": n,
                   "interval": "95 % over songs: by halves of them for distances and what `intervals` has, else by "
                               "bootstrap", **found, "seed": seed, **where, "command": command}, out)
    parts.done()


if __name__ == "__main__":
    script(main)
