import numpy as np
import pytest
import scipy.linalg
import torch

from msdm_lite.errors import InputError
from msdm_lite.evaluation.fad import (
    EMBEDDINGS,
    diversity,
    embed_mixtures,
    fad_infinity,
    frechet,
    frechet_error,
    half_samples,
    nearest_distances,
    standard_error,
)


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


@pytest.mark.parametrize("value, says", [(np.nan, "1 of the 20 points of the {} set are NaN"),
                                         (-np.inf, "1 of the 20 points of the {} set are NaN or infinite"),
                                         (1e200, "{} set are too large: .*1e\\+200")])
def test_numbers_that_are_not_finite_are_refused_and_do_not_end_the_process(value, says):
    a, b = cloud(20, 3, 0), cloud(20, 3, 1)
    broken = a.clone()
    broken[4, 1] = value
    for first, second, name in ((broken, b, "first"), (b, broken, "second")):
        with pytest.raises(InputError, match=says.format(name)):
            frechet(first, second)
        with pytest.raises(InputError, match=says.format(name).replace("20", "(?:10|20)")):
            fad_infinity(first, second, [10, 20], draws=40)
    assert frechet(a, b) < 2


def test_bands_that_are_not_finite_are_named(monkeypatch):
    monkeypatch.setitem(EMBEDDINGS, "sum", lambda waves: waves.sum(-1)[:, None, None])
    bands = torch.ones(18, 2, 5)
    assert embed_mixtures(bands, "sum").tolist() == [[[10.0]]] * 18
    bands[17, 1, 3] = torch.nan
    with pytest.raises(InputError, match=r"1 of 18 bands .* NaN or infinite; the first is number 17"):
        embed_mixtures(bands, "sum")
    with pytest.raises(InputError, match="no embedding 'openl3'; there are musicnn, vggish"):
        embed_mixtures(bands, "openl3")


def test_distances_between_points():
    """A square of side 3: four sides and two diagonals. Its corners to a point on one side."""
    corners = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0], [3.0, 3.0]])
    assert diversity(corners) == pytest.approx((4 * 3 + 2 * 18**0.5) / 6)
    assert nearest_distances(torch.tensor([[1.0, 0.0], [3.0, 7.0]]), corners).tolist() == [1.0, 4.0]
    with pytest.raises(InputError, match="two points or more have a distance, not 1"):
        diversity(corners[:1])
