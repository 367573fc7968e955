"""Free music and tools from Debian packages, fetched and unpacked without root into the cache.

Data card: `data/README.md`.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from msdm_lite.errors import MachineError
from msdm_lite.utils.paths import cache


def fetch(package: str) -> Path:
    """The root folder of an unpacked Debian package, which is downloaded on the first call.

    Raises:
        MachineError: there is no `apt-get` on this machine, or it cannot fetch the package.
    """
    folder = cache("debian", package)
    if folder.is_dir():
        return folder
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise MachineError(
            f"the package {package} comes from Debian, and this machine has no apt-get; "
            f"unpack it by hand into {folder}"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Unpacked in a scratch folder and renamed at the end, so that a folder that exists is complete.
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        got = subprocess.run(["apt-get", "download", package], cwd=scratch, capture_output=True, text=True)
        files = list(Path(scratch).glob("*.deb"))
        if got.returncode or not files:
            why = (got.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise MachineError(f"apt-get cannot download {package} ({why}); `apt-get update` may help")
        opened = subprocess.run(["dpkg-deb", "-x", str(files[0]), f"{scratch}/root"], capture_output=True, text=True)
        if opened.returncode:
            raise MachineError(f"the package {package} cannot be unpacked ({opened.stderr.strip()})")
        try:
            Path(scratch, "root").rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process has unpacked it meanwhile
                raise
    return folder
