"""A small checkpoint as the official code writes it."""

from collections import OrderedDict

import pytest
import torch

from msdm_lite.errors import InputError
from msdm_lite.models import official
from msdm_lite.models.official import load_official, official_names
from msdm_lite.models.unet1d import UNet1d, UNet1dConfig

TINY = UNet1dConfig(channels=8, patch=2, multipliers=(1, 2, 2), factors=(2, 2), blocks=(1, 1), attention=(0, 1),
                    heads=2, head_width=4, groups=2)
HYPER = {"attention_heads": 2, "resnet_groups": 2, "diffusion_sigma_data": 0.3}
NAME = "model.unet.to_mapping.0.weight"  # (32, 32)


def official_state(net: UNet1d) -> dict[str, torch.Tensor]:
    """The net's weights as the official code stores them: the old library's names, and all of it twice."""
    own, state = net.state_dict(), OrderedDict()
    for name, parts in official_names(net).items():
        for (old, shape), value in zip(parts, own[name].split([shape[0] if len(parts) > 1 else len(own[name])
                                                               for _, shape in parts]), strict=True):
            state[old] = value.reshape(shape).clone()
    return OrderedDict((prefix + old, value) for prefix in official.PREFIXES for old, value in state.items())


def refuses(path, match):
    with pytest.raises(InputError, match=match) as caught:
        load_official(path)
    assert "\n" not in str(caught.value)
