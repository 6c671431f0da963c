"""The page in a real browser: light and dark, wide and on a phone, and printed."""

import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from axformer_lightning.report.page import write_report
from tests.report.runs import write_run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DARK = "--blink-settings=preferredColorScheme=0"
LIGHT = "--blink-settings=preferredColorScheme=1"
pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    for seed in range(3):
        write_run(folder / "a" / str(seed), "tolerance=0", seed=seed, dense=0.7, cut=0.75)
        write_run(folder / "b" / str(seed), "tolerance=0.05", seed=seed, dense=0.7, cut=0.6)
        write_run(folder / "dense" / str(seed), seed=seed, dense=0.7, cut=0.75, retrain_dense=True)
    return write_report(folder, floor=1.0)


def browse(page, *options):
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *options, page.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return ran.stdout + ran.stderr


def shot(page, tmp_path, width, *options, height=1600):
    path = tmp_path / "shot.png"
    browse(page, f"--window-size={width},{height}", f"--screenshot={path}", *options)
    return np.asarray(Image.open(path).convert("L")).astype(float)


@pytest.mark.parametrize("width", [1200, 500])
def test_light_and_dark_are_readable_at_any_width(page, tmp_path, width):
    light, dark = (shot(page, tmp_path, width, scheme) for scheme in (LIGHT, DARK))
    assert np.median(light) > 240
    assert np.median(dark) < 40
    assert light.min() < 60  # ink on paper
    assert dark.max() > 200
    margins = 6
    assert np.ptp(light[:, :margins]) < 3  # nothing runs over the edge
    assert np.ptp(dark[:, :margins]) < 3


def test_it_is_no_wider_than_a_phone(page):
    probe = page.with_name("probe.html")
    script = "<script>document.title = document.documentElement.scrollWidth + ' of ' + innerWidth</script>"
    probe.write_text(page.read_text() + script)
    said = browse(probe, "--window-size=500,800", "--dump-dom")
    scrolled, _, shown = said.split("<title>")[1].split("</title>")[0].partition(" of ")
    assert int(scrolled) <= int(shown)


def test_the_browser_complains_of_nothing(page):
    said = browse(page, "--enable-logging=stderr", "--v=0", "--dump-dom")
    assert "CONSOLE" not in said


def test_it_prints(page, tmp_path):
    path = tmp_path / "page.pdf"
    browse(page, DARK, "--no-pdf-header-footer", f"--print-to-pdf={path}")
    assert path.read_bytes()[:5] == b"%PDF-"
    assert path.stat().st_size > 20_000
