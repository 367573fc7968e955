"""Published numbers for comparison with ours: Mariani et al., arXiv 2302.02257, table 1 and section 5.

Separation is of the test split of Slakh2100: SI-SDR improvement in dB, mean over the four stems. The numbers are not
directly comparable with ours: the music differs, the models are sixty times as large, segments last 12 s, and silent
stems are scored. Chapter: `book/10-measuring.ipynb`.
"""

# (model, method, with correction steps) -> dB
SEPARATION = {
    ("joint", "dirac", True): 16.48, ("joint", "dirac", False): 14.92,
    ("joint", "gaussian", True): 14.54, ("joint", "gaussian", False): 12.90,
    ("independent", "dirac", True): 17.27, ("independent", "dirac", False): 16.30,
    ("independent", "gaussian", True): 14.58, ("independent", "gaussian", False): 13.67,
}
# The same by instrument: bass, drums, guitar, piano
STEMS = {
    ("joint", "dirac", True): (17.12, 18.68, 15.38, 14.73),
    ("independent", "dirac", True): (19.36, 20.90, 14.70, 14.13),
}
SUPERVISED = {"Demucs": 16.11, "Demucs + Gibbs (512 steps)": 17.73}
FAD = {"joint model": 6.55, "model of mixtures": 6.67}  # of generated mixtures, VGGish
# 32 listeners, scale to 10: (quality, coherence)
LISTENING = {"joint model": (6.51, 6.35), "model of mixtures": (6.15, 5.67)}
SECONDS = {"joint": 4.6, "independent": 18.4, "Demucs": 0.11}  # for 12 s of music, on an A6000
# Sub-FAD (VGGish) of mixtures in which these stems are generated and the others given. All values are second-hand:
# guitar, and bass, guitar, piano, are as other texts quote them; the others are from memory and not checked
SUB_FAD = {
    "bass": 0.45, "drums": 1.09, "guitar": 0.11, "piano": 0.76, "bass, drums": 2.09, "bass, guitar": 1.00,
    "bass, piano": 2.32, "drums, guitar": 1.45, "drums, piano": 1.82, "guitar, piano": 1.65,
    "bass, drums, guitar": 2.93, "bass, drums, piano": 3.30, "bass, guitar, piano": 4.90, "drums, guitar, piano": 3.10,
}
