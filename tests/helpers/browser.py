"""A page in headless Chromium: no console error, no request, no sideways scroll, on a phone and on a screen."""

import json
import os
import shutil
import subprocess

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine (apt-get install chromium)")
WIDTHS = (390, 1280)

PROBE = """<script>
addEventListener("load", () => {
  const root = document.documentElement;
  const wide = [...document.querySelectorAll("body *")].filter(
    (element) => !element.closest("nav, .scroll") && element.getBoundingClientRect().right > root.clientWidth + 1);
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


def assert_the_page_fits(text, folder, width):
    """The text of a page, shown in a frame of `width` px: headless windows are never narrower than 500 px."""
    probed, holder = folder / "probed.html", folder / f"holder_{width}.html"
    probed.write_text(text.replace("</body>", f"{PROBE}</body>"), "utf-8")
    holder.write_text(
        f'<iframe id="f" width="{width}" height="60000" style="border:0" src="{probed.name}"></iframe><script>'
        'addEventListener("load", () => setTimeout(() => { const f = document.getElementById("f");'
        'document.title = f.contentDocument.documentElement.getAttribute("data-probe"); }, 300));</script>'
    )
    flags = ("--allow-file-access-from-files", "--virtual-time-budget=4000", "--dump-dom", "--window-size=1400,4200")
    done = chromium(holder, folder / "profile", *flags)
    measured = json.loads(done.stdout.split("<title>")[1].split("</title>")[0])
    assert measured["client"] == width, measured
    assert measured["scroll"] <= width and measured["wide"] == [], measured
    assert measured["fetched"] == [] and measured["broken"] == 0, measured
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
