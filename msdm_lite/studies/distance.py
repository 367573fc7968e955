"""Distances of generated bands to real ones: FAD and sub-FAD, copying and lack of diversity; sub-FAD also by genre.

`python -m msdm_lite.studies distance --task generate --out FILE` compares generated bands with songs of the test
split. Songs of the training split are compared with the same test songs, as a reference: no model can be expected to
come nearer. `--task decode` reduces these training songs to sketches (coarse spectrograms) and decodes the sketches:
this bounds what any model of sketches can reach. `--task accompany` computes sub-FAD for all fourteen choices of stems
to add. Its embeddings are of the mixture of given and generated stems, as in the paper (arXiv 2302.02257, sub-FAD,
after Donahue et al., arXiv 2301.12662). All tasks need the rendered corpus (`msdm-lite data build`). Chapter:
`book/10-measuring.ipynb`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm import tqdm

from msdm_lite.audio.io import SAMPLE_RATE
from msdm_lite.data.dataset import Crops, songs_of
from msdm_lite.diffusion import methods, sampling
from msdm_lite.diffusion.conditioning import Task
from msdm_lite.diffusion.noise import seed_of
from msdm_lite.errors import InputError
from msdm_lite.evaluation import band_quality, coherence, fad, records
from msdm_lite.evaluation.fad import embed_mixtures
from msdm_lite.evaluation.records import Cached, Tensors, compute
from msdm_lite.inference import cascade, generation
from msdm_lite.inference.encoding import decode, encode_stems
from msdm_lite.inference.windows import Windowed
from msdm_lite.models.base import StemModel
from msdm_lite.studies import sub_fad
from msdm_lite.studies.runner import Run, study
from msdm_lite.studies.sub_fad import Sampling

# The tolerance of each number, by its name: how far it may differ when the command runs again on another machine
NEAR: records.Tolerance = {"": 0.1, "errors": 0.05, "error": 0.05, **dict.fromkeys(
    ("copies", "diversity", "audible", "heard", "played", "onsets", "chroma", "quality"), records.SLIGHT)}


def distance_with_error(made: Tensor, other: Tensor, seed: int = 0, songs: Sequence[str] | None = None) -> dict:
    """FAD of two clouds of embeddings, (n, W, d) and (m, W, d), with its standard error and FAD infinity.

    What is returned: `fad`, the distance of the whole clouds; `error`, its standard error; `limit`, FAD infinity (see
    `fad.fad_infinity`); `sizes`, the mean distance at each number of windows that FAD infinity is extrapolated from.

    Args:
        songs: the song of each sound of the first cloud, where several sounds are of one song.

    Raises:
        InputError: fewer than eight songs, or sounds.
    """
    flat, against = made.flatten(0, 1), other.flatten(0, 1)
    sizes = [len(flat) // k for k in (4, 3, 2, 1)]
    end, means = fad.fad_infinity(flat, against, sizes, seed=seed)
    return {"fad": means[-1], "error": fad.frechet_error(made, other, seed=seed, songs=songs), "limit": end,
            "sizes": dict(zip(map(str, sizes), means, strict=True))}


def generated_distances(model: StemModel, n: int, seconds: float, data: str, how: Sampling = sub_fad.DEFAULT,
                        progress: bool = True, keep: Cached = compute) -> dict:
    """Generate n bands, and compare them with n crops of training songs and n of test songs: `distances_to_songs`.

    `quality` in the result is `msdm_lite.evaluation.band_quality.compare_bands` of the generated bands and one crop of
    each test song; `real` there is the number of these crops.

    Args:
        n: number of bands.
        seconds: duration of each.
        how: seed, steps, and whether sketches are generated first.
        keep: computes each band, or reads it from an interrupted run.

    Raises:
        InputError: the songs have too few crops with two audible stems; or fewer than eight bands or test songs.
    """
    def band(i: int) -> Tensors:
        return {"band": generation.generate(model, seconds, 1, how.seed + i, steps=how.steps,
                                            sketcher=how.sketcher)}

    made = torch.cat([keep(f"band-{i:04d}", partial(band, i))["band"]
                      for i in tqdm(range(n), desc="generating", unit="band", disable=not progress)])
    learned, test = (real_bands(data, split, n, seconds, how.seed) for split in ("train", "test"))
    one_each = sorted({song: i for i, song in reversed(list(enumerate(test[1])))}.values())
    train, held = (embed_mixtures(bands, how.embedding) for bands, *_ in (learned, test))
    quality = band_quality.compare_bands(made, test[0][one_each], model.stems, how.seed)
    return distances_to_songs(made, train, held, how.seed, how.embedding, learned[1]) | {
        "quality": quality | {"real": len(one_each)}}


@torch.no_grad()
def decode_real_sketches(model: StemModel, bands: Tensor, seed: int = 0, steps: int | None = None,
                         progress: bool = True,
                         keep: Cached = compute) -> Tensor:
    """Reduce bands (n, S, T) to their sketches, and decode these with a model: decoded bands (n, S, T), on the CPU.

    A perfect model of sketches would give the same result.

    Raises:
        InputError: the model was not trained to decode sketches.
    """
    model.require_decoder()
    chosen, denoise = methods.by_name("ode", methods.GENERATIONS, steps=steps), Windowed(model)

    def decode_band(i: int) -> Tensors:
        length = bands.shape[-1]
        clean = encode_stems(dict(enumerate(bands[i])), model, length)
        task = Task(tuple(clean.shape), conditions={"sketch": model.sketch_of(clean)})
        states = methods.sample(task, denoise, chosen, torch.Generator().manual_seed(seed_of(seed, i)), model.device)
        return {"band": decode(sampling.final_x(states)[0], model, length).cpu()}

    return torch.stack([keep(f"band-{i:04d}", partial(decode_band, i))["band"]
                        for i in tqdm(range(len(bands)), desc="decoding", unit="band", disable=not progress)])


def randomised_signs(model: StemModel, bands: Tensor, seed: int = 0) -> Tensor:
    """Randomise the signs of the MDCT coefficients of bands (n, S, T), and keep their magnitudes: bands (n, S, T).

    Energies stay the same at every time and frequency; phases are random.
    """
    made = torch.empty_like(bands)
    for i, band in enumerate(bands):
        clean = encode_stems(dict(enumerate(band)), model, band.shape[-1]).cpu()
        signs = torch.randint(2, clean.shape, generator=torch.Generator().manual_seed(seed_of(seed, i))) * 2 - 1
        made[i] = decode((clean * signs)[0], model, band.shape[-1])
    return made


def distances_to_songs(made: Tensor, learned: Tensor, test: Tensor, seed: int = 0, embedding: str = "musicnn",
                       learned_songs: Sequence[str] | None = None, songs: Sequence[str] | None = None) -> dict:
    """Compare generated bands (n, S, T) with the embeddings (n, W, d) of training songs and of test songs.

    What is returned:

    - `made`, `train`: distance of the generated bands and of the training songs to the test songs, as
      `distance_with_error` gives it; `ratio`: the first FAD over the second;
    - `halves`: FAD between two halves of the test songs;
    - `copies`: median nearest-neighbour distance of generated windows to training windows, over that of test windows to
      training windows. If it is well under 1, the model copies its training data;
    - `diversity`: mean distance between two generated windows, over that between two test windows. If it is well under
      1, the generated bands are too much alike;
    - `audible`: the share of bands in which all stems are audible;
    - `intervals`: 95 % intervals of the last three.

    Args:
        learned: embeddings of training songs.
        test: embeddings of test songs.
        learned_songs: the song of each item of `learned`, where several are of one song.
        songs: the same for the generated bands, where each was decoded from a song.

    Raises:
        InputError: fewer than eight bands, or fewer than eight songs that they or the training items are of.
    """
    own, train, held = embed_mixtures(made, embedding), learned.flatten(0, 1), test.flatten(0, 1)
    near = fad.nearest_distances(own.flatten(0, 1), train).unflatten(0, own.shape[:2])
    usual, various = fad.nearest_distances(held, train).median().item(), fad.diversity(held)
    audible = coherence.audible(made).all(1).double()

    def measured(some: Tensor) -> list[float]:
        return [near[some].median().item() / usual, fad.diversity(own[some].flatten(0, 1)) / various,
                audible[some].mean().item()]

    values = measured(torch.ones(len(made), dtype=torch.bool))
    errors = fad.standard_error(measured, range(len(made)) if songs is None else songs, seed=seed)
    names = ("copies", "diversity", "audible")
    found: dict[str, Any] = {
        "made": distance_with_error(own, test, seed, songs),
        "train": distance_with_error(learned, test, seed, learned_songs),
        "halves": fad.frechet(test[::2].flatten(0, 1), test[1::2].flatten(0, 1)),
        **dict(zip(names, values, strict=True)),
        "intervals": {name: [value - 1.96 * error, value + 1.96 * error]
                      for name, value, error in zip(names, values, errors.tolist(), strict=True)}}
    return found | {"ratio": found["made"]["fad"] / found["train"]["fad"]}


@study("distance", records=("distance-generate", "distance-generate-prior", "distance-paint", "distance-accompany"),
       measures="FAD, sub-FAD, copying and diversity of generated bands", tolerance=NEAR, unsaid=("embedding",))
def main(run: Run, task: Literal["generate", "decode", "accompany"] = "generate", model: str = "lite",
         sketch: str | None = None, n: int = 300, seconds: float = 6.0, data: str = "band", steps: int | None = None,
         embedding: Literal["musicnn", "vggish"] = "musicnn", seed: int = 0) -> dict:
    """Measure distances of generated bands and write one JSON file. A stopped run resumes where it was.

    Args:
        task: generate; decode, of sketches of training songs; or accompany, with all fourteen choices of stems to add.
        model: a shipped name or a path.
        sketch: a model that generates sketches (coarse spectrograms), which the other model then decodes.
        n: number of bands, eight or more.
        seconds: duration of each band, three or more.
        data: band, composed or all: the songs that bands are compared with, and that give sketches and given stems.
        steps: number of noise levels; the default of the method if not given.
        embedding: musicnn, or vggish, which published distances use; it needs `torchvggish` and, once, a download.
        seed: seed of all random numbers.

    Raises:
        InputError: fewer than eight bands, or shorter than three seconds; decode together with `sketch`.
    """
    if n < 8 or seconds < 3:
        raise InputError(f"{n} bands of {seconds:g} s: eight of three seconds are the least")
    loaded = run.load(model)
    run.sketcher = cascade.load_sketcher(sketch, loaded)
    if task == "decode" and sketch:
        raise InputError("the sketches that are decoded are those of songs: no model is needed to generate them")
    how = Sampling(seed, run.sketcher, steps, embedding)
    if task == "generate":
        found = generated_distances(loaded, n, seconds, data, how, keep=run.keep)
    elif task == "decode":
        bands, songs, _ = real_bands(data, "train", n, seconds, seed)
        test = embed_mixtures(real_bands(data, "test", n, seconds, seed)[0], embedding)
        made = decode_real_sketches(loaded, bands, seed, steps, keep=run.keep)
        found = distances_to_songs(made, embed_mixtures(bands, embedding), test, seed, embedding, songs, songs)
        found["randomised_signs"] = distance_with_error(embed_mixtures(randomised_signs(loaded, bands, seed),
                                                                       embedding), test, seed, songs)
    else:
        found = sub_fad.all_subsets(loaded, *real_bands(data, "test", n, seconds, seed), sub_fad.subsets(), how,
                                    keep=run.keep)
    return {"what": f"Frechet distance of {embedding} embeddings of mixtures to songs of the test split; of "
            "accompaniments, given and new players together",
            "task": task, "model": model, "settings": {"sketch": sketch, "steps": steps, "seconds": seconds},
            "data": data, "n": n,
            "interval": "95 % over songs: by halves of them for distances and what `intervals` has, else by bootstrap",
            **found, "seed": seed}


def real_bands(data: str, split: str, n: int, seconds: float, seed: int = 0) -> tuple[Tensor, list[str], list[str]]:
    """Draw n random crops of songs of a split, each with two audible stems or more.

    Returns the crops (n, 4, T), the name of the song of each, and its style ("" where it has none).

    Raises:
        InputError: there are too few such crops.
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
    raise InputError(f"{data} has too little music of two stems or more for {n} crops of {seconds:g} s")
