import pytest

from msdm_lite.studies import paper_table
from msdm_lite.utils.paths import data_folder


def test_the_cost_is_evaluations_times_segments():
    """145 hours times 225 / 2100 in segments of 2^18 samples; 150 levels, each twice; 12 s in 4.6 s and in 18.4 s."""
    assert paper_table.segments() == int(145 * 3600 * 225 / 2100 * 22_050 / 2**18) == 4704
    assert paper_table.operations() == pytest.approx(245e9, rel=0.01)
    said = paper_table.cost()
    for figure in ("225 test songs", "4,704 segments of 11.9 s", "300 evaluations", "245 GFLOP", "1.41 million",
                   "346 PFLOP", "6 hours, and 24 for"):
        assert figure in said, figure


def test_the_readme_has_the_cost_of_now():
    readme = data_folder().parent / "README.md"
    if not readme.exists():
        pytest.skip("an installation without the repository")
    block = readme.read_text(encoding="utf-8").split("<!-- cost: python -m msdm_lite.studies.paper_table -->\n")[1]
    assert block.split("\n<!-- end of cost -->")[0] == paper_table.cost()
