"""The report in headless Chromium: no console error, no request, no horizontal scroll on a phone."""

import json
import os
import shutil
import subprocess

import cv2
import pytest

from drivetl.draw.pages import style_sheet

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine (apt-get install chromium)")

PROBE = """<script>
addEventListener("load", () => {
  const root = document.documentElement;
  const wide = [...document.querySelectorAll("body *")].filter(
    (element) => !element.closest("nav") && element.getBoundingClientRect().right > root.clientWidth + 1);
  const fetched = performance.getEntriesByType("resource").filter((entry) => !entry.name.startsWith("data:"));
  root.setAttribute("data-probe", JSON.stringify({
    scroll: root.scrollWidth, client: root.clientWidth,
    wide: wide.slice(0, 3).map((element) => element.className || element.tagName),
    fetched: fetched.map((entry) => entry.name),
    broken: [...document.images].filter((image) => image.loading !== "lazy" && !image.naturalWidth).length,
  }));
});
</script>"""


def chromium(page, folder, *flags):
    """stdout and stderr of a headless run without a network."""
    return subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--enable-logging=stderr",
            f"--user-data-dir={folder}",
            *flags,
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=os.environ | {"HOME": str(folder)},
    )


@pytest.fixture(scope="module")
def frames(report_folder, tmp_path_factory):
    """The page and, for each width, a page that holds it in a frame of that width and reports what it measures."""
    folder = tmp_path_factory.mktemp("browser")
    text = (report_folder / "report.html").read_text("utf-8")
    probed = folder / "probed.html"
    probed.write_text(text.replace("</body>", f"{PROBE}</body>"), "utf-8")
    return folder, probed


@pytest.mark.parametrize("width", [390, 1280])
def test_no_scroll_no_request_no_error(frames, width):
    folder, probed = frames
    # headless windows are never narrower than 500 px, so the phone is a frame
    holder = folder / f"holder_{width}.html"
    holder.write_text(
        f'<iframe id="f" width="{width}" height="60000" style="border:0" src="{probed.name}"></iframe><script>'
        'addEventListener("load", () => setTimeout(() => { const f = document.getElementById("f");'
        'document.title = f.contentDocument.documentElement.getAttribute("data-probe"); }, 300));</script>'
    )
    flags = ("--allow-file-access-from-files", "--virtual-time-budget=4000", "--dump-dom", "--window-size=1400,4200")
    done = chromium(holder, folder / "profile", *flags)
    title = done.stdout.split("<title>")[1].split("</title>")[0]
    measured = json.loads(title)
    assert measured["client"] == width, measured
    assert measured["scroll"] <= width and measured["wide"] == [], measured
    assert measured["fetched"] == [] and measured["broken"] == 0, measured
    errors = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert errors == []


BROKEN_WORDS = """<script>
addEventListener("load", () => {
  const broken = [...document.querySelectorAll("thead th")].filter((head) => {
    const range = document.createRange();
    range.selectNodeContents(head);
    return range.getClientRects().length > 1;
  });
  document.title = "broken: " + broken.length;
});
</script>"""


def test_no_word_of_a_table_head_is_broken(tmp_path):
    """Next to a column of long texts the other columns are as narrow as their words allow."""
    page = tmp_path / "table.html"
    heads = "".join(f"<th>{word}</th>" for word in ["condition", *["images", "difference"] * 5])
    cells = f"<th>{'a long name of a condition ' * 40}</th>" + "<td>7</td>" * 10
    table = f"<table><thead><tr>{heads}</tr></thead><tbody><tr>{cells}</tr></tbody></table>"
    page.write_text(f"<style>{style_sheet()}</style><main>{table}</main>{BROKEN_WORDS}")
    done = chromium(page, tmp_path / "profile", "--dump-dom", "--window-size=1280,800", "--virtual-time-budget=2000")
    assert "<title>broken: 0</title>" in done.stdout


def test_it_draws_in_light_and_dark(report_folder, tmp_path):
    shades = []
    for flags in ((), ("--blink-settings=preferredColorScheme=0",)):
        shot = tmp_path / f"shot{len(shades)}.png"
        chromium(
            report_folder / "report.html", tmp_path / "profile", f"--screenshot={shot}", "--window-size=800,600", *flags
        )
        shades.append(float(cv2.imread(str(shot)).mean()))
    assert shades[0] > 200 and shades[1] < 90
