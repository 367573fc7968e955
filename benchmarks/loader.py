"""The loader of training crops against the model that eats them: crops a second of each, by turns, and their ratio.

Takes rendered songs, or as many files of noise of the same form where there are none. The files have been read before
(the first round warms the page cache); the pace from a cold disk is the disk's.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from msdm_lite.audio.io import SAMPLE_RATE, STEMS
from msdm_lite.data import corpus
from msdm_lite.data.dataset import Augmentation, Crops
from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.models.config import preset
from msdm_lite.models.joint import Model
from msdm_lite.training import batches as training_batches
from msdm_lite.training.batches import crop_samples, encode_crops
from msdm_lite.training.recipe import Recipe
from msdm_lite.utils import device

BATCH, ROUNDS, SECONDS = 8, 5, 6.0  # seconds each side has in each round


class Noise:
    """A song of noise, stored like a rendered one."""

    source, split, stems = "noise", "train", STEMS

    def __init__(self, folder: str, number: int):
        self.name, self.path, self.samples = f"noise_{number}", Path(folder) / f"{number}.npy", 75 * SAMPLE_RATE
        rng = np.random.default_rng(number)
        np.save(self.path, rng.integers(-3000, 3000, (len(STEMS), self.samples), np.int16))

    def read(self, start: int = 0, count: int | None = None) -> np.ndarray:
        return corpus._stems(str(self.path))[:, start:][:, :count].astype(np.float32) / 32767


def pace(step) -> float:
    """Crops a second of a function that handles a batch."""
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < SECONDS:
        step()
        count += BATCH
    return count / (time.perf_counter() - begin)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        songs = [song for song in corpus.songs("train") if song.ready]
        if len(songs) < 16:
            songs = [Noise(folder, number) for number in range(16)]
        where = device.pick("auto")
        model = Model(preset("lite")).to(where, memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-5)
        augmentation = Augmentation(gain_db=2, silence=0.04, remix=0.5)
        crops = Crops(songs, crop_samples(model), 10**9, augmentation=augmentation)
        plain = Crops(songs, crop_samples(model), 10**9)

        def loader(of: Crops, workers: int):
            order = training_batches.ItemOrder(0, Recipe())
            batches = iter(DataLoader(of, BATCH, sampler=order, num_workers=workers))
            return lambda: next(batches)

        x = encode_crops(model, next(iter(DataLoader(plain, BATCH)))["stems"].to(where))
        known = Conditioning.none(x)

        def learn() -> None:
            with device.autocast(where):
                model.loss(x, torch.ones(BATCH, device=where), known, torch.randn_like(x)).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            if where.type == "cuda":
                torch.cuda.synchronize()

        sides = {"loader, in this process": loader(plain, 0), "the same, augmented and remixed": loader(crops, 0),
                 "loader, one process beside": loader(plain, 1), "lite, training": learn}
        for step in sides.values():
            step()
        paces = {name: [] for name in sides}
        for _ in range(ROUNDS):
            for name, step in sides.items():
                paces[name].append(pace(step))
    print(f"{len(songs)} songs ({songs[0].source}), crops of {crops.samples / SAMPLE_RATE:.2f} s, "
          f"{torch.get_num_threads()} threads, {device.processor()}")
    eaten = np.array(paces["lite, training"])
    for name, values in paces.items():
        ratio = np.array(values) / eaten
        print(f"{name:34s} {np.median(values):8.1f} crops/s   {np.median(ratio):7.1f} x lite's "
              f"({ratio.min():.1f} to {ratio.max():.1f})")


if __name__ == "__main__":
    main()
