import multiprocessing

import pytest
import torch

from msdm_lite.errors import InputError
from msdm_lite.training import step


def test_a_song_that_breaks_meanwhile_is_said_in_one_line():
    """A loader's worker hands its error on with the whole traceback in it, as torch words it."""
    class Broken(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            raise InputError("song1/bass.wav: damaged")

    for workers in (0, 1) if multiprocessing.get_start_method() == "fork" else (0,):
        batches = iter(torch.utils.data.DataLoader(Broken(), 2, num_workers=workers))
        with pytest.raises(InputError, match=r"^song1/bass\.wav: damaged$"):
            step._next(batches)
