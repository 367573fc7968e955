from dataclasses import replace

import pytest
import torch

from msdm_lite.diffusion.conditioning import Conditioning
from msdm_lite.errors import InputError
from msdm_lite.models import weights
from msdm_lite.models.config import WaveConfig, preset
from msdm_lite.models.joint import Model
from msdm_lite.models.unet1d import UNet1dConfig
from msdm_lite.models.weights import build
from msdm_lite.training import loop
from msdm_lite.training.finetune import start_from
from msdm_lite.training.recipe import Recipe
from tests.conftest import losses
from tests.training.test_statistics import Noise


def test_a_run_can_start_with_the_weights_of_another(recipe, tmp_path):
    first = loop.train(recipe, tmp_path / "first", progress=False)
    path = loop.train(replace(recipe, start=str(first), steps=9), tmp_path / "second", progress=False)
    assert list(losses(tmp_path / "second")) == [7, 8, 9]  # what the first had done counts, and its crops are past
    before, after = weights.load(first), weights.load(path)
    assert after.record["steps"] == 9 and after.record["before"] == before.record
    assert f"--start {first}" in after.record["command"]
    assert torch.equal(after.denoiser.std, before.denoiser.std)
    own = dict(after.named_parameters())
    assert 0 < max((own[name] - value).abs().max() for name, value in before.named_parameters()) < 0.1
    for other, says in ((replace(recipe, start=str(first)), "6 steps behind it"),
                        (replace(recipe, start=str(first), preset="lite", steps=9), "is no lite"),
                        (replace(recipe, start="nowhere", steps=9), "no model 'nowhere'")):
        with pytest.raises(InputError, match=says):
            loop.train(other, tmp_path / "third", progress=False)
    assert not (tmp_path / "third").exists()


def test_it_begins_by_ignoring_the_sketch(tiny, decoder):
    """Weights for what is new begin at zero: the same answers as before, with a sketch and without."""
    x, sigma = torch.randn(2, 4, 1024, 48), torch.tensor([0.1, 1.0])
    for conditioning in (None, Conditioning.on_mixture(x), Conditioning.on_stems(x, [0, 2])):
        want = tiny.denoise(x, sigma, conditioning)
        torch.testing.assert_close(decoder.denoise(x, sigma, conditioning), want, rtol=1e-4, atol=1e-5)
        heard = (conditioning or Conditioning.none(x)).with_conditions(sketch=torch.randn(2, 4, 96, 48))
        found = decoder.denoise(x, sigma, heard)
        torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)


def test_weights_of_other_sizes_are_refused(tiny):
    small = build(replace(tiny.config, widths=(16, 48, 64)))
    with pytest.raises(InputError, match="other sizes"):
        start_from(tiny, small, Recipe(preset="tiny", steps=10**9), tiny.stems)


FOUR = ("bass", "drums", "other", "vocals")
TURNED = ("vocals", "bass", "other", "drums")
PAPER = UNet1dConfig(channels=32, patch=4, multipliers=(1, 2, 2), factors=(2, 2), blocks=(1, 1), attention=(0, 1),
                     heads=2, head_width=4, groups=2)  # the paper's patch block, small


def begun(config, stems):
    """A model of these stems with random weights, and the recipe of a run that starts from it with other stems."""
    model = build(replace(config, stems=stems) if isinstance(config, WaveConfig) else preset(config.preset, stems))
    for value in model.state_dict().values():
        value.copy_(0.1 * torch.randn(value.shape))
    if isinstance(getattr(model.denoiser, "std", None), torch.Tensor):
        model.denoiser.std.abs_().add_(0.01)
    return model.eval().requires_grad_(False)


def continued(model, stems, measure=None):
    """A model of other stems that was started from `model`."""
    wanted = replace(model.config, stems=stems)
    new = build(model.config.finetuned(wanted))
    fresh = {name: value.clone() for name, value in new.state_dict().items()}
    start_from(model, new, Recipe(preset=model.config.preset, stems=stems, steps=10**9, start="before"), stems, measure)
    return new.eval().requires_grad_(False), fresh


@pytest.mark.parametrize("config", [preset("tiny"), preset("lite"), preset("lite-sketch"), preset("lite-guided"),
                                    preset("tiny-wave"), WaveConfig("small", net=PAPER)], ids=lambda c: c.preset)
def test_another_order_of_the_stems_is_the_same_function(config):
    """Up to that order, whatever is known."""
    model = begun(config, FOUR)
    other, _ = continued(model, TURNED)
    order = [FOUR.index(stem) for stem in TURNED]
    x, sigma = torch.randn(2, 4, 96 if not model.makes_sound else model.config.bins, 16), torch.tensor([0.1, 1.0])
    known: list = [(None, None)]
    if model.takes_conditioning:
        known.append((Conditioning.on_stems(x, [0, 2]), Conditioning.on_stems(x, [1, 2])))
        known += [(Conditioning.on_mixture(x),) * 2] if model.makes_sound else []
    for before, after in known:
        want = model.denoise(x, sigma, before)[:, order]
        assert want.std() > 0.01
        torch.testing.assert_close(other.denoise(x[:, order], sigma, after), want, rtol=1e-4, atol=1e-4)


def test_a_sketch_goes_to_its_stem_in_another_order():
    model = begun(preset("lite"), FOUR)
    other, _ = continued(model, TURNED)
    order = [FOUR.index(stem) for stem in TURNED]
    x, sigma, sketch = torch.randn(1, 4, 1024, 16), torch.tensor([0.3]), torch.randn(1, 4, 96, 16)
    want = model.denoise(x, sigma, Conditioning.none(x).with_conditions(sketch=sketch))[:, order]
    assert (want - model.denoise(x, sigma)[:, order]).abs().max() > 0.01
    found = other.denoise(x[:, order], sigma, Conditioning.none(x).with_conditions(sketch=sketch[:, order]))
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-4)


def test_new_stems_begin_anew_and_the_message_names_them(said):
    model = begun(preset("tiny"), ("bass", "drums", "guitar", "piano"))
    measured = torch.rand(4, 1024) + 1
    new, fresh = continued(model, FOUR, lambda: measured)
    assert torch.equal(new.denoiser.std[:2], model.denoiser.std[:2])  # bass and drums
    assert torch.equal(new.denoiser.std[2:], measured[2:])
    depth, before = new.denoiser.net.space_to_depth, model.denoiser.net.space_to_depth
    for own, start, made in zip(depth.project_out, before.project_out, (0, 1, 2), strict=True):
        own_rows, rows = (w.weight.unflatten(0, (3, 4, -1)) for w in (own, start))  # a, g, w; stems; bins and frames
        assert torch.equal(own_rows[:, :2], rows[:, :2]) and not own_rows[:, 2:].any()
        columns, given = (w.project_in[made].weight.unflatten(1, (10, -1)) for w in (depth, before))
        first = fresh[f"denoiser.net.space_to_depth.project_in.{made}.weight"].unflatten(1, (10, -1))
        kept, anew = [0, 1, 4, 5, 6, 9], [2, 3, 7, 8]  # stems and their energies, each followed by the mixture's
        assert torch.equal(columns[:, kept], given[:, kept]) and torch.equal(columns[:, anew], first[:, anew])
    assert torch.equal(new.denoiser.net.down[1][0].conv1.weight, model.denoiser.net.down[1][0].conv1.weight)
    (line,) = said()
    values = new.state_dict()
    anew = 2 * 1024 + 2 * len(values["denoiser.embed.layers.0.weight"])  # std; flags
    for i in range(3):
        anew += values[f"denoiser.net.space_to_depth.project_in.{i}.weight"].numel() * 4 // 10
        anew += values[f"denoiser.net.space_to_depth.project_out.{i}.weight"].numel() // 2
        anew += values[f"denoiser.net.space_to_depth.project_out.{i}.bias"].numel() // 2
    share = 100 * (1 - anew / sum(value.numel() for value in values.values()))
    assert line == (f"before: {share:.1f} % of the weights are reused; new: other, vocals; kept: bass, drums; "
                    "left out: guitar, piano")


def test_another_number_of_stems(tiny, said):
    one, _ = continued(tiny, ("drums",), lambda: torch.zeros(1, 1024))
    assert torch.equal(one.denoiser.std, tiny.denoiser.std[1:2])  # nothing is new, and nothing is measured
    five, _ = continued(tiny, (*tiny.stems, "vocals"), lambda: torch.arange(5.0)[:, None].expand(5, 1024))
    assert torch.equal(five.denoiser.std[:4], tiny.denoiser.std) and (five.denoiser.std[4] == 4).all()
    assert "left out: bass, guitar, piano" in said()[0] and "new: vocals; kept: bass, drums, guitar, piano" in said()[1]


def test_other_stems_are_named(tiny):
    """A run without --stems is of those of the corpus: a start of others is no mistake to pass over."""
    model = begun(preset("tiny"), FOUR)
    with pytest.raises(InputError, match="of bass, drums, guitar, piano but of bass, drums, other, vocals: name"):
        start_from(model, build(tiny.config), Recipe(preset="tiny", steps=10**9, start="before"), tiny.stems)


def test_a_run_starts_from_a_model_of_other_stems(recipe, tmp_path, said):
    first = loop.train(replace(recipe, steps=1), tmp_path / "first", progress=False)
    path = loop.train(replace(recipe, start=str(first), stems=("bass", "guitar"), steps=2), tmp_path / "second",
                      progress=False)
    before, after = weights.load(first), weights.load(path)
    assert after.stems == ("bass", "guitar") and after.record["steps"] == 2
    assert torch.equal(after.denoiser.std, before.denoiser.std[[0, 2]])
    assert any("kept: bass, guitar; left out: drums, piano" in line for line in said())


def test_songs_are_brought_to_the_level_of_the_model_they_fine_tune(recipe, tmp_path, monkeypatch):
    """Songs 20 dB softer than those before: the network gets what it was trained on, in training and validation."""
    first = loop.fit(build(preset("tiny")), [Noise((0.06,) * 4, name=f"a{i}") for i in range(2)],
                     replace(recipe, steps=1), tmp_path / "first", progress=False)
    soft, seen = [Noise((0.006,) * 4, name=f"b{i}") for i in range(2)], []
    monkeypatch.setattr(loop, "songs_of", lambda data, split, *_, **__: soft)
    real = Model.loss
    monkeypatch.setattr(Model, "loss", lambda self, x, *others: seen.append(x.std().item()) or real(self, x, *others))
    recipe = replace(recipe, start=str(first), steps=3, gain_db=0.0, silence=0.0, detune=0.0)
    made = weights.load(loop.train(recipe, tmp_path / "second", progress=False))
    assert seen == pytest.approx([0.06] * len(seen), rel=0.03) and len(seen) > 2
    assert made.stem_rms == weights.load(first).stem_rms == pytest.approx(0.06, rel=0.05)
