"""Real bands, and what an embedding makes of bands: the clouds of points between which `msdm_lite.fad` measures.

Chapter: `book/10-measuring.ipynb`.
"""

import torch
from torch import Tensor

from msdm_lite import coherence, musicnn, vggish
from msdm_lite.audio import SAMPLE_RATE
from msdm_lite.crops import Crops
from msdm_lite.errors import InputError
from msdm_lite.recipe import songs_of

EMBEDDINGS = {"musicnn": musicnn.embed, "vggish": vggish.embed}


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


def cloud(bands: Tensor, embedding: str = "musicnn") -> Tensor:
    """Embeddings of the mixtures of bands (n, S, T): (n, W, d), W windows of three seconds, or of one (VGGish)."""
    return torch.cat([EMBEDDINGS[embedding](some.sum(1)) for some in bands.split(16)])
