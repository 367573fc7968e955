import json

import pytest

from msdm_lite.errors import InputError
from msdm_lite.models.config import Config, preset
from msdm_lite.models.weights import build


def test_presets_of_some_stems():
    assert preset("lite", ("piano", "bass")).stems == ("bass", "piano")
    one = preset("base", ("drums",))
    assert one.stems == ("drums",) and one.net.stems == 1 and build(one).denoiser.net.config.stems == 1
    for stems in ((), ("flute",), ("bass", "bass")):
        with pytest.raises(InputError, match="stems are some of"):
            preset("lite", stems)


def test_config_survives_json():
    config = preset("lite")
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
