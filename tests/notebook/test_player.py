"""The players, without a browser."""

import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from msdm_lite.errors import InputError
from msdm_lite.notebook.player import mixer, slider
from msdm_lite.notebook.plots import COLOURS

matplotlib.use("Agg")
RATE = 22050
VOID = {"input", "img", "br", "meta", "link"}


def band(seconds=6.0, loud=0.2, seed=0):
    """Four synthetic stems (T,): plucked low notes, noise bursts, a strummed chord, a melody."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE

    def notes(pitches, every, fall, harmonics):
        pitch = np.array(pitches)[(t / every).astype(int) % len(pitches)]
        tone = sum(np.sin(2 * np.pi * k * np.cumsum(pitch) / RATE) / k ** 1.5 for k in range(1, harmonics))
        return tone * np.exp(-fall * (t % every))

    chord = sum(notes([p, p * 1.125], 2, 2, 8) for p in (196, 247, 294)) / 3
    waves = {"bass": notes([55, 55, 82.4, 73.4], 0.5, 3, 6),
             "drums": rng.normal(size=len(t)) * np.exp(-25 * (t % 0.25)),
             "guitar": chord, "piano": notes([523, 659, 784, 659, 587], 0.25, 6, 5)}
    return {name: (loud * wave / np.abs(wave).max()).astype(np.float32) for name, wave in waves.items()}


def sounds(html):
    return [soundfile.read(io.BytesIO(base64.b64decode(code)))
            for code in re.findall(r"data:audio/ogg;base64,([^\"]+)", html)]


class Outline(HTMLParser):
    """Every start tag with its attributes; fails where a tag is closed that is not the open one."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def player():
    true = band()
    groups = {"True stems": true, "Separated": {name: torch.from_numpy(wave) for name, wave in band(seed=1).items()},
              "Mixture": {"mix": sum(true.values())}}
    return mixer(groups=groups, title="A band", captions={"Separated": {"guitar": "SI-SDRi 7.3 dB"}})._repr_html_()


def test_the_player_is_one_well_formed_fragment_without_the_network(player):
    outline = Outline(player)
    assert len(outline.all("audio")) == len(outline.all("img")) == 9
    assert [choice["value"] for choice in outline.all("input") if choice["type"] == "radio"] == [
        "True stems", "Separated", "Mixture"]
    text = re.sub(r"data:[^\"]+", "", player)
    assert not re.search(r"http|//[a-z]|require|jquery|@import|import\(", text, re.IGNORECASE)
    assert "SI-SDRi 7.3 dB" in player
    assert outline.tags[0][0] == "div" and player.rstrip().endswith("</div>")


def test_everything_to_press_or_to_move_has_a_name(player):
    outline = Outline(player)
    labels = [button.get("aria-label") for button in outline.all("button")]
    assert "mute guitar, Separated" in labels and "solo guitar, Separated" in labels
    assert all("aria-label" in control for control in outline.all("input") if control["type"] == "range")
    assert "spectrogram of guitar, Separated" in [image["alt"] for image in outline.all("img")]


def test_the_player_has_the_samples_that_were_given(player):
    waves = list(band().items()) + list(band(seed=1).items())
    for (sound, rate), (name, wave) in zip(sounds(player), waves, strict=False):
        assert rate == RATE
        assert abs(len(sound) - len(wave)) <= 64
        length = min(len(sound), len(wave))
        least = 0.9 if name == "drums" else 0.98  # noise is what the codec keeps worst
        assert np.corrcoef(sound[:length], wave[:length])[0, 1] > least
        assert np.std(sound) == pytest.approx(np.std(wave), rel=0.1)


def test_sizes(player):
    for kind, most in (("audio/ogg", 45_000), ("image/webp", 15_000)):
        files = [base64.b64decode(code) for code in re.findall(rf"data:{kind};base64,([^\"]+)", player)]
        assert len(files) == 9 and max(map(len, files)) < most
    assert len(re.sub(r"data:[^\"]+", "", player)) < 25_000
    assert len(re.search("<script>(.*)</script>", player, re.DOTALL)[1]) < 8192


def test_one_gain_for_all_and_only_against_clipping():
    quiet = {"bass": band()["bass"], "piano": band()["piano"] * 0.1}
    assert "is multiplied by" not in mixer(quiet)._repr_html_()
    loud = {name: wave * 8 for name, wave in quiet.items()}
    html = mixer(groups={"loud": loud, "quiet": quiet})._repr_html_()
    scale = float(re.search(r"is multiplied by ([\d.]+)", html)[1])
    assert scale == pytest.approx(0.95 / np.abs(sum(loud.values())).max(), abs=1e-3)
    for (sound, _), wave in zip(sounds(html), [*loud.values(), *quiet.values()], strict=False):
        assert sound @ wave / (wave @ wave) == pytest.approx(scale, rel=0.03)
    assert max(np.abs(sum(sound for sound, _ in sounds(html)[:2]))) < 1


def test_spectrograms_share_one_range_of_colours():
    wave = band(2)["piano"]
    html = mixer({"a": wave, "b": wave * 0.01, "nothing": wave * 0})._repr_html_()
    bright = [np.asarray(Image.open(io.BytesIO(base64.b64decode(code))).convert("L")).mean()
              for code in re.findall(r"data:image/webp;base64,([^\"]+)", html)]
    assert bright[0] > 2 * bright[1] > 2 * bright[2]


def test_ids_are_unique():
    wave = band(0.5)["bass"]
    html = "".join(mixer({"bass": wave})._repr_html_() for _ in range(2))
    ids = [attributes["id"] for _, attributes in Outline(html).tags if "id" in attributes]
    assert len(ids) == len(set(ids)) == 2


def test_user_text_is_escaped():
    nasty = "</script><b onclick='x'>\"&{{7*7}}"
    wave = band(0.2)["bass"]
    html = mixer(groups={nasty: {nasty: wave}, "plain": {"a": wave}}, title=nasty,
                 captions={nasty: {nasty: nasty}})._repr_html_()
    html += slider([picture()], [nasty], nasty)._repr_html_()
    outline = Outline(html)
    assert not any("onclick" in attributes for _, attributes in outline.tags) and len(outline.all("script")) == 2
    assert outline.all("audio")[0]["aria-label"] == f"{nasty}, {nasty}"


def test_stems_come_as_an_array_too():
    stems = torch.from_numpy(np.stack(list(band(1).values()))).requires_grad_()
    html = mixer(stems, captions={"drums": "loud"})._repr_html_()
    assert re.findall('data-track="([^"]+)"', html) == ["bass", "drums", "guitar", "piano"]
    assert all(COLOURS[stem] in html for stem in ("bass", "drums", "guitar", "piano"))


def test_stems_of_other_names_have_colours_of_their_own():
    html = mixer({name: torch.zeros(800) for name in ("vocals", "other", "flute")})._repr_html_()
    assert COLOURS["vocals"] in html and COLOURS["other"] in html and COLOURS["mix"] in html
    assert len(set(COLOURS.values())) == len(COLOURS)


@pytest.mark.parametrize("length", [1, 100, 3000])
def test_short_sounds(length):
    (sound, _), = sounds(mixer({"mix": np.full(length, 0.1)})._repr_html_())
    assert abs(len(sound) - length) <= 64


def test_silence_stays_silence():
    (sound, _), = sounds(mixer({"mix": np.zeros(RATE)})._repr_html_())
    assert np.abs(sound).max() < 1e-3


@pytest.mark.parametrize(("arguments", "words"), [
    ({}, "either tracks or groups"),
    ({"tracks": {}}, "no track"),
    ({"groups": {}}, "no group"),
    ({"groups": {"a": {}}}, "no track"),
    ({"groups": [1]}, "dict"),
    ({"tracks": {"a": np.zeros(10), "b": np.zeros(11)}}, "equally long"),
    ({"groups": {"x": {"a": np.zeros(10)}, "y": {"a": np.zeros(11)}}}, "equally long"),
    ({"tracks": {"a": np.zeros(0)}}, "shape"),
    ({"tracks": {"a": np.zeros((2, 10))}}, "shape"),
    ({"tracks": {"a": ["x"]}}, "numbers"),
    ({"tracks": {"a": np.array([0, np.nan])}}, "NaN"),
    ({"tracks": {"a": torch.tensor([0, torch.inf])}}, "infinity"),
    ({"tracks": np.zeros((3, 10))}, "dict of waveforms"),
    ({"tracks": {"a": np.zeros(10)}, "captions": {"b": "?"}}, "called 'b'"),
    ({"groups": {"x": {"a": np.zeros(10)}}, "captions": {"y": {}}}, "called 'y'"),
    ({"groups": {"x": {"a": np.zeros(10)}}, "selected": "y"}, "called 'y'"),
])
def test_errors_say_what_is_wrong(arguments, words):
    with pytest.raises(InputError, match=words):
        mixer(**arguments)


def picture(shade=0):
    file = io.BytesIO()
    Image.new("RGB", (300, 200), (shade, 90, 120)).save(file, "PNG")
    return file.getvalue()


def test_slider_shows_the_middle_picture_without_scripts():
    figure, _ = matplotlib.pyplot.subplots()
    html = slider([picture(), figure, picture(200)], ["one", "two", "three"], "steps")._repr_html_()
    outline = Outline(html)
    assert not matplotlib.pyplot.get_fignums()
    assert ["hidden" in frame for frame in outline.all("figure")] == [True, False, True]
    assert [image["alt"] for image in outline.all("img")] == ["steps, one", "steps, two", "steps, three"]
    assert "http" not in re.sub(r"data:[^\"]+", "", html)
    only, = [control for control in outline.all("input")]
    assert (only["min"], only["max"], only["value"]) == ("0", "2", "1")
    first = Outline(slider([picture()] * 2, "ab", selected=0)._repr_html_())
    assert ["hidden" in frame for frame in first.all("figure")] == [False, True]


@pytest.mark.parametrize(("arguments", "words"), [
    (([], []), "at least one"), (([b"x"], ["a"]), "PNG"), (([picture()], ["a", "b"]), "as many labels"),
    (([picture()], ["a"], "", 3), "selected")])
def test_slider_errors(arguments, words):
    with pytest.raises(InputError, match=words):
        slider(*arguments)


@pytest.mark.parametrize("module, package", [("IPython", "IPython"), ("PIL", "pillow")])
def test_a_missing_library_is_named_with_the_package_that_has_it(module, package):
    """By its own name: an index has no package of ours."""
    program = (f"import sys; sys.modules[{module!r}] = None\ntry:\n    import msdm_lite.notebook.player\n"
               "except Exception as problem: print(problem)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert re.fullmatch(rf"(players|plots) need {package}: pip install {package}\n", done.stdout), done.stderr
