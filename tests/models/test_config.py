import json
from dataclasses import replace

import pytest
import torch

from msdm_lite.audio.io import STEMS
from msdm_lite.errors import InputError
from msdm_lite.models import config
from msdm_lite.models.base import TrainingDefaults
from msdm_lite.models.config import WaveConfig, preset
from msdm_lite.models.weights import build


def test_presets_of_some_stems():
    assert preset("lite", ("piano", "bass")).stems == ("piano", "bass")  # in the order that is asked for
    assert preset("tiny", ["vocals", "lead synth"]).stems == ("vocals", "lead synth")
    one = preset("base", ("drums",))
    assert one.stems == ("drums",) and one.net.stems == 1 and build(one).denoiser.net.config.stems == 1
    for stems in ((), ("bass", "bass"), ("../flute",), ("",)):
        with pytest.raises(InputError, match="stems are names such as bass, drums, guitar, piano, each once"):
            preset("lite", stems)
    with pytest.raises(InputError, match="mix is the sum of the stems"):
        preset("lite", ("mix", "bass"))


@pytest.mark.parametrize("name", config.PRESETS | config.WAVE_PRESETS)
def test_a_preset_has_its_own_name_and_survives_json(name):
    one = preset(name)
    assert one.preset == name and one.stems in (STEMS, ("mix",))
    stored = json.loads(json.dumps(one.to_dict()))
    assert type(one).from_dict(stored) == one and (stored.get("front") == "wave") == isinstance(one, WaveConfig)


def test_a_waveform_is_cut_into_blocks_of_the_networks_downsampling():
    """The paper's segment of 262 144 samples, 2^18, in blocks of 2^13."""
    paper = preset("paper")
    assert (paper.bins, paper.frames) == (8192, 32) and paper.bins * paper.frames == paper.net.segment
    assert (paper.sigma_data, paper.levels) == (0.2, (-3.0, 1.0))  # as published
    assert preset("tiny-wave").levels == TrainingDefaults.levels


def test_a_preset_of_some_stems_changes_nothing_else():
    assert preset("lite") == preset("lite", STEMS) == config.PRESETS["lite"]
    assert preset("lite", ["piano"]) == replace(preset("lite"), stems=("piano",))
    wave = preset("base", ["piano", "bass"])
    assert wave == replace(preset("base"), stems=("piano", "bass"), net=replace(preset("base").net, stems=2))


def test_presets_that_do_not_exist_or_take_no_stems():
    with pytest.raises(InputError, match="no preset 'huge'; there are lite, "):
        preset("huge")
    assert preset("lite-mix").stems == ("mix",)
    with pytest.raises(InputError, match="takes no stems"):
        preset("lite-mix", ("bass",))


def test_four_models_of_one_stem_have_the_size_of_a_joint_one():
    """To a quarter: most weights of a U-Net grow with the square of its width, and these have half of it."""

    def size(name, stems=None):
        with torch.device("meta"):
            return sum(value.numel() for value in build(preset(name, stems)).parameters())

    assert 4 * size("lite-single", ("bass",)) == pytest.approx(size("lite"), rel=0.25)
    assert size("lite-small") == pytest.approx(size("lite-single", ("bass",)), rel=0.25)
    assert 3 * size("lite") < size("large") < 5 * size("lite")
