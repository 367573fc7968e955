"""Real recordings: a guitar and the rest of the band, from two Debian packages of songs for the game Frets on Fire.

They are for tests of models on music that no synthesizer rendered. They have two sources instead of four stems: the
guitar, and all other instruments in one track. Data card: `data/README.md`.
"""

import configparser
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msdm_lite.audio import io as audio_io
from msdm_lite.audio.levels import peak_safe
from msdm_lite.data import debian
from msdm_lite.errors import InputError
from msdm_lite.utils.files import written_whole
from msdm_lite.utils.paths import cache

ROWS = ("guitar", "rest")
FOLDER = "usr/share/games/fretsonfire/data/songs"
LICENCES = {"fretsonfire-songs-sectoid": "MIT", "fretsonfire-songs-muldjord": "CC-BY-SA-3.0"}


@dataclass(frozen=True)
class Recording:
    """A recorded song. It is read like a track of `msdm_lite.data.readers`, with the rows guitar and rest."""

    name: str
    source: str  # the Debian package
    licence: str
    artist: str
    folder: Path
    split: str = "test"
    stems: tuple[str, ...] = ROWS

    def _whole(self) -> np.ndarray:
        target = cache("corpus", "recordings", f"{self.name}.npy")
        if not target.exists():
            rows = [audio_io.load(self.folder / f"{part}.ogg").numpy().reshape(-1) for part in ("guitar", "song")]
            stems = np.zeros((2, max(map(len, rows))), np.float32)
            for out, row in zip(stems, rows, strict=True):
                out[: len(row)] = row
            stems = stems * peak_safe(stems, np.ones(2)).astype(np.float32)[:, None]  # both are at full scale
            with written_whole(target) as scratch, open(scratch, "wb") as file:
                np.save(file, np.round(stems * 32767).astype(np.int16))
        return np.load(target, mmap_mode="r")

    @property
    def samples(self) -> int:
        """Length at 22 050 Hz."""
        return self._whole().shape[1]

    def read(self, start: int = 0, count: int | None = None) -> np.ndarray:
        """`count` samples from `start` on, to the end if None: (2, count) float32, guitar and rest, zeros past the end.

        Raises:
            InputError: the recording cannot be read.
        """
        whole = self._whole()
        count = whole.shape[1] - start if count is None else count
        found = whole[:, start : start + count].astype(np.float32) / 32767
        return np.pad(found, ((0, 0), (0, count - found.shape[1])))


def recordings() -> list[Recording]:
    """All recordings, in order of name; the packages are fetched on the first call.

    Raises:
        InputError: there is no `apt-get` on this machine, or the packages hold no such songs.
    """
    found = []
    for package, licence in LICENCES.items():
        for about in sorted((debian.fetch(package) / FOLDER).glob("*/*/song.ini")):
            if not all((about.parent / f"{part}.ogg").is_file() for part in ("guitar", "song")):
                continue
            ini = configparser.ConfigParser(interpolation=None)
            ini.read(about, encoding="utf-8")
            artist = ini.get("song", "artist", fallback="").split(" - ")[0].removeprefix("Composed and performed by ")
            found.append(Recording(ini.get("song", "name", fallback=about.parent.name), package, licence, artist,
                                   about.parent))
    if not found:
        raise InputError("the packages of recordings hold no songs with guitar.ogg and song.ogg")
    return sorted(found, key=lambda recording: recording.name)
