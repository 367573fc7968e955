"""The built pages in a real browser, without a network: `make pages`.

Every page is opened at the width of a desk and of a phone. On every page: no script error, no missing picture, all
formulas set, nothing wider than a phone. Where there is a player: it plays, mutes and plays solo. Where there are
pictures to move through: they move, by keyboard too. Skipped where the site is not built or there is no Chromium with
its driver, unless MSDM_LITE_BROWSER says that they are required.
"""

import html
import os
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

REQUIRED = os.environ.get("MSDM_LITE_BROWSER") == "required"
if not REQUIRED:
    pytest.importorskip("selenium", reason="needs selenium")

from selenium.webdriver import Keys  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

from tests.browser import BROWSER, DRIVER, start  # noqa: E402

CONFIG = yaml.safe_load((Path(__file__).resolve().parents[2] / "_config.yml").read_text(encoding="utf-8"))
SITE = Path(__file__).resolve().parents[2] / "build" / "_build" / "html" / "book"
PAGES = sorted(path for path in SITE.glob("*.html"))
pytestmark = [] if REQUIRED else [
    pytest.mark.skipif(not PAGES, reason="the site is not built: make book"),
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs Chromium and chromedriver")]
# Every name leads nowhere: whatever a page asks of the network fails, and is on record as an error
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND"
DESK, PHONE, NARROW = (1280, 900), (390, 844), (360, 640)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    assert BROWSER and DRIVER, "Chromium and its driver are required: on Debian, apt-get install chromium-driver"
    driver = start(tmp_path_factory.mktemp("profile"), OFFLINE, "--force-prefers-reduced-motion")
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture(params=PAGES or ["no page"], ids=lambda path: getattr(path, "stem", path))
def page(request, browser):
    """The browser on one page, all formulas set; whatever was logged as an error fails the test at its end."""
    assert PAGES, "the site is not built: make book"
    size(browser, DESK)
    browser.get_log("browser")
    browser.get(request.param.as_uri())
    browser.execute_async_script("const done = arguments[0]; window.MathJax && MathJax.startup"
                                 " ? MathJax.startup.promise.then(() => done()) : done()")
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")  # solutions, answers
    yield browser
    assert [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def size(browser, wanted):
    """The width and height of the view itself, which a window on a desk will not make as small as a phone's."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": wanted[0], "height": wanted[1], "deviceScaleFactor": 1, "mobile": wanted is not DESK})


def test_pictures_are_there_and_formulas_are_set(page):
    found = page.execute_script(
        "return [...document.images].filter(i => !(i.loading === 'lazy' && !i.complete))"
        ".filter(i => !(i.complete && i.naturalWidth > 0)).map(i => i.src.slice(0, 80))")
    assert found == []
    alts = page.execute_script("return [...document.images].map(i => i.getAttribute('alt'))")
    assert all(alt is not None and "_images/" not in alt for alt in alts), "a figure without words: mystnb.image.alt"
    formulas, wrong = page.execute_script(
        "const all = [...document.querySelectorAll('.math')];"
        "return [all.filter(m => !m.querySelector('mjx-container')).map(m => m.textContent.slice(0, 60)),"
        "[...document.querySelectorAll('mjx-merror')].map(m => m.textContent)]")
    assert formulas == [] and wrong == []


def test_nothing_is_wider_than_a_phone(page):
    size(page, NARROW)
    wide = page.execute_script(
        "return [...document.querySelectorAll('article *')].filter(e => {"
        " let p = e; while (p && p !== document.body) {"  # what scrolls by itself may be as wide as it likes
        "  if (['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(p).overflowX)) return false;"
        "  p = p.parentElement }"
        " return e.getBoundingClientRect().right > innerWidth + 1 })"
        ".map(e => e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 40))")
    assert wide == []
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth + 1")


def test_every_chapter_has_a_player_and_opens_in_colab_where_an_address_is_known(page):
    if not (chapter := re.match(r"\d\d-[\w-]+", Path(page.current_url).stem)):
        pytest.skip("no chapter")
    assert page.find_elements(By.CSS_SELECTOR, ".msdm-mixer")
    address = CONFIG["repository"]["url"].removeprefix("https://github.com/")
    path = f"{address}/blob/{CONFIG['repository']['branch']}/book/{chapter[0]}.ipynb"
    links = page.find_elements(By.CSS_SELECTOR, ".dropdown-launch-buttons a")
    colab = [f"https://colab.research.google.com/github/{path}"] if address else []
    assert [link.get_attribute("href") for link in links] == colab


def test_players_play_mute_and_play_solo(page):
    for player in page.find_elements(By.CSS_SELECTOR, ".msdm-mixer"):
        play = player.find_element(By.CSS_SELECTOR, ".play")
        page.execute_script("arguments[0].scrollIntoView({block: 'center'})", play)
        play.click()
        WebDriverWait(page, 10, 0.02).until(lambda _, p=player: p.get_attribute("data-state") == "playing")
        track, *others = player.find_elements(By.CSS_SELECTOR, ".group:not([hidden]) .track")
        mute = track.find_element(By.CSS_SELECTOR, "[aria-label^=mute]")
        mute.click()
        assert mute.get_attribute("aria-pressed") == "true" and float(track.get_attribute("data-gain")) == 0
        mute.send_keys(Keys.SPACE)  # by keyboard, back again
        assert mute.get_attribute("aria-pressed") == "false" and float(track.get_attribute("data-gain")) > 0
        if others:
            track.find_element(By.CSS_SELECTOR, "[aria-label^=solo]").click()
            assert float(track.get_attribute("data-gain")) > 0
            assert all(float(other.get_attribute("data-gain")) == 0 for other in others)
        play.click()
        WebDriverWait(page, 10, 0.02).until(lambda _, p=player: p.get_attribute("data-state") == "paused")


def test_pictures_move(page):
    for slider in page.find_elements(By.CSS_SELECTOR, ".msdm-slider"):
        handle = slider.find_element(By.CSS_SELECTOR, "input[type=range]")
        assert handle.get_attribute("aria-label")
        page.execute_script("arguments[0].scrollIntoView({block: 'center'})", handle)
        seen = []
        for key in (Keys.HOME, Keys.ARROW_RIGHT):
            handle.send_keys(key)
            image = slider.find_element(By.CSS_SELECTOR, "figure:not([hidden]) img")
            assert image.is_displayed() and page.execute_script("return arguments[0].naturalWidth", image) > 0
            seen.append((image.get_attribute("src"), handle.get_attribute("aria-valuetext")))
        assert seen[0][0] != seen[1][0] and seen[0][1] != seen[1][1]


def test_every_link_inside_leads_somewhere_and_pages_are_light():
    """No browser is needed: each local address of every page, and the place in the page where it names one."""
    if not PAGES:
        pytest.skip("the site is not built: make book")
    root, targets, wrong = SITE.parent, {}, []
    for page in sorted(root.rglob("*.html")):
        text = page.read_text(encoding="utf-8")
        targets[page.resolve()] = set(re.findall(r"""\s(?:id|name)=["']([^"']+)""", text)), set(
            re.findall(r"""<a\s[^>]*?href=["']([^"']+)""", text))
        assert page.stat().st_size < 4_000_000, f"{page.name} is too large for a slow line"
    for page, (_, links) in targets.items():
        for link in links:
            path, _, anchor = unquote(html.unescape(link)).partition("#")
            if re.match(r"[a-z]+:|//", path):
                continue
            other = (page.parent / path).resolve() if path else page
            there = other in targets or other.exists()
            if not there or (anchor and other in targets and anchor not in targets[other][0]):
                wrong.append(f"{page.name}: {link}")
    assert wrong == []


def test_names_of_functions_lead_to_their_entry(browser):
    """In the prose of chapter 10, `msdm_lite.studies.claims` is a link into the API pages, to a place that is there."""
    browser.get((SITE / "10-measuring.html").as_uri())
    links = browser.find_elements(By.CSS_SELECTOR, "article a[href*='api.html#'] code")
    assert links
    target = links[0].find_element(By.XPATH, "..").get_attribute("href")
    browser.get(target)
    assert browser.execute_script("return !!document.getElementById(decodeURIComponent(location.hash.slice(1)))")
