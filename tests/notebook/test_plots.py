import matplotlib
import numpy as np
import pytest
import torch

from msdm_lite.errors import InputError
from msdm_lite.notebook import plots
from msdm_lite.notebook.plots import COLOURS, spectrogram, spectrograms, waveform
from tests.notebook.test_player import RATE, band


def test_spectrogram_levels_are_re_a_full_scale_sine():
    t = np.arange(2 * RATE) / RATE
    for log in (True, False):
        for pitch in (110, 1000, 8000):
            ax = spectrogram(np.sin(2 * np.pi * pitch * t), log=log)
            mesh = ax.collections[0]
            assert mesh.get_array().max() == pytest.approx(0, abs=0.5)
            row = mesh.get_array()[:, 240].argmax()
            low, high = mesh.get_coordinates()[row:row + 2, 0, 1] * (1 if log else 1000)
            assert low * 0.97 <= pitch <= high * 1.03
            assert "s" in ax.get_xlabel() and ("kHz", "Hz")[log] in ax.get_ylabel()
            matplotlib.pyplot.close(ax.figure)


def test_spectrogram_shows_when():
    wave = np.zeros(RATE)
    wave[RATE // 2] = 1
    level = spectrogram(wave).collections[0].get_array()
    assert abs(level[64].argmax() - 240) <= 24
    matplotlib.pyplot.close("all")


def test_spectrograms_share_one_range():
    figure = spectrograms({"loud": band(1)["piano"], "quiet": band(1)["piano"] * 0.1}, title="two")
    clims = {ax.collections[0].get_clim() for ax in figure.axes[:2]}
    assert len(clims) == 1
    assert figure.axes[0].collections[0].get_array().max() - figure.axes[1].collections[0].get_array().max() > 15
    matplotlib.pyplot.close(figure)


def test_waveform():
    ax = waveform(band(1)["bass"], name="bass")
    assert ax.get_xlabel() == "time / s" and ax.lines[0].get_color() == COLOURS["bass"]
    matplotlib.pyplot.close(ax.figure)
    with pytest.raises(InputError, match=r"must have the shape \(T,\)"):
        waveform(np.zeros((2, 3)))


def test_waveforms_become_arrays_of_single_precision():
    for given in ([0, 0.5], np.array([0, 0.5]), torch.tensor([0, 0.5], dtype=torch.float64, requires_grad=True),
                  torch.tensor([0, 0.5], dtype=torch.bfloat16)):
        found = plots.to_wave(given)
        assert isinstance(found, np.ndarray) and found.dtype == np.float32 and found.tolist() == [0, 0.5]


@pytest.mark.parametrize("given, says", [
    (np.zeros(0), r"the bass must have the shape \(T,\)"), (np.zeros((1, 5)), r"not \(1, 5\)"), (1.0, r"not \(\)"),
    (["x"], "the bass is not an array of numbers"), ([0.0, np.nan], "holds NaN or infinity"),
    (torch.tensor([torch.inf]), "holds NaN or infinity")])
def test_what_is_no_waveform_is_refused(given, says):
    with pytest.raises(InputError, match=says):
        plots.to_wave(given, "the bass")


def test_tracks_have_names():
    stems = torch.randn(4, 10)
    found = plots.as_named_tracks(stems)
    assert list(found) == ["bass", "drums", "guitar", "piano"]
    assert all(np.array_equal(wave, stem) for wave, stem in zip(found.values(), stems.numpy(), strict=True))
    assert list(plots.as_named_tracks({1: stems[0], "mix": stems[1]})) == ["1", "mix"]
    for given, says in ((stems[:3], r"not Tensor of shape .*3, 10"),
                        (stems[0], r"array \(4, T\) of bass, .*, not Tensor"), ({}, "no track"),
                        ({"a": stems}, "track 'a' must have the shape")):
        with pytest.raises(InputError, match=says):
            plots.as_named_tracks(given)


@pytest.mark.parametrize("amplitude, level", [(1.0, 0.0), (0.1, -20.0), (0.001, -60.0)])
def test_levels_are_those_of_a_sine_in_the_band_of_its_frequency(amplitude, level):
    """In decibels re an amplitude of one; a band two octaves away has the side lobes of the window alone."""
    edges = np.array([100.0, 400.0, 1600.0, 6400.0])
    wave = amplitude * np.sin(2 * np.pi * 800 * np.arange(2 * RATE) / RATE)
    found = plots.stft_levels(wave.astype(np.float32), RATE, edges, 50)
    assert found.shape == (3, 50)
    assert found[1, 5:-5] == pytest.approx(np.full(40, level), abs=0.1)
    assert (found[[0, 2], 5:-5] < level - 40).all()


def test_the_level_of_silence_is_the_floor():
    found = plots.stft_levels(np.zeros(RATE, np.float32), RATE, np.array([50.0, 500.0, 5000.0]), 7)
    assert found == pytest.approx(np.full((2, 7), -120.0), abs=1e-3)


def test_a_spectrogram_shows_the_range_that_was_asked_for():
    axes = [spectrogram(band(0.5)["piano"], colorbar=colorbar, **settings)
            for colorbar, settings in ((False, {"top": -10.0, "depth": 30}), (True, {}))]
    low, high = axes[0].collections[0].get_clim()
    assert (low, high) == (-40.0, -10.0) and len(axes[0].figure.axes) == 1
    mesh = axes[1].collections[0]
    assert mesh.get_clim() == pytest.approx((mesh.get_array().max() - 70, mesh.get_array().max()))
    assert len(axes[1].figure.axes) == 2  # and a bar of its colours
    matplotlib.pyplot.close("all")


def test_a_waveform_is_drawn_against_seconds_on_the_axes_that_are_given():
    _, ax = matplotlib.pyplot.subplots()
    assert waveform([0.0, 0.5, -0.25, 0.0], sample_rate=4, ax=ax) is ax
    line, = ax.lines
    assert line.get_xdata().tolist() == [0, 0.25, 0.5, 0.75] and line.get_ydata().tolist() == [0, 0.5, -0.25, 0]
    assert ax.get_xlim() == (0, 1) and line.get_color() == COLOURS["mix"]
    matplotlib.pyplot.close("all")
