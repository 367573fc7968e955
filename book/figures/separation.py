"""Makes what the front page shows: separation.png and listen.html. Run `python book/figures/separation.py [FOLDER]`."""

import sys
from pathlib import Path

import msdm_lite
from msdm_lite.data import example_clips
from msdm_lite.notebook import player as notebook_player
from msdm_lite.notebook import plots

folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
model = msdm_lite.load("lite")
entry = example_clips.clips("band")[0]  # the first of the list, as in chapter 7
mix = example_clips.clip(entry["name"]).sum(0)
found = dict(zip(model.stems, msdm_lite.separate(mix, model), strict=True))

figure = plots.spectrograms({"mix": mix, **found})
figure.set_size_inches(10.5, 2.6)
figure.savefig(folder / "separation.png", dpi=130)
player = notebook_player.mixer(groups={"The mix": {"mix": mix}, "Separated": found}, selected="Separated",
                      title="Press play, then mute and solo the stems that the model estimated from the mix")
(folder / "listen.html").write_text(player.data)
