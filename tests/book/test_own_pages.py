"""The pages "Write your own ...": the code of each runs as a reader's file, with no edit of the package."""

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
import scipy.fft
import torch

import msdm_lite
from msdm_lite.audio.front_end import FRONT_ENDS
from msdm_lite.audio.transforms import MDCT
from msdm_lite.cli import main
from msdm_lite.data import example_clips
from msdm_lite.diffusion import guidance, methods, sampling, schedules
from msdm_lite.diffusion.conditioning import Conditioning, Task
from msdm_lite.diffusion.guidances import GUIDANCES
from msdm_lite.diffusion.oracle import gaussian
from msdm_lite.diffusion.samplers import SAMPLERS
from msdm_lite.evaluation import metrics
from msdm_lite.models.config import PRESETS, preset
from msdm_lite.models.joint import Model
from msdm_lite.models.weights import MODELS
from msdm_lite.studies import __main__ as studies
from msdm_lite.studies.runner import STUDIES
from msdm_lite.utils import plugins
from tests.test_book import python, tags

BOOK = Path(__file__).resolve().parents[2] / "book"
PAGES = sorted(BOOK.glob("own-*.ipynb"))
REGISTRIES = [GUIDANCES, SAMPLERS, MODELS, STUDIES, FRONT_ENDS, PRESETS]
DOUBLE = {"dtype": torch.float64}


def idea(page: Path) -> list:
    """The cells that are the page's main code."""
    return [cell for cell in nbformat.read(page, as_version=4).cells if "idea" in tags(cell)]


def write_file(page: Path, folder: Path) -> Path:
    """The reader's file: the cells that say in their first line that they belong to it."""
    cells = [cell.source for cell in nbformat.read(page, as_version=4).cells if cell.cell_type == "code"]
    name = f"my_{page.stem.removeprefix('own-').replace('-', '_')}.py"
    file = folder / name
    file.write_text("\n\n\n".join(source for source in cells if source.startswith(f"# {name}")) + "\n")
    return file


@contextmanager
def forgotten():
    """A context after which what readers' files registered is removed."""
    before, registered = set(sys.modules), [dict(registry) for registry in REGISTRIES]
    yield
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]
    for registry, old in zip(REGISTRIES, registered, strict=True):
        for name in set(registry) - set(old):
            del registry[name]


@pytest.fixture
def module(tmp_path):
    """A function from the name of a page to its module, imported as `--import` does; what it registers is removed."""
    def load(name: str):
        file = write_file(BOOK / f"own-{name}.ipynb", tmp_path)
        plugins.load(str(file))
        return sys.modules[file.stem]

    with forgotten():
        yield load


@pytest.fixture(scope="module")
def tiny():
    return msdm_lite.load("tiny", "cpu")


@pytest.fixture(scope="module")
def stems():
    return example_clips.clip("band_01")[:, :22050]


def test_there_are_the_pages():
    names = ["denoiser", "front-end", "guidance", "sampler", "study"]
    assert [page.stem for page in PAGES] == [f"own-{name}" for name in names]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_main_cell_has_at_most_twelve_lines(page):
    (cell,) = idea(page)
    assert 5 <= len(python(cell)) <= 12


@pytest.mark.parametrize("name, registered", [("guidance", "powered-shares"), ("sampler", "adams-bashforth"),
                                              ("front-end", "block-dct")])
def test_the_command_line_lists_it(name, registered, module, tmp_path, capsys):
    module(name)  # for the clean-up
    file = write_file(BOOK / f"own-{name}.ipynb", tmp_path)
    assert main.main(["--import", str(file), "methods"]) == 0
    title = f"{name.replace('-', ' ')}s"
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(title))
    assert line.endswith(f", {registered}")


def test_a_model_behind_the_front_end_is_built_by_its_preset(module):
    own = module("front-end")
    model = Model(preset("tiny-blocks"))
    assert type(model.transform) is own.BlockDCT and model.config.front == "block-dct"
    assert (model.transform.hop, model.transform.rows) == (1024, 1024)


def test_with_power_one_the_guidance_is_the_built_in_one_to_the_bit(module, tiny, stems):
    own = module("guidance").PoweredShares(power=1.0)
    built_in = msdm_lite.separate(stems.sum(0), tiny, guidance="wiener", steps=3)
    assert torch.equal(msdm_lite.separate(stems.sum(0), tiny, guidance=own, steps=3), built_in)
    named = msdm_lite.separate(stems.sum(0), tiny, guidance="powered-shares", power=1.0, steps=3)
    assert torch.equal(named, built_in)
    half = msdm_lite.separate(stems.sum(0), tiny, guidance="powered-shares", steps=3)
    assert not torch.allclose(half, built_in, atol=1e-3)  # the power counts, and is not 1 if it is not given


def test_with_power_zero_it_corrects_all_stems_alike(module):
    x, y = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), **DOUBLE), torch.arange(5, **DOUBLE)
    own = module("guidance").PoweredShares(0.0, task=Task((5, 3), mixture=y, variance=torch.tensor([1.0, 0.5, 0.1])))
    sigma = torch.full((5,), 0.5, **DOUBLE)
    x0 = x - own(x, sigma, lambda x, sigma: 0.8 * x) * 0.5
    assert torch.allclose(x0.sum(1), y)
    assert torch.allclose(x0 - 0.8 * x, (y - 0.8 * x.sum(1))[:, None].expand(5, 3) / 3)


def test_on_independent_gaussians_its_samples_are_those_of_the_exact_posterior(module):
    count, variances = 4000, torch.tensor([1.0, 0.3, 0.1], **DOUBLE)
    toy, y = gaussian(torch.zeros(3, **DOUBLE), torch.diag(variances)), torch.ones(count, **DOUBLE)
    method = methods.OWN_GUIDANCE.replace(guidance=module("guidance").PoweredShares(1.0), sampler="heun", churn=0.0,
                                          steps=50, sigma_max=100.0)
    task = Task((count, 3), mixture=y, variance=variances)
    found = sampling.final_x(methods.sample(task, toy.denoise, method, torch.Generator().manual_seed(0)))
    agrees_with_posterior(found, toy)


def agrees_with_posterior(found: torch.Tensor, toy) -> None:
    """Mean and covariance of samples (count, 3) are those of the sources given the sum 1, up to chance.

    Four standard errors of each, and 1 % of a standard deviation for the steps of the sampler.
    """
    point = torch.full((3,), 1 / 3, **DOUBLE)
    exact = toy.given(point, Conditioning.on_mixture(point[None]))
    mean, covariance, n = exact.means[0], exact.covariances[0], len(found)
    variance = covariance.diagonal()
    assert ((found.mean(0) - mean).abs() < 4 * (variance / n).sqrt() + 0.01 * variance.sqrt()).all()
    error = ((variance[:, None] * variance + covariance**2) / n).sqrt()
    assert ((found.T.cov() - covariance).abs() < 4 * error + 0.02 * (variance[:, None] * variance).sqrt()).all()


def test_the_sampler_is_of_second_order(module):
    step = module("sampler").adams_bashforth
    mean, variance, top = 0.7, 0.09, 5.0
    one = gaussian(torch.tensor([mean], **DOUBLE), torch.tensor([[variance]], **DOUBLE))
    start = top * torch.linspace(-2, 2, 9, **DOUBLE)[:, None]
    solved = mean + (variance / (variance + top**2)) ** 0.5 * (start - mean)

    def missed(step, levels):
        states = sampling.sample(start, schedules.karras(levels, 1e-3, top), guidance.unconditional(), one.denoise,
                                 step)
        return (sampling.final_x(states) - solved).abs().mean().item()

    errors = [missed(step, levels) for levels in (40, 80, 160)]
    assert 3.6 < errors[0] / errors[1] < 4.4 and 3.6 < errors[1] / errors[2] < 4.4
    assert errors[2] < 0.1 * missed(SAMPLERS["euler"], 160)
    assert methods.METHODS["mixture-constrained"].replace(steps=12, sampler=step).nfe == 12


def test_the_samplers_samples_are_those_of_the_exact_posterior(module):
    count, step = 4000, module("sampler").adams_bashforth
    covariance = torch.tensor([[1.0, 0.3, 0.1], [0.3, 0.7, 0.2], [0.1, 0.2, 0.5]], **DOUBLE)
    toy = gaussian(torch.zeros(3, **DOUBLE), covariance)
    method = methods.by_name("mixture-constrained", steps=160, sigma_max=100.0, sampler=step)
    task = Task((count, 3), mixture=torch.ones(count, **DOUBLE))
    found = sampling.final_x(methods.sample(task, toy.denoise, method, torch.Generator().manual_seed(0)))
    assert torch.allclose(found.sum(1), torch.ones(count, **DOUBLE))
    agrees_with_posterior(found, toy)


def test_the_sampler_separates_and_takes_no_churn(module, tiny, stems):
    step = module("sampler").adams_bashforth
    found = msdm_lite.separate(stems.sum(0), tiny, steps=4, sampler=step)
    assert torch.equal(found, msdm_lite.separate(stems.sum(0), tiny, steps=4, sampler="adams-bashforth"))
    assert (found.sum(0) - stems.sum(0)).abs().max() < 1e-5
    with pytest.raises(msdm_lite.InputError, match="churn"):
        msdm_lite.separate(stems.sum(0), tiny, steps=4, sampler=step, churn=1.0)


CASES = {
    "nothing": lambda x: None,
    "mixture": Conditioning.on_mixture,
    "stems": lambda x: Conditioning.on_stems(x, [0, 2]),
    "both": lambda x: Conditioning.on_stems(x, [1], mixture=True),
}


@pytest.mark.parametrize("case", CASES)
def test_the_denoiser_is_exact_for_gaussian_stems(case, module):
    own = module("denoiser")
    x = 0.1 * torch.randn(16, 4, 1024, 4, generator=torch.Generator().manual_seed(0))
    sigma, known = torch.logspace(-2, 1, 16), CASES[case](x)
    found = own.denoise(x, sigma, known)
    for k in (5, 50, 500):
        toy = gaussian(torch.zeros(4), torch.diag(own.variance[:, k, 0]))
        exact = toy.denoise(x[:, :, k, 0], sigma, known)
        assert (found[:, :, k, 0] - exact).abs().max() < 1e-5 * exact.abs().max()  # single precision
    untrained = Model(preset("tiny"), own.variance[..., 0].sqrt()).eval()
    with torch.no_grad():  # the built-in Wiener filter
        assert torch.allclose(found, untrained.denoise(x, sigma, known), atol=1e-6)


def test_a_model_around_the_denoiser_separates(module, stems):
    own = module("denoiser")
    model = msdm_lite.load("spectra", "cpu")
    assert model.denoise is own.denoise
    found = msdm_lite.separate(stems.sum(0), model)
    assert (found.sum(0) - stems.sum(0)).abs().max() < 1e-5
    untrained = Model(preset("tiny"), own.variance[..., 0].sqrt()).eval()
    assert torch.allclose(found, msdm_lite.separate(stems.sum(0), untrained), atol=1e-6)


def test_the_variances_leave_out_the_clips_of_the_score(module):
    own = module("denoiser")
    assert own.variance.shape == (4, 1024, 1) and (own.variance > 0).all()
    assert not {"band_00", "band_01"} & set(own.others) and len(own.others) == 22


def test_the_front_end_keeps_its_contract(module):
    front = module("front-end").BlockDCT(64)
    wave = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    x = front.encode(wave)
    assert x.shape == (2, front.rows, front.length(1000)) == (2, 64, 18)
    assert torch.allclose(front.decode(x, 1000), wave, atol=1e-5)
    assert torch.allclose(x.square().sum(), wave.square().sum())
    assert torch.allclose(front.encode(wave.sum(0)), x.sum(0), atol=1e-5)
    block = scipy.fft.dct(wave[0, 128:192].numpy(), type=4, norm="ortho")
    assert torch.allclose(x[0, :, 3], torch.from_numpy(block), atol=1e-5)  # frame 3 begins at sample 2 * hop
    assert x[..., 0].abs().max() < 1e-6


def test_the_front_end_stands_behind_a_model(module, stems):
    model = msdm_lite.load("tiny", "cpu")
    built_in = msdm_lite.separate(stems.sum(0), model)
    assert isinstance(model.transform, MDCT)
    model.transform = module("front-end").BlockDCT(1024)
    found = msdm_lite.separate(stems.sum(0), model)
    assert (found.sum(0) - stems.sum(0)).abs().max() < 1e-5 and (found - built_in).abs().max() > 1e-3


@pytest.mark.parametrize("ratio, least, most", [(200.0, -1e-3, 1e-3), (0.0, -20.0, -2.0)])
def test_the_study_scores_noisy_mixtures(ratio, least, most, module, tmp_path, tiny):
    module("study")
    out = tmp_path / "noisy.json"
    assert studies.main(["noisy-mixture", "--clips", "1", "--ratio", str(ratio), "--out", str(out)]) == 0
    record, true = json.loads(out.read_text()), example_clips.clip("band_00")
    clean = metrics.si_sdr_improvement(msdm_lite.separate(true.sum(0), tiny), true)
    lost = torch.tensor(record["gains"]["band_00"]) - clean
    assert record["ratio"] == ratio and ((least < lost) & (lost < most)).all()  # 200 dB: no noise in single precision
    assert "noisy-mixture" in record["command"] and "my_study" in record["command"]
    assert any("my_study" in name for name in record["code"]["modules"])
