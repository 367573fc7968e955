"""Names of the stems, and the sample rate of the corpus and its models.

Chapter: `book/01-sources-and-context.ipynb`.
"""

STEMS = ("bass", "drums", "guitar", "piano")
MIX = "mix"  # the only "stem" of a model of the mixture
SAMPLE_RATE = 22050
