"""Makes separation.png, the picture on the front page: `python book/figures/separation.py`."""

from pathlib import Path

import msdm_lite
from msdm_lite import evaluate, listen

model = msdm_lite.load("lite")
entry = evaluate.clips("band")[0]  # the first of the list, as in chapter 7
mix = evaluate.clip(entry["name"]).sum(0)
found = msdm_lite.separate(mix, model)
figure = listen.spectrograms({"mix": mix, **dict(zip(model.stems, found, strict=True))})
figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)
