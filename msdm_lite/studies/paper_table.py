"""What it costs to make a row of the paper's table of separation with its own checkpoint: `python -m` this prints it.

Songs and hours of Slakh2100 are those of its authors' repository (github.com/ethman/slakh-utils, README). Chapter:
`book/13-scaling-up.ipynb`.
"""

from functools import lru_cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from msdm_lite.diffusion.methods import METHODS
from msdm_lite.models.config import preset
from msdm_lite.models.weights import build
from msdm_lite.studies import published

SONGS, TEST_SONGS, HOURS = 2100, 225, 145  # of Slakh2100; the hours are those of all songs


@lru_cache
def operations(name: str = "paper") -> int:
    """Floating-point operations of one evaluation of a preset's network, counted without computing it."""
    with torch.device("meta"):
        model = build(preset(name))
        x, level = torch.zeros(1, len(model.stems), model.config.bins, model.config.frames), torch.ones(1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.denoise(x, level)
    return int(counter.get_total_flops())


def segments() -> int:
    """The number of segments of the test songs, at most: each song loses what is left at its end.

    Songs of the test part count as long as all songs are on average.
    """
    seconds = published.SCORING["chunk"][0] / published.SCORING["sample_rate"][0]
    return int(HOURS * 3600 * TEST_SONGS / SONGS / seconds)


def cost() -> str:
    """In words: segments, evaluations, operations, and the hours that they take at the pace that the paper states."""
    seconds = published.SCORING["chunk"][0] / published.SCORING["sample_rate"][0]
    each, count = METHODS["dirac"].nfe, segments()
    joint, independent = (count * seconds / 12 * published.SECONDS[which] / 3600 for which in ("joint", "independent"))
    return (f"The {TEST_SONGS} test songs have at most {count:,} segments of {seconds:.1f} s. Each takes {each} "
            f"evaluations of the network, of {operations() / 1e9:.0f} GFLOP: {count * each / 1e6:.2f} million "
            f"evaluations, {count * each * operations() / 1e15:,.0f} PFLOP; four independent models take four times as "
            f"much. At the pace that the paper states for an A6000, {joint:.0f} hours, and {independent:.0f} for the "
            "four; twice that if its pace is without correction steps, which it does not say.")


if __name__ == "__main__":
    print(cost())
