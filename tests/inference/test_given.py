import pytest
import torch

from msdm_lite.inference.given import fit, warn_of_misfit

RATE = 22050


@pytest.fixture
def band(generator):
    """Four stems of noise bursts, (4, T), of 4 s."""
    noise = torch.randn(4, 4 * RATE, generator=generator)
    return 0.1 * noise * (torch.rand(4, 4 * RATE // 441, generator=generator) > 0.5).repeat_interleave(441, 1)


@pytest.mark.parametrize("samples", [0, 441, -2205, 11025])
def test_the_delay_of_a_stem_is_found(band, samples, said):
    stem = torch.roll(band[1], samples)
    delay, factor, here = fit(stem, band.sum(0), RATE)
    assert delay * RATE == pytest.approx(samples) and factor == pytest.approx(1, abs=0.15)
    assert here == pytest.approx(0 if samples else 1, abs=0.1)
    warn_of_misfit("drums", stem, band.sum(0), RATE)
    if samples:
        says, = said()
        assert f"drums seems to be {abs(samples) / 22.05:.0f} ms {'late' if samples > 0 else 'early'}" in says
    else:
        assert said() == []


def test_a_stem_that_is_too_loud(band, said):
    mix = band.sum(0)
    for stem in band:
        warn_of_misfit("drums", stem, mix, RATE)
    assert said() == []
    warn_of_misfit("drums", 2 * band[1], mix, RATE)
    assert "drums seems to be" in said()[0] and "dB louder than it is in the mix" in said()[0]
    warn_of_misfit("drums", 10 * band[1], mix, RATE)
    power = 10 * torch.log10((10 * band[1]).square().mean() / mix.square().mean()).item()
    assert f"drums is {power:.1f} dB louder than the whole mix" in said()[1]


def test_silence_and_other_music_are_no_misfit(band, said, generator):
    for stem, mix in ((torch.zeros(RATE), band[0]), (band[0], torch.zeros(RATE)), (torch.zeros(5), torch.zeros(5)),
                      (0.05 * torch.randn(RATE, generator=generator), band.sum(0))):
        warn_of_misfit("drums", stem, mix, RATE)
    assert said() == [] and fit(torch.zeros(5), torch.zeros(5), RATE) == (0.0, 1.0, 1.0)
