"""For `pytest --nbmake book`: chapters run as in the static page.

A widget that captures what a cell shows makes nbclient send on the very socket on which it waits for the end of the
cell; now and then it then waits for ever. That widgets answer is tested in a kernel without nbclient
(`tests/test_live.py`).
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("msdm_lite/**/*.py", "msdm_lite/**/*.html", "data/*/*", "requirements.txt", "pyproject.toml")


def fresh(chapter: Path) -> bool:
    """Was this chapter run in full after everything it is made from was last changed?"""
    full = ROOT / "build" / "chapters" / chapter.name
    sources = [chapter, *(path for pattern in SOURCES for path in ROOT.glob(pattern) if path.is_file())]
    return full.exists() and full.stat().st_mtime > max(path.stat().st_mtime for path in sources)


def pytest_collection_modifyitems(config, items):
    """Where it is asked for, chapters whose full run is newer than their sources are not run once more."""
    if os.environ.get("MSDM_LITE_FRESH_CHAPTERS") != "skip":
        return
    done = [item for item in items if item.path.suffix == ".ipynb" and fresh(item.path)]
    if done:
        items[:] = [item for item in items if item not in done]
        config.hook.pytest_deselected(items=done)


def pytest_terminal_summary(terminalreporter):
    """Which these are; with several workers, the process that prints collects nothing itself."""
    if os.environ.get("MSDM_LITE_FRESH_CHAPTERS") == "skip":
        for path in sorted((ROOT / "book").glob("*.ipynb")):
            if fresh(path):
                terminalreporter.write_line(f"not run again, for the full run is newer than its sources: {path.name}")


os.environ.setdefault("MSDM_LITE_STATIC", "1")
