import numpy as np
import pytest
import scipy.linalg
import torch

from msdm_lite.errors import InputError
from msdm_lite.evaluation.fad import fad_infinity, frechet, frechet_error, half_samples, standard_error


def cloud(n: int, d: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    return shift + scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_against_scipys_matrix_root():
    a, b = cloud(200, 6, 0), cloud(300, 6, 1, 0.5, 2.0) @ torch.randn(6, 6).double()
    A, B = a.T.cov(), b.T.cov()
    root = torch.from_numpy(scipy.linalg.sqrtm((A @ B).numpy()).real)
    exact = (a.mean(0) - b.mean(0)).square().sum() + (A + B - 2 * root).trace()
    assert frechet(a, b) == pytest.approx(exact.item(), rel=1e-6)
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-6) and abs(frechet(a, a)) < 1e-6


def test_gaussians_of_known_distance():
    """Means 3 apart in one direction, deviations 1 and 2 in each of 4: 9 + 4. 20 000 points: within 2 %."""
    a, b = cloud(20_000, 4, 0), cloud(20_000, 4, 1, scale=2.0)
    b[:, 0] += 3
    assert frechet(a, b) == pytest.approx(13, rel=0.02)


def test_few_points_make_it_too_large_and_the_limit_mends_that():
    a, b = cloud(2000, 30, 0), cloud(20_000, 30, 1, shift=0.1)  # the true distance is 30 * 0.01 = 0.3
    end, means = fad_infinity(a, b, [100, 200, 400, 800])
    assert means == sorted(means, reverse=True) and means[0] > 2
    assert end == pytest.approx(0.3, abs=0.15) and frechet(a, b) > end


def test_more_dimensions_than_points():
    assert frechet(cloud(50, 200, 0), cloud(60, 200, 1)) > 0


def test_clouds_that_cannot_be_compared():
    for a, b in ((cloud(1, 3, 0), cloud(5, 3, 0)), (cloud(5, 3, 0), cloud(5, 4, 0)), (cloud(5, 3, 0), torch.zeros(3))):
        with pytest.raises(InputError, match="two clouds"):
            frechet(a, b)
    with pytest.raises(InputError, match="two sizes"):
        fad_infinity(cloud(10, 3, 0), cloud(10, 3, 0), [5])
    with pytest.raises(InputError, match="at most 10"):
        fad_infinity(cloud(10, 3, 0), cloud(10, 3, 0), [5, 20])


def test_the_error_of_a_distance_is_that_of_new_sets():
    """Distances of 60 new sets vary by about what halves of one set say: within a factor of two."""
    generator = torch.Generator().manual_seed(0)
    other = torch.randn(400, 2, 4, generator=generator)
    sets = [torch.randn(80, 2, 4, generator=generator) + 0.5 for _ in range(60)]
    true = np.std([frechet(one.flatten(0, 1), other.flatten(0, 1)) for one in sets], ddof=1)
    said = np.mean([frechet_error(one, other) for one in sets[:10]])
    assert 0.5 < said / true < 2
    with pytest.raises(InputError, match="at least 8"):
        frechet_error(sets[0][:5], other)


def test_sounds_of_one_song_are_drawn_together():
    """Two sounds of a song that are the same: as sure as one sound a song, and less than if they were independent."""
    generator = torch.Generator().manual_seed(0)
    other, once = torch.randn(400, 2, 4, generator=generator), torch.randn(40, 2, 4, generator=generator) + 0.5
    twice, songs = once.repeat_interleave(2, 0), np.arange(40).repeat(2)
    of_songs = frechet_error(twice, other, songs=songs)
    assert of_songs == pytest.approx(frechet_error(once, other), rel=0.05)  # covariances divide by one less
    assert frechet_error(twice, other) < 0.85 * of_songs
    assert all(2 * half.sum() == len(songs) and half[::2].equal(half[1::2]) for half in half_samples(songs))


def test_the_error_of_a_mean_is_the_usual_one():
    values = torch.randn(2, 60, generator=torch.Generator().manual_seed(0))
    found = standard_error(lambda some: values[:, some].mean(1).numpy(), range(60), draws=400)
    assert found == pytest.approx(values.std(1).numpy() / 60**0.5, rel=0.15)  # of 400 draws: four standard errors
