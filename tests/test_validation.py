import torch

from msdm_lite import validation
from msdm_lite.model import Model, preset


def test_pictures_do_not_wrap():
    """A crop's picture is a slice of its song's: what sounds at the end is not heard at the beginning."""
    model = Model(preset("tiny"))
    crop = torch.zeros(1, 4, validation.crop_samples(model))
    crop[..., -model.config.bins :] = torch.randn(model.config.bins)
    assert validation.pictures(model, crop)[..., :4].abs().max() < 1e-5
