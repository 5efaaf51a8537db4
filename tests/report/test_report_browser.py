"""The report in headless Chromium: no console error, no request, no horizontal scroll on a phone; light and dark."""

import cv2
import pytest
from browser import WIDTHS, assert_the_page_fits, chromium, needs_browser

pytestmark = needs_browser


@pytest.mark.parametrize("width", WIDTHS)
def test_no_scroll_no_request_no_error(report_folder, tmp_path, width):
    assert_the_page_fits((report_folder / "report.html").read_text("utf-8"), tmp_path, width)


def test_it_draws_in_light_and_dark(report_folder, tmp_path):
    shades = []
    for flags in ((), ("--blink-settings=preferredColorScheme=0",)):
        shot = tmp_path / f"shot{len(shades)}.png"
        chromium(
            report_folder / "report.html", tmp_path / "profile", f"--screenshot={shot}", "--window-size=800,600", *flags
        )
        shades.append(float(cv2.imread(str(shot)).mean()))
    assert shades[0] > 200 and shades[1] < 90
