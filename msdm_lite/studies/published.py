"""Published numbers and settings for comparison with ours: Mariani et al., arXiv 2302.02257, and its code.

Separation is of the test split of Slakh2100: SI-SDR improvement in dB, mean over the four stems. The numbers are not
directly comparable with ours: the music differs, the models are sixty times as large, segments last 12 s, and silent
stems are scored. The figures are as other texts quote them; what no text at hand states is not here. The settings are
those of the released configuration files, each with its file in the repository `CODE`. Chapter:
`book/10-measuring.ipynb`.
"""

from dataclasses import dataclass

from msdm_lite.training.recipe import OFFICIAL_SINGLE

# (model, method, with correction steps) -> dB
SEPARATION = {
    ("joint", "dirac", True): 16.48, ("joint", "dirac", False): 14.92,
    ("joint", "gaussian", True): 14.54, ("joint", "gaussian", False): 12.90,
    ("independent", "dirac", True): 17.27, ("independent", "dirac", False): 16.30,
    ("independent", "gaussian", True): 14.58, ("independent", "gaussian", False): 13.67,
}
# The same by instrument: bass, drums, guitar, piano. The other rows of the paper's table are quoted nowhere in full
STEMS = {
    ("joint", "dirac", True): (17.12, 18.68, 15.38, 14.73),
    ("independent", "dirac", True): (19.36, 20.90, 14.70, 14.13),
}
SUPERVISED = {"Demucs": 16.11, "Demucs + Gibbs (512 steps)": 17.73}
FAD = {"joint model": 6.55, "model of mixtures": 6.67}  # of generated mixtures, VGGish
# 32 listeners, scale to 10: (quality, coherence)
LISTENING = {"joint model": (6.51, 6.35), "model of mixtures": (6.15, 5.67)}
SECONDS = {"joint": 4.6, "independent": 18.4, "Demucs": 0.11}  # for 12 s of music, on an A6000
# Sub-FAD (VGGish) of mixtures in which these stems are generated and the others given; of other stems no figure is
# quoted
SUB_FAD = {"guitar": 0.11, "bass, guitar, piano": 4.90}

CODE = "github.com/gladia-research-group/multi-source-diffusion-models, commit 487fe34"


@dataclass(frozen=True)
class Settings:
    """Released settings of a sampler.

    Attributes:
        steps: noise levels, without the final 0.
        sigma_max, sigma_min: the first level, and the last above 0.
        churn: S_churn.
        corrections: R, how often each level is sampled.
        own: settings of the guidance, by name. `gamma` is that of the released code, which divides by 2 gamma^2;
            `guidance.gaussian` divides by gamma^2, so its c is gamma sqrt(2).
        source: the file in `CODE` that states them.
        rho: exponent of the Karras schedule.
    """

    steps: int
    sigma_max: float
    sigma_min: float
    churn: float
    corrections: int
    own: dict[str, float]
    source: str
    rho: float = 7.0


# (model, method or task). The levels of separation are in evaluation/experiments.py, for all four
SETTINGS = {
    ("joint", "dirac"): Settings(150, 1.0, 1e-4, 20.0, 2, {"constrained_stem": 0}, "exp/eval_msdm_dirac.yaml"),
    ("joint", "gaussian"): Settings(150, 1.0, 1e-4, 40.0, 2, {"gamma": 0.75}, "exp/eval_msdm_gaussian.yaml"),
    ("independent", "dirac"): Settings(150, 1.0, 1e-4, 40.0, 2, {"constrained_stem": 0},
                                       "exp/eval_weakly_msdm_dirac.yaml"),
    ("independent", "gaussian"): Settings(150, 1.0, 1e-4, 40.0, 2, {"gamma": 0.75},
                                          "exp/eval_weakly_msdm_gaussian.yaml"),
    ("joint", "generation"): Settings(150, 20.0, 1e-4, 20.0, 1, {}, "notebooks/MSDM-generation.ipynb"),
    ("joint", "imputation"): Settings(256, 20.0, 1e-4, 10.0, 1, {}, "notebooks/MSDM-generation.ipynb"),
}
# Of the score: (value, file in `CODE`). Lengths in seconds
SCORING = {
    "window": (4.0, "evaluation/evaluate_separation.py"), "hop": (2.0, "evaluation/evaluate_separation.py"),
    "eps": (1e-8, "evaluate.py"), "silent": (1.5e-5, "main/data.py"),
    "chunk": (262_144, "evaluation/experiments.py"), "sample_rate": (22_050, "evaluate.py"),
}
# Of the network and its training, in exp/train_msdm.yaml: names of `models.unet1d.UNet1dConfig` and `models.config`
NETWORK = {
    "stems": 4, "channels": 256, "patch": 16, "multipliers": (1, 2, 4, 4, 4, 4, 4), "factors": (4, 4, 4, 2, 2, 2),
    "blocks": (2,) * 6, "attention": (0, 0, 0, 1, 1, 1), "heads": 8, "head_width": 128, "feed_forward": 2, "groups": 8,
    "segment": 262_144,
}
SIGMA_DATA, LEVELS = 0.2, (-3.0, 1.0)  # of the data; mean and standard deviation of ln sigma in training
# Learning rate and batch of training, by the file in `CODE`
TRAINING = {"joint": (1e-4, 8, "exp/train_msdm.yaml"),
            "independent": (*OFFICIAL_SINGLE.values(), "exp/train_weakly_msdm.yaml")}
