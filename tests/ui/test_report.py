"""Reports in a real browser: as the command writes them, for good, strange and missing exposures."""

import os
import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from astropy.io import fits

from streamchar.image.fits import write_exposure
from streamchar.telescope import named_scene, simulate_exposure
from tests.ui.observed import LAPTOP, PHONE

HOSTILE = "<script>window.pwned=1</script><img src=x onerror='window.pwned=1'>"
GRADES = """
[grades.default.n_sources]
yellow = 100000.0
orange = 10.0
red = 1.0
"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """What ``streamchar run --report`` writes about a good exposure, one with hostile keys and two bad files."""
    folder = tmp_path_factory.mktemp("night")
    write_exposure(folder / "good.fits", simulate_exposure(named_scene("normal", size=512), 3).exposure)
    header = fits.Header({"GAIN": 2.0, "RDNOISE": 5.0, "INSTRUME": HOSTILE[:60], "BUNIT": "$\\frac{<b>"})
    noise = np.random.default_rng(1).normal(100, 5, (200, 260)).astype(np.float32)
    fits.PrimaryHDU(noise, header).writeto(folder / "<b>&.fits")
    fits.PrimaryHDU(np.full((64, 64), np.nan, np.float32), header).writeto(folder / "nan.fits")
    (folder / "night.toml").write_text(GRADES)
    names = ["good.fits", "<b>&.fits", "nan.fits", "<i>gone.fits"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "streamchar.cli",
            "run",
            *names,
            "-o",
            "out",
            "--report",
            "--config",
            "night.toml",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
    )
    assert done.returncode == 12, done.stderr
    assert "Traceback" not in done.stderr
    assert "report: out/index.html" in done.stderr
    return folder / "out"


PAGES = ["index.html", "good.report.html", "_b_.report.html", "nan.report.html", "_i_gone.report.html"]


@pytest.mark.parametrize("name", PAGES)
async def test_every_page_is_sound(page, observed, reports, name):
    path = reports / name
    assert path.stat().st_size < 5e6
    await page.goto(path.as_uri())
    assert observed.problems == []
    assert await page.evaluate("window.pwned") is None
    broken = await page.evaluate(
        "[...document.images].filter((image) => !(image.complete && image.naturalWidth > 0)).map((image) => image.alt)"
    )
    assert broken == []
    assert await page.evaluate("[...document.images].every((image) => image.hasAttribute('alt'))")
    assert await page.evaluate("[...document.querySelectorAll('.chart')].every((chart) => chart.ariaLabel)")
    assert await page.locator("h1").count() == 1
    levels = await page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3')].map((h) => Number(h.tagName[1]))"
    )
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    repeated = await page.evaluate(
        "(() => { const ids = [...document.querySelectorAll('[id]')].map((e) => e.id); return ids.length - new Set(ids).size })()"
    )
    assert repeated == 0
    for size in (LAPTOP, PHONE):
        await page.set_viewport_size(size)
        width = await page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]")
        assert max(width) <= size["width"]


async def test_a_report_shows_everything(page, reports):
    await page.goto((reports / "good.report.html").as_uri())
    headings = await page.locator("h2, h3").all_inner_texts()
    for words in (
        "As it was read",
        "Background subtracted, cosmic rays repaired",
        "Mask planes",
        "Sizes and magnitudes",
        "PSF over the detector",
        "Stars and what the model leaves of them",
        "Ellipticity of stars and model",
        "Ellipticity, star minus model",
        "Background",
        "Aperture correction",
        "CPU time by step",
        "Grade",
        "Summary statistics",
    ):
        assert words in headings
    charts = page.locator(".chart svg")
    count = await charts.count()
    # With few stars the aperture correction is the same everywhere: a sentence and no chart.
    assert count >= 7
    for number in range(count):
        box = await charts.nth(number).bounding_box()
        assert min(box["width"], box["height"]) > 200
    assert await page.locator(".stars .used").count() > 5
    text = await page.locator("main").inner_text()
    assert re.search(r"Seeing \(FWHM\)\s+\d\.\d\d″", text)
    assert "▲ orange: limit 10" in text or "✕ red: limit 1" in text or "▲ yellow: limit" in text
    assert not await page.locator("details[open]").count()
    await page.locator("summary", has_text="Configuration").press("Enter")
    assert "repair.cosmicray.n_cr_pixel_max" in await page.locator("details[open]").inner_text()


async def test_the_background_of_footprints_is_not_empty(page, reports):
    """Layers lie over the picture and hold something."""
    await page.goto((reports / "good.report.html").as_uri())
    pixels = page.locator(".viewer .sky .pixels").last
    layer = page.locator(".viewer .layer.outlines")
    assert await pixels.bounding_box() == await layer.bounding_box()
    drawn = await layer.evaluate(
        """(image) => { const canvas = document.createElement("canvas");
        canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
        const context = canvas.getContext("2d"); context.drawImage(image, 0, 0);
        const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
        let count = 0; for (let i = 3; i < data.length; i += 4) count += data[i] > 0;
        return count / (data.length / 4) }"""
    )
    assert 0.005 < drawn < 0.5


async def test_layers_and_theme_are_switched_without_scripts(page, reports):
    await page.goto((reports / "good.report.html").as_uri())
    assert await page.locator("script").count() == 0
    for kind in ("outlines", "stars"):
        layer = page.locator(f".viewer .layer.{kind}")
        assert await layer.is_visible()
        await page.locator(f".show-{kind}").uncheck()
        assert not await layer.is_visible()
    style = "getComputedStyle(document.body).backgroundColor"
    inverted = "getComputedStyle(document.querySelector('.pixels')).filter"
    light = await page.evaluate(style)
    assert await page.evaluate(inverted) == "none"
    await page.locator("#theme-dark").check()
    assert await page.evaluate(style) != light
    assert await page.evaluate(inverted) == "invert(1)"
    await page.locator("#theme-auto").check()
    await page.emulate_media(color_scheme="dark")
    assert await page.evaluate(inverted) == "invert(1)"
    await page.locator("#theme-light").check()
    assert await page.evaluate(style) == light


async def test_a_report_is_used_by_keyboard(page, reports):
    await page.goto((reports / "good.report.html").as_uri())
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "Skip to the content"
    reached = set()
    for _ in range(20):
        await page.keyboard.press("Tab")
        reached.add(await page.evaluate("document.activeElement.tagName + document.activeElement.type"))
    assert {"INPUTradio", "INPUTcheckbox"} <= reached


async def test_the_index_leads_to_the_reports_and_back_in_any_order(page, observed, reports):
    await page.goto((reports / "index.html").as_uri())
    rows = page.locator(".index tbody tr")
    assert await rows.count() == 4
    names = [await rows.nth(number).locator("a").get_attribute("href") for number in range(4)]
    assert names == ["good.report.html", "_b_.report.html", "nan.report.html", "_i_gone.report.html"]
    for name in names:
        await page.locator(f'.index a[href="{name}"]').click()
        await page.wait_for_url(f"**/{name}")
        assert await page.locator("h1").count() == 1
        await page.go_back()
    sources = page.locator(".index thead button", has_text="sources")
    for order in ("ascending", "descending"):
        await sources.press("Enter")
        assert await page.locator(f'th[aria-sort="{order}"]').inner_text() == "sources"
        values = await rows.locator("td:nth-child(7)").evaluate_all(
            "(cells) => cells.map((cell) => cell.dataset.value)"
        )
        known = [float(value) for value in values if value is not None]
        assert known == sorted(known, reverse=order == "descending")
        assert values[-1] is None
    assert "no such file" in await page.locator(".index").inner_text()
    assert observed.problems == []


async def test_a_failed_exposure_has_a_report_with_what_there_was(page, reports):
    await page.goto((reports / "nan.report.html").as_uri())
    assert "no pixel of the image is finite" in await page.locator(".notices.failed").inner_text()
    assert await page.locator(".viewer .pixels").count() == 1
    await page.goto((reports / "_i_gone.report.html").as_uri())
    assert await page.locator("h1").inner_text() == "<i>gone.fits"
    assert "no such file" in await page.locator(".notices.failed").inner_text()


async def test_what_headers_say_is_text(page, reports):
    await page.goto((reports / "_b_.report.html").as_uri())
    assert "<script>window.pwned=1</script>" in await page.locator("h1").inner_text()
    assert "$\\frac{<b>" in await page.locator("main").inner_text()
    assert await page.locator("main b").count() == 0


async def test_a_printed_report_is_light_and_whole(page, reports):
    await page.emulate_media(media="print", color_scheme="dark")
    await page.goto((reports / "good.report.html").as_uri())
    await page.locator("#theme-dark").evaluate("(choice) => { choice.checked = true }")
    assert await page.evaluate("getComputedStyle(document.querySelector('.pixels')).filter") == "none"
    assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not await page.locator("nav").is_visible()
    pdf = await page.pdf(prefer_css_page_size=True)
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 15
