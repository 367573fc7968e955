import pytest
import torch

from msdm_lite.audio.transforms import MDCT, Blocks, Compressed
from msdm_lite.errors import InputError
from tests.inference.test_front_ends import music


def test_what_compression_loses_is_what_it_says():
    """With all components nothing; with fewer the power of those left out, and never less than for other bases."""
    mdct, x = MDCT(128), music(8)
    assert Compressed.fit(mdct, x, 128).best_sdr(x).min() > 100
    found = [Compressed.fit(mdct, x, kept) for kept in (8, 32, 96)]
    best = [front.best_sdr(x.flatten()[None]).item() for front in found]
    assert best == sorted(best) and best[0] > 0
    assert best[1] > Compressed(mdct, torch.eye(128)[:32]).best_sdr(x.flatten()[None]).item()  # the lowest 32 bins
    for front in found:
        twice = front.forward(front.inverse(front.forward(x)))
        assert torch.allclose(twice, front.forward(x), atol=1e-5)  # what was kept is kept


def test_bases_that_cannot_be():
    for wrong, says in ((lambda: Compressed(MDCT(128), torch.eye(64)), "bins is"),
                        (lambda: Compressed(MDCT(128), torch.ones(2, 128)), "not orthonormal"),
                        (lambda: Compressed.fit(MDCT(128), music(), 0), "components can be kept"),
                        (lambda: Compressed.fit(MDCT(128), [], 4), "no sounds"),
                        (lambda: Blocks(128).forward(torch.zeros(100)), "multiple of 128")):
        with pytest.raises(InputError, match=says):
            wrong()
