"""The mixer and the slider in a real browser, from a file, without a network: press, move, and measure the sound.

Runs where selenium, Chromium and its driver are installed, and is skipped elsewhere.
"""

import os
import time

import numpy as np
import pytest

selenium = pytest.importorskip("selenium")

from selenium.webdriver import Keys  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

from msdm_lite.notebook.player import mixer, slider  # noqa: E402
from tests.browser import BROWSER, DRIVER, start  # noqa: E402
from tests.notebook.test_player import RATE, band, picture  # noqa: E402

pytestmark = [
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs Chromium and chromedriver"),
    pytest.mark.skipif(bool(os.environ.get("CI")), reason="continuous integration has no sound device to count on"),
]
SHELL = ("<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
         "<title>test</title><body>{}</body></html>")


def sine(pitch, level, seconds=2):
    return (level * np.sin(2 * np.pi * pitch * np.arange(seconds * RATE) / RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = start(tmp_path_factory.mktemp("profile"), "--disable-quic")
    yield driver
    driver.quit()


class Player:
    """The nth mixer of the page: press its buttons, read its state."""

    def __init__(self, browser, index):
        self.browser, self.root = browser, browser.find_elements(By.CSS_SELECTOR, ".msdm-mixer")[index]

    def __getattr__(self, name):
        return self.root.get_attribute("data-" + name)

    def find(self, selector):
        return self.root.find_element(By.CSS_SELECTOR, selector)

    def press(self, label):
        self.find(f'[aria-label="{label}"]').click()

    def choose(self, group):
        self.find(f'input[value="{group}"]').click()

    def wait_for(self, state):
        WebDriverWait(self.browser, 10, 0.02).until(lambda _: self.state == state, f"state is {self.state}")

    def gains(self):
        """{group: {track: gain}}"""
        return self.browser.execute_script(
            "const out = {}; arguments[0].querySelectorAll('.track').forEach(t => {"
            "(out[t.parentNode.dataset.group] ||= {})[t.dataset.track] = Number(t.dataset.gain)}); return out",
            self.root)

    def loudness(self):
        """The measured RMS of what is played, once changes have settled."""
        time.sleep(0.35)
        return float(self.level)


@pytest.fixture
def page(browser, tmp_path):
    low, high = sine(220, 0.4), sine(3000, 0.2)
    first = mixer(groups={"True": {"bass": low, "piano": high}, "Separated": {"bass": low / 2, "piano": high / 2},
                          "Mixture": {"mix": low + high}}, title="first")
    second = mixer(band(2), title="second")
    figure = slider([picture(0), picture(100), picture(200)], ["early", "middle", "late"], "steps")
    file = tmp_path / "page.html"
    file.write_text(SHELL.format("".join(part._repr_html_() for part in (first, second, figure))), encoding="utf-8")
    browser.get(file.as_uri())
    browser.get_log("browser")
    yield Player(browser, 0), Player(browser, 1)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_play_and_pause(page):
    player, _ = page
    assert player.state == "idle"
    player.find(".play").click()
    player.wait_for("playing")
    assert player.find(".play").text == "Pause"
    time.sleep(0.5)
    assert 0.2 < float(player.time) < 1.5
    player.find(".play").click()
    player.wait_for("paused")
    held = float(player.time)
    time.sleep(0.3)
    assert float(player.time) == held > 0
    player.find(".play").click()
    player.wait_for("playing")
    time.sleep(0.2)
    assert float(player.time) != held  # it goes on; on a slow machine it may have begun again


def test_mute_solo_and_volume_change_the_sound(page):
    player, _ = page
    player.find(".play").click()
    player.wait_for("playing")
    bass, piano = 0.4 / 2 ** 0.5, 0.2 / 2 ** 0.5
    assert player.loudness() == pytest.approx(np.hypot(bass, piano), rel=0.05)
    player.press("mute bass, True")
    assert player.loudness() == pytest.approx(piano, rel=0.05)
    assert player.gains()["True"] == {"bass": 0, "piano": 1}
    assert player.find('[aria-label="mute bass, True"]').get_attribute("aria-pressed") == "true"
    player.press("mute bass, True")
    player.press("solo bass, True")
    assert player.loudness() == pytest.approx(bass, rel=0.05)
    player.press("solo piano, True")
    assert player.loudness() == pytest.approx(np.hypot(bass, piano), rel=0.05)
    player.press("solo bass, True")
    player.press("solo piano, True")
    volume = player.find('[aria-label="volume of bass, True"]')
    volume.send_keys(Keys.HOME)
    assert player.loudness() == pytest.approx(piano, rel=0.05)
    volume.send_keys(Keys.ARROW_RIGHT)
    assert player.gains()["True"]["bass"] == pytest.approx(0.05)


def test_a_change_of_group_keeps_the_time_and_the_solo(page):
    player, _ = page
    player.find(".play").click()
    player.wait_for("playing")
    player.press("solo bass, True")
    before = float(player.time)
    clock = time.monotonic()
    player.choose("Separated")
    after, passed = float(player.time), time.monotonic() - clock
    assert player.state == "playing" and player.group == "Separated"
    assert 0 <= (after - before) % 2 < passed + 0.2
    assert player.loudness() == pytest.approx(0.2 / 2 ** 0.5, rel=0.05)
    assert player.gains() == {
        "True": {"bass": 0, "piano": 0}, "Separated": {"bass": 1, "piano": 0}, "Mixture": {"mix": 0}}
    assert not player.find('[data-group="True"].group').is_displayed()
    player.choose("Mixture")
    assert player.loudness() == pytest.approx(np.hypot(0.4, 0.2) / 2 ** 0.5, rel=0.05)


def test_seek_by_picture_and_by_keyboard(page):
    player, _ = page
    player.find(".picture").click()
    assert float(player.time) == pytest.approx(1, abs=0.02)
    player.find(".seek").send_keys(Keys.ARROW_RIGHT)
    assert float(player.time) == pytest.approx(1.5, abs=0.02)
    player.find(".seek").send_keys(Keys.ARROW_LEFT * 2)
    assert float(player.time) == pytest.approx(0.5, abs=0.02)
    assert player.find(".seek").get_attribute("aria-valuetext") == "0.5 s of 2.0 s"
    player.find(".play").click()
    player.wait_for("playing")
    player.find(".picture").click()
    assert 0.98 <= float(player.time) < 1.8 and player.state == "playing"


def test_loop_on_and_off(page):
    player, _ = page
    player.find(".play").click()
    player.wait_for("playing")
    time.sleep(2.3)
    assert player.state == "playing" and float(player.time) < 1.9
    player.find(".loop").click()
    player.wait_for("paused")
    assert float(player.time) == 0


def test_one_player_sounds_at_a_time(page):
    first, second = page
    first.find(".play").click()
    first.wait_for("playing")
    second.find(".play").click()
    second.wait_for("playing")
    assert first.state == "paused"
    first.find(".play").click()
    first.wait_for("playing")
    assert second.state == "paused" and first.loudness() > 0.1


def test_nothing_leaks_and_nothing_is_fetched(page, browser, tmp_path):
    page[0].find(".play").click()
    page[0].wait_for("playing")
    # Ids, and what the driver itself adds, are no leak.
    look = "return Object.getOwnPropertyNames(window).filter((name) => !/^(msdm-|ret_nodes|se_|cdc_)/.test(name))"
    names = set(browser.execute_script(look))
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    (tmp_path / "empty.html").write_text(SHELL.format(""), encoding="utf-8")
    browser.get((tmp_path / "empty.html").as_uri())
    assert names <= set(browser.execute_script(look))
    assert all(name.startswith("data:") for name in fetched)


def test_sound_that_does_not_decode_is_said(browser, tmp_path):
    html = mixer({"bass": sine(100, 0.1)})._repr_html_()
    head, tail = html.split("data:audio/ogg;base64,")
    file = tmp_path / "broken.html"
    file.write_text(SHELL.format(head + "data:audio/ogg;base64,AAAA" + tail[tail.index('"'):]), encoding="utf-8")
    browser.get(file.as_uri())
    player = Player(browser, 0)
    player.find(".play").click()
    player.wait_for("error")
    assert "could not decode" in player.find(".error").text


def test_without_scripts_there_is_a_player_for_each_track(browser, tmp_path):
    html = mixer(band(1), title="plain")._repr_html_() + slider([picture()] * 3, ["a", "b", "c"])._repr_html_()
    file = tmp_path / "plain.html"
    file.write_text(SHELL.format(html), encoding="utf-8")
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(file.as_uri())
        shown = [len([found for found in browser.find_elements(By.CSS_SELECTOR, selector) if found.is_displayed()])
                 for selector in ("audio", "button", "input", ".plain", "figure")]
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert shown == [4, 0, 0, 1, 1]


def test_slider(page, browser):
    root = browser.find_element(By.CSS_SELECTOR, ".msdm-slider")
    handle = root.find_element(By.TAG_NAME, "input")

    def shown():
        return [figure.get_attribute("data-label") for figure in root.find_elements(By.TAG_NAME, "figure")
                if figure.is_displayed()]

    assert shown() == ["middle"] and handle.get_attribute("aria-valuetext") == "middle"
    handle.send_keys(Keys.ARROW_RIGHT)
    assert shown() == ["late"] and handle.get_attribute("aria-valuetext") == "late"
    assert not root.find_element(By.CSS_SELECTOR, ".on").is_enabled()
    handle.send_keys(Keys.HOME)
    assert shown() == ["early"]
    root.find_element(By.CSS_SELECTOR, ".on").click()
    assert shown() == ["middle"]


def test_nothing_is_wider_than_a_phone(page, browser):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True})
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
