"""Hyper-parameters of the official code: of OmegaConf, missing ones, contradictions, and what is not supported."""

import io
import logging
import pickle
import sys
import types
from dataclasses import replace

import pytest

from msdm_lite.errors import InputError
from msdm_lite.models import hyperparameters, official, unpickle
from msdm_lite.models.official import load_official
from msdm_lite.models.unet1d import PRESETS, UNet1d
from msdm_lite.models.unpickle import Inert
from tests.official import TINY, official_state, refuses

# What the published configuration says, for a network of the size of TINY
WHOLE = {"learning_rate": 1e-4, "beta1": 0.9, "beta2": 0.99, "in_channels": 4, "channels": 8, "patch_factor": 2,
         "patch_blocks": 1, "resnet_groups": 2, "kernel_multiplier_downsample": 2, "kernel_sizes_init": [1, 3, 7],
         "multipliers": [1, 2, 2], "factors": [2, 2], "num_blocks": [1, 1], "attentions": [False, True],
         "attention_heads": 2, "attention_features": 4, "attention_multiplier": 2, "use_nearest_upsample": False,
         "use_skip_scale": True, "use_attention_bottleneck": True, "use_context_time": True,
         "diffusion_sigma_data": 0.3, "diffusion_dynamic_threshold": 0.0}


@pytest.fixture
def omegaconf(monkeypatch):
    """wrap(value): the value in containers that are pickled as those of OmegaConf 2.3 are."""
    names = {"base": ["ContainerMetadata", "Metadata"], "dictconfig": ["DictConfig"], "listconfig": ["ListConfig"],
             "nodes": ["AnyNode"]}
    classes = {}
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    for module, kinds in names.items():
        made = types.ModuleType(f"omegaconf.{module}")
        monkeypatch.setitem(sys.modules, made.__name__, made)
        for kind in kinds:
            classes[kind] = type(kind, (), {"__module__": made.__name__})
            setattr(made, kind, classes[kind])

    def wrap(value, parent=None, key=None):
        found = classes["DictConfig" if isinstance(value, dict) else "ListConfig" if isinstance(value, list)
                        else "AnyNode"]()
        about = classes["Metadata" if type(found) is classes["AnyNode"] else "ContainerMetadata"]()
        # `object_type` is a type, which protocol 2 writes as __builtin__.long or __builtin__.unicode
        vars(about).update(ref_type=object, object_type=type(value), optional=True, key=key, flags={}, key_type=str)
        content = {k: wrap(v, found, k) for k, v in value.items()} if isinstance(value, dict) else [
            wrap(v, found, k) for k, v in enumerate(value)] if isinstance(value, list) else value
        vars(found).update({"_metadata": about, "_parent": parent,
                            "_val" if type(found) is classes["AnyNode"] else "_content": content})
        return found

    return wrap


@pytest.mark.parametrize("whole", [True, False])
def test_containers_of_omegaconf_are_used(content, save, omegaconf, whole):
    """They are pickled with protocol 2, in which `int` is `__builtin__.long`."""
    for settings in ({**WHOLE, "note": "text"}, WHOLE | {"diffusion_sigma_data": 0.7}):
        content["hyper_parameters"] = omegaconf(settings) if whole else {
            name: omegaconf(value) if isinstance(value, list) else value for name, value in settings.items()}
        path = save(content)
        assert b"c__builtin__\nlong\n" in path.read_bytes()
        model = load_official(path)
        assert model.net.config == TINY and model.sigma_data == settings["diffusion_sigma_data"]


@pytest.mark.parametrize(("change", "match"), [
    ({"diffusion_dynamic_threshold": 0.95}, r"has diffusion_dynamic_threshold 0\.95; supported is 0$"),
    ({"use_nearest_upsample": True}, "has use_nearest_upsample True; supported is False"),
    ({"use_skip_scale": False}, "has use_skip_scale False; supported is True"),
    ({"patch_blocks": 4}, "has patch_blocks 4; supported is 1"),
    ({"use_classifier_free_guidance": True}, "has use_classifier_free_guidance True, an option that is not supported"),
    ({"context_channels": [2]}, r"has context_channels \[2\], an option"),
    ({"diffusion_type": "v"}, "has diffusion_type v, an option"),
    ({"multipliers": [1, 2, 4]}, r"says multipliers \[1, 2, 4\], and its tensors say \[1, 2, 2\]"),
    ({"in_channels": 1}, "says in_channels 1, and its tensors say 4"),
    ({"attention_heads": 4}, "says attention_features 4, and its tensors say 2"),
    ({"attention_heads": 0}, "attention_heads is 0, not a whole number above 0"),
    ({"attention_heads": "${resnet_groups}"}, r"attention_heads is \$\{resnet_groups\}, not"),
    ({"resnet_groups": 2.0}, r"resnet_groups is 2\.0, not a whole number"),
    ({"resnet_groups": True}, "resnet_groups is True, not"),
    ({"resnet_groups": 10**5000}, "not finite, or far too large"),
    ({"diffusion_sigma_data": float("inf")}, "not finite"),
    ({"diffusion_sigma_data": float("nan")}, "not finite"),
    ({"diffusion_sigma_data": 1e-300}, "diffusion_sigma_data is 1e-300, out of reason"),
    ({"diffusion_sigma_data": "0.3"}, "diffusion_sigma_data is 0.3, not a number"),
    ({"learning_rate": float("inf")}, "not finite"),
    ({"attention_heads": None}, "attention_heads is None, not"),
    ({"more": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}, "nested far too deep"),
    ({"more": list(range(20_000))}, "far too many"),
])
def test_what_is_not_supported_is_named(content, save, change, match):
    refuses(save(content | {"hyper_parameters": WHOLE | change}), match)


def test_what_is_off_or_of_training_may_stand_there(content, save):
    more = {"use_stft": False, "context_features": None, "out_channels": 4, "seed": 3, "attentions": [0, 1]}
    assert load_official(save(content | {"hyper_parameters": WHOLE | more})).net.config == TINY


@pytest.mark.parametrize("settings", [None, {}, {"learning_rate": 1e-4}, {"attention_heads": 2, "resnet_groups": 2}])
def test_what_is_missing_is_named(content, save, settings):
    content["hyper_parameters"] = settings
    missing = [name for name in hyperparameters.PAPER if name not in (settings or {})]
    refuses(save(content), f"does not say {', '.join(missing)}, which no shape of its tensors shows")
    model = load_official(save(content), heads=2, groups=2, sigma_data=0.4)
    assert model.net.config == TINY and model.sigma_data == 0.4


def test_hyper_parameters_that_are_no_dictionary(content, save):
    refuses(save(content | {"hyper_parameters": [1, 2]}), "no dictionary")


def test_the_papers_are_assumed_only_of_the_papers_network():
    papers, one = PRESETS["paper"], replace(PRESETS["paper"], stems=1)
    for shape in (papers, one):
        assert hyperparameters.complete({"learning_rate": 1e-4}, shape) == (
            {"learning_rate": 1e-4, **hyperparameters.PAPER}, list(hyperparameters.PAPER))
        with pytest.raises(InputError, match="does not say diffusion_sigma_data"):  # 0.1 in the library, if left out
            hyperparameters.complete({"channels": 256, "attention_heads": 8, "resnet_groups": 8}, shape)
    for shape in (None, replace(papers, channels=128, head_width=64)):
        with pytest.raises(InputError, match="does not say attention_heads"):
            hyperparameters.complete({}, shape)


def test_the_assumption_is_said(monkeypatch, content, save, caplog):
    """With the small network in the paper's place."""
    monkeypatch.setitem(hyperparameters.PRESETS, "paper", TINY)
    monkeypatch.setattr(hyperparameters, "PAPER", {"attention_heads": 2, "resnet_groups": 2,
                                                   "diffusion_sigma_data": 0.2})
    monkeypatch.setattr(official.infer, "__defaults__", (2, 2))
    del content["hyper_parameters"]
    with caplog.at_level(logging.WARNING):
        assert load_official(save(content)).sigma_data == 0.2
    assert [entry.getMessage() for entry in caplog.records] == [
        "the checkpoint does not say attention_heads, resnet_groups, diffusion_sigma_data; its tensors are of the "
        "paper's network, so the paper's 2 and 2 and 0.2 are taken"]


def test_a_network_without_attention_does_not_show_its_multiplier(save):
    plain = replace(TINY, attention=(0, 0))
    content = {"hyper_parameters": WHOLE | {"attentions": [False, False], "attention_multiplier": 4},
               "state_dict": official_state(UNet1d(plain))}
    assert load_official(save(content)).net.config == plain


def test_a_node_keeps_its_content_and_nothing_else():
    """Also when a file calls `__setstate__` of the class, or nests nodes in each other."""
    node = b"comegaconf.nodes\nAnyNode\n"
    for program in (node + b"}(V_val\nV x\nub.", node + b"}(V_val\nV x\nVmore\nV y\nub."):
        unpickle.Reader(io.BytesIO(program)).load()  # BUILD of the class itself
        assert unpickle.Node.content is None and "more" not in vars(unpickle.Node)
    one = unpickle.Reader(io.BytesIO(b"\x80\x02" + node + b")\x81}(V_val\nV x\nVmore\nV y\nub.")).load()
    assert vars(one) == {"content": " x"}
    around = b"\x80\x02" + node + b")\x81q\x00}(V_val\nh\x00ub."
    with pytest.raises(InputError, match="nested far too deep"):
        hyperparameters.read(unpickle.Reader(io.BytesIO(around)).load())
    wide = b"\x80\x02]q\x00" + b"".join(b"(" + b"h%c" % n * 9 + b"lq%c" % (n + 1) for n in range(12)) + b"."
    with pytest.raises(InputError, match="far too many"):  # 9**12 values in 300 bytes
        hyperparameters.read({"a": unpickle.Reader(io.BytesIO(wide)).load()})


def test_objects_stay_closed():
    assert hyperparameters.said(Inert()) == "an object"
    found = hyperparameters.read({"sigma": Inert(), 3: "no name", "pickled": pickle.dumps(1)})
    assert set(found) == {"sigma", "pickled"} and isinstance(found["sigma"], Inert)
    assert hyperparameters.read(None) == {}
