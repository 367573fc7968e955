import re

import pytest

from msdm_lite.studies import published, results_table
from msdm_lite.utils.paths import data_folder


def test_the_readme_shows_the_results_of_now():
    readme = data_folder().parent / "README.md"
    if not readme.exists():
        pytest.skip("an installation without the repository")
    block = readme.read_text(encoding="utf-8").split("<!-- results: msdm-lite results --table -->\n")[1]
    shown = block.split("\n<!-- end of results -->")[0]
    assert shown == results_table.results_table(), "msdm-lite results --table prints it anew"


def test_every_row_has_the_figures_of_its_record(monkeypatch):
    """With records made up for the test: each of another mean, so that no row has the figures of another."""
    means = {"songs-band-mixture-known": 1.04, "songs-band-supervised": 2.0, "published-band-joint-dirac": -3.0,
             "published-band-joint-gaussian": 4.0, "published-band-independent-dirac": 5.0,
             "songs-composed-mixture-known": 6.0}

    def read(name):
        if name in means:
            mean = means[name]
            return {"settings": {"steps": 150 if "published" in name else 1, "seconds": 12.0}, "n": 62,
                    "model_record": {"minutes": 10 * abs(mean)},
                    "active": {"all": {"mean": mean, "low": mean - 0.5, "high": mean + 0.5}}}
        ratio = {"distance-generate": 0.8, "distance-generate-prior": 0.25}[name]
        return {"n": 300, "quality": {"heard": {"mean": ratio, "low": 0.5, "high": 0.875},
                                      "beat": {"ratio": ratio, "interval": [ratio - 0.1, ratio + 0.1]}}}

    monkeypatch.setattr("msdm_lite.evaluation.records.read", read)
    lines = results_table.results_table().splitlines()
    assert len(lines) == 13 and lines[1] == "|---|---|" and lines[-2] == ""
    assert all(line.count("|") == 3 and line.startswith("| ") for line in (lines[0], *lines[2:-2]))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:-2]]
    assert [figures for _, figures in cells] == [
        "1.0 dB [0.5, 1.5]", "2.0 dB [1.5, 2.5]", "-3.0 dB [-3.5, -2.5]", "4.0 dB [3.5, 4.5]", "5.0 dB [4.5, 5.5]",
        "6.0 dB [5.5, 6.5]", f"{published.SEPARATION['joint', 'dirac', True]:.1f} dB", "80% [50%, 88%]",
        "80% [70%, 90%]"]
    assert [re.findall(r"(\d+) levels|\((\d+) min", title) for title, _ in cells[:5]] == [
        [("", "10")], [("", "20")], [("150", ""), ("", "30")], [("150", ""), ("", "40")], [("150", ""), ("", "50")]]
    assert "62 songs" in cells[5][0] and "300 bands" in cells[7][0] and "25% [15%, 35%]" in cells[8][0]
    assert "12 s of each of 62 songs" in lines[-1]
