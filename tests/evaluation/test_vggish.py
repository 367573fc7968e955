"""VGGish through its library, with random weights: the true ones are not on every machine."""

import sys
from urllib.error import URLError

import pytest
import torch

from msdm_lite.audio import io as audio_io
from msdm_lite.errors import InputError, MachineError
from msdm_lite.evaluation import vggish
from msdm_lite.utils import paths

torchvggish = pytest.importorskip("torchvggish.torchvggish")


@pytest.fixture
def weights(monkeypatch):
    """Random weights in place of those that are fetched; and what was asked of the fetching."""
    torch.manual_seed(0)
    asked = {}
    plain = torchvggish.VGG(torchvggish.make_layers(), postprocess=False)

    def fetch(url, **settings):
        asked.update(settings, url=url)
        return plain.state_dict()

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fetch)
    vggish.network.cache_clear()
    yield plain.eval(), asked
    vggish.network.cache_clear()


def test_windows_of_a_second_become_points_as_the_library_makes_them(weights):
    """But for the last ReLU, which FAD leaves out: where it lets a number pass, it is the same one."""
    from torchvggish import vggish_input

    plain, asked = weights
    wave = 0.1 * torch.randn(2, 22050 * 3)
    got = vggish.embed(wave)
    assert got.shape == (2, 3, 128) and (got < 0).any()
    heard = audio_io.resample(wave, 22050, 16000)[1].double().numpy()
    with torch.no_grad():
        want = plain(vggish_input.waveform_to_examples(heard, 16000).detach())
    torch.testing.assert_close(got[1].clamp(min=0), want)
    assert asked["check_hash"] and asked["weights_only"]
    assert asked["model_dir"] == str(paths.cache("vggish"))


def test_what_cannot_be_embedded(weights, monkeypatch):
    with pytest.raises(InputError, match="a second of sound"):
        vggish.embed(torch.zeros(1, 1000))

    def nowhere(url, **settings):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", nowhere)
    vggish.network.cache_clear()
    with pytest.raises(MachineError, match="cannot be fetched"):
        vggish.embed(torch.zeros(1, 22050))
    with monkeypatch.context() as older:
        older.setattr(torch, "__version__", "2.5.1+cpu")
        with pytest.raises(MachineError, match=r"2\.6 or newer"):
            vggish.embed(torch.zeros(1, 22050))
    monkeypatch.setitem(sys.modules, "torchvggish.torchvggish", None)
    with pytest.raises(MachineError, match="pip install torchvggish"):
        vggish.embed(torch.zeros(1, 22050))
