import pytest
import torch

import msdm_lite
from msdm_lite.data import example_clips
from msdm_lite.diffusion import sampling
from msdm_lite.diffusion.methods import METHODS
from msdm_lite.errors import InputError
from msdm_lite.evaluation import metrics
from msdm_lite.inference.separation import separate, separate_batch
from msdm_lite.models.config import preset
from msdm_lite.models.joint import Model

FEW = {"mixture-constrained": {}, "dirac": {"steps": 8, "corrections": 1}, "gaussian": {"steps": 8, "corrections": 1}}


def error_db(stems, mix):
    return 10 * torch.log10((stems.sum(0) - mix).square().sum() / mix.square().sum()).item()


@pytest.mark.parametrize("method", ["mixture-constrained", "dirac"])
@pytest.mark.parametrize("seconds", [0.1, 0.37, 4.0, 9.3])
def test_stems_sum_to_the_mixture(tiny, method, seconds):
    mix = 0.3 * torch.randn(int(seconds * 22050))
    stems = msdm_lite.separate(mix, tiny, method, **FEW[method])
    assert stems.shape == (4, len(mix))
    assert error_db(stems, mix) < -60


def test_loudness_out_is_loudness_in(tiny):
    mix = torch.randn(22050)
    loud, quiet = (msdm_lite.separate(gain * mix, tiny) for gain in (1.0, 1e-8))
    assert torch.allclose(loud, 1e8 * quiet, atol=1e-3)


def test_same_seed_same_stems(tiny):
    mix = 0.1 * torch.randn(11025)
    runs = [msdm_lite.separate(mix, tiny, steps=2, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_silence_comes_back_and_is_said(tiny, caplog):
    assert not msdm_lite.separate(torch.zeros(5000), tiny).any()
    assert "silent" in caplog.text


@pytest.mark.parametrize("mix, says", [(torch.zeros(100), "too short"), (torch.zeros(2, 30000), "mono"),
                                       (torch.full((30000,), torch.nan), "not finite")])
def test_mixtures_that_cannot_be(tiny, mix, says):
    with pytest.raises(InputError, match=says):
        msdm_lite.separate(mix, tiny)


def test_stereo_stems_stay_where_they_were(tiny):
    """Each side is a mixture of its own; what is silent on one side has silent stems there."""
    left = 0.1 * torch.randn(9000)
    both = msdm_lite.separate(torch.stack([left, torch.zeros(9000)]), tiny, keep_stereo=True)
    assert both.shape == (4, 2, 9000) and not both[:, 1].any()
    assert torch.equal(both[:, 0], msdm_lite.separate(left, tiny))
    for wrong in (torch.zeros(9000), torch.zeros(3, 9000)):
        with pytest.raises(InputError, match="stereo means"):
            msdm_lite.separate(wrong, tiny, keep_stereo=True)


def test_a_silent_side_is_not_called_a_silent_mixture(tiny, said):
    wave = torch.stack([torch.zeros(9000), 0.1 * torch.randn(9000)])
    both = msdm_lite.separate(wave, tiny, keep_stereo=True)
    assert not both[:, 0].any() and both[:, 1].abs().amax(-1).min() > 0 and said() == []
    assert not msdm_lite.separate(torch.zeros(2, 9000), tiny, keep_stereo=True).any()
    assert said() == ["the mixture is silent, and so are its stems"]


def test_equal_sides_are_separated_once(tiny, monkeypatch):
    left, calls, real = 0.1 * torch.randn(9000), [], type(tiny).denoise
    monkeypatch.setattr(type(tiny), "denoise", lambda *args: calls.append(1) or real(*args))
    both = msdm_lite.separate(left.expand(2, -1), tiny, keep_stereo=True)
    assert len(calls) == 1 and torch.equal(both[:, 0], both[:, 1])
    assert torch.equal(both, msdm_lite.separate(left[None], tiny, keep_stereo=True))


def test_given_stems_of_a_stereo_mixture(tiny):
    """One of (2, T) keeps its sides; a mono one stands on both. Each side sums to its side."""
    mix, drums, bass = 0.1 * torch.randn(2, 9000), 0.1 * torch.randn(2, 9000), 0.1 * torch.randn(9000)
    stems = msdm_lite.separate(mix, tiny, keep_stereo=True, given={"drums": drums, "bass": bass})
    assert torch.equal(stems[1], drums) and torch.equal(stems[0], bass.expand(2, -1))
    assert error_db(stems, mix) < -60
    alone = msdm_lite.separate(mix[1], tiny, given={"drums": drums[1], "bass": bass})
    assert torch.equal(stems[:, 1], alone)
    with pytest.raises(InputError, match="bass is"):
        msdm_lite.separate(mix, tiny, keep_stereo=True, given={"bass": torch.zeros(1, 2, 9000)})


@pytest.mark.parametrize("seed", [-1, 2**64, 0.5, True])
def test_seeds_that_torch_does_not_take(tiny, seed):
    for run in (lambda: msdm_lite.separate(torch.zeros(9000), tiny, seed=seed),
                lambda: msdm_lite.accompany({"bass": torch.zeros(9000)}, tiny, seed=seed),
                lambda: msdm_lite.generate(tiny, seed=seed)):
        with pytest.raises(InputError, match="a seed is a whole number from 0"):
            run()


def test_the_largest_seed(tiny):
    assert msdm_lite.separate(0.1 * torch.randn(4000), tiny, steps=2, seed=2**64 - 1).isfinite().all()


def test_given_stems_come_back_and_the_rest_sums_to_the_rest(tiny):
    mix, drums = 0.1 * torch.randn(2, 9000)
    for method in ("mixture-constrained", "dirac", "wiener"):
        stems = msdm_lite.separate(mix, tiny, method, steps=3, given={"drums": drums})
        assert torch.equal(stems[1], drums) and error_db(stems, mix) < -60
    for given, says in (({"flute": drums}, "no stem 'flute'"), ({"drums": drums[:5000]}, "as long as the mixture"),
                        (dict.fromkeys(tiny.stems, drums), "nothing to separate")):
        with pytest.raises(InputError, match=says):
            msdm_lite.separate(mix, tiny, given=given)


def test_the_last_stem_is_what_the_others_leave(tiny, monkeypatch):
    monkeypatch.setattr(tiny, "denoise", None)  # no network is asked
    mix, *waves = 0.1 * torch.randn(4, 9000)
    for method in (None, "gaussian"):
        stems = msdm_lite.separate(mix, tiny, method, given=dict(zip(("bass", "drums", "piano"), waves, strict=True)))
        assert torch.equal(stems[[0, 1, 3]], torch.stack(waves))
        torch.testing.assert_close(stems.sum(0), mix)


def test_the_mean_of_samples(tiny):
    """Averaged samples vary less than one: their spread over seeds falls."""
    mix = 0.1 * torch.randn(6000)

    def spread(samples):
        runs = [msdm_lite.separate(mix, tiny, steps=4, churn=2.0, seed=seed, samples=samples) for seed in range(4)]
        return torch.stack(runs).var(0).mean()

    assert 0.1 < spread(4) / spread(1) < 0.6
    with pytest.raises(InputError, match="1 or more"):
        msdm_lite.separate(mix, tiny, samples=0)


def test_no_such_method(tiny):
    with pytest.raises(InputError, match="no method 'magic'"):
        msdm_lite.separate(torch.zeros(5000), tiny, "magic")


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"projdiff", "guided"}))
def test_methods_are_sampled_with_their_own_settings(tiny, monkeypatch, name):
    """The published settings reach the sampler: levels, churn, corrections; and so do those that replace them."""
    seen = {}

    def spy(x, sigmas, guidance, denoise, sampler, *_):
        seen.update(sigma_max=sigmas[0], steps=len(sigmas) - 1, churn=sampler.churn, corrections=sampler.corrections)
        yield sampling.State(x, 0.0, x)
        return x

    monkeypatch.setattr(sampling, "sample", spy)
    msdm_lite.separate(torch.randn(5000), tiny, name)
    method = METHODS[name]
    assert seen == {"sigma_max": pytest.approx(method.sigma_max), "steps": method.steps, "churn": method.churn,
                    "corrections": method.corrections}
    msdm_lite.separate(torch.randn(5000), tiny, name, steps=3, sigma_max=2.0, churn=1.0, corrections=4)
    assert seen == {"sigma_max": pytest.approx(2.0), "steps": 3, "churn": 1.0, "corrections": 4}


def test_the_shipped_model_separates_a_held_out_song():
    """The main job: a clip that no training saw comes apart. 5 dB is well under what lite reaches on most clips."""
    stems = example_clips.clip("band_00")
    got = msdm_lite.separate(stems.sum(0), "lite")
    gain = metrics.si_sdr_improvement(got, stems)
    assert gain.nanmean() > 5 and error_db(got, stems.sum(0)) < -60


@pytest.mark.parametrize("settings", [
    {"method": "mixture-constrained"}, {"method": "mixture-constrained", "samples": 2, "steps": 3},
    {"method": "wiener", "steps": 3}, {"method": "projdiff", "steps": 3},
    {"method": "dirac", "steps": 3, "churn": 2.0, "corrections": 2, "limit": float("inf")},  # so few levels diverge
    {"method": "gaussian", "steps": 3, "churn": 2.0, "limit": float("inf")}, {"method": "pigdm", "steps": 3}])
def test_mixtures_that_go_together_come_out_as_each_alone(tiny, settings):
    """The same noise, and gains of their own; to rounding, since the network adds up in another order."""
    mixtures = torch.randn(3, 60000, generator=torch.Generator().manual_seed(0)) * torch.tensor([[0.1], [0.5], [0.0]])
    together = separate_batch(mixtures, tiny, seed=3, **settings)
    alone = torch.stack([separate(one, tiny, seed=3, **settings) for one in mixtures])
    assert together.shape == (3, 4, 60000) and not together[2].any()
    assert (together - alone).abs().max() < 1e-3 * alone.abs().max()


def test_what_cannot_go_together(tiny):
    with pytest.raises(InputError, match="mixtures"):
        separate_batch(torch.randn(2000), tiny)
    with pytest.raises(InputError, match="0 samples"):
        separate_batch(torch.randn(2, 4000), tiny, samples=0)
    with pytest.raises(InputError, match="not finite"):
        separate_batch(torch.full((2, 4000), torch.nan), tiny)
    assert not separate_batch(torch.zeros(2, 4000), tiny).any()


def test_the_level_can_be_kept(monkeypatch):
    """The network gets the mixture as it is; stems are as loud as they are in it in both cases."""
    model, inside = Model(preset("tiny")), []
    monkeypatch.setattr(model, "denoise", lambda x, sigma, conditioning=None: inside.append(x.sum(1)) or x)
    mixture = 0.5 * torch.randn(30_000)
    for level, expected in (("training", 0.12), ("keep", 0.5)):
        stems = separate(mixture, model, level=level)
        assert inside.pop().std().item() == pytest.approx(expected, rel=0.1)
        torch.testing.assert_close(stems.sum(0), mixture, rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="level is training or keep, not 'loud'"):
        separate(mixture, model, level="loud")
