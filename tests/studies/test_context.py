import json
from dataclasses import replace

import pytest
import torch

from msdm_lite.errors import InputError
from msdm_lite.models import weights
from msdm_lite.models.config import preset
from msdm_lite.models.independent import IndependentModels
from msdm_lite.models.joint import Model
from msdm_lite.studies import context
from tests.conftest import with_effect

FRAMES = 8


@pytest.fixture(scope="module")
def bands():
    return 0.05 * torch.randn(3, 2, 1024, FRAMES, generator=torch.Generator().manual_seed(3))


def small(*stems, seed=0):
    torch.manual_seed(seed)
    config = replace(preset("tiny", stems), frames=FRAMES)
    return with_effect(Model(config, torch.full((len(stems), 1024), 0.05)))


def test_independent_models_do_not_hear_the_others(bands):
    true, shuffled = context.errors(IndependentModels([small("bass"), small("drums", seed=1)]), bands, 0.1)
    assert torch.equal(true, shuffled) and true.shape == (3, 2)


def test_a_joint_model_does(bands):
    true, shuffled = context.errors(small("bass", "drums"), bands, 0.1)
    assert (true != shuffled).all()


def test_the_same_seed_gives_the_same(bands):
    model = small("bass", "drums")
    assert context.measure(model, bands, (0.1,)) == context.measure(model, bands, (0.1,))


def test_of_stems_that_are_the_same_in_all_songs_company_does_not_matter(bands):
    same = bands[:1].expand(3, -1, -1, -1)
    true, shuffled = context.errors(small("bass", "drums"), same, 0.1)
    assert torch.allclose(true, shuffled)


def test_one_song_has_no_other(bands):
    with pytest.raises(InputError, match="no other"):
        context.errors(small("bass", "drums"), bands[:1], 0.1)


def test_it_is_written_down(tmp_path):
    context.main(tmp_path / "c.json", "tiny", clips=2)
    found = json.loads((tmp_path / "c.json").read_text())
    assert len(found["rows"]) == len(context.LEVELS) * 4 and found["n"] == 2
    assert all(0 < row["true"] < 3 for row in found["rows"])


def test_what_cannot_be_measured_is_refused_before_it_is(tmp_path):
    with pytest.raises(InputError, match="0 clips"):
        context.main(tmp_path / "c.json", "tiny", clips=0)
    duo = weights.save(small("bass", "drums"), tmp_path / "duo.safetensors", {})
    with pytest.raises(InputError, match="bass, drums"):
        context.main(tmp_path / "c.json", str(duo))
