"""One seed from several numbers, such as a run's and an item's: near numbers give seeds that have nothing in common.

Chapter: `book/05-training.ipynb`.
"""

import numpy as np


def seed_of(*numbers: int) -> int:
    """A seed below 2^63, which is what torch takes, from numbers of 0 or more."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
