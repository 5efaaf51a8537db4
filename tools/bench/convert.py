"""Conversion of KITTI's layout to COCO against datumaro, on the same folder, a process each.

    python tools/bench/convert.py [IMAGES]

datumaro is not a dependency of drivetl: set DATUMARO_PYTHON to a Python that has it (1.13), or its row stays empty.
KITTI_LABELS may name a folder of label files (KITTI's label_2), which are then measured first.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

TITLE = "KITTI -> COCO json"
ROOT = Path(__file__).parents[2]
LABELS = ["Car"] * 11 + ["Pedestrian"] * 2 + ["Van", "Cyclist", "Truck", "DontCare", "DontCare"]
SIZES = ((7_481, 7), (100_000, 15))
"""(images, objects an image): KITTI's own size, and a large city's."""

TREE, OUT = "TREE", "OUT"
"""In a command: where the images are, and the new folder."""

DATUMARO = """
import sys, datumaro
datumaro.Dataset.import_from(sys.argv[1], "kitti").export(sys.argv[2], "coco_instances", save_media=False)
"""

STEPS = """
import gc, json, sys, time
from pathlib import Path
from drivetl.adapters.kitti import read_kitti
from drivetl.convert.build import Account, build_dataset
from drivetl.files.images import image_size
from drivetl.files.read import read_text
from drivetl.convert.split import SplitOptions, split_images
from drivetl.coco.taxonomy import load_taxonomy
from drivetl.coco.writing import Lines, encode_datasets
from drivetl.files.shipped import shipped
gc.disable()
start = time.process_time()
root, out = Path(sys.argv[1]), Path(sys.argv[2])
seconds = {"read labels and headers": 0.0, "build": 0.0, "encode json": 0.0}
def step(name, work, *arguments):
    start = time.process_time()
    result = work(*arguments)
    seconds[name] = seconds.get(name, 0.0) + time.process_time() - start
    return result
taxonomy, account = load_taxonomy(shipped("datasets/kitti/taxonomy.yaml")), Account()
lines = Lines(len(taxonomy.categories))
def read():
    images = iter(read_kitti(root, account))
    while (image := step("read labels and headers", next, images, None)) is not None:
        yield image
def encode(image):
    step("encode json", lines.add, image)
    image.annotations, image.ignore_regions = [], []
data = step("build", lambda: build_dataset(
    read(), taxonomy, root, source="kitti", account=account, finished=encode))
seconds["build"] -= seconds["read labels and headers"] + seconds["encode json"]
split = step("split", split_images, data.images, SplitOptions("random"))
parts = {"all": data, "train": data.subset(split.train), "val": data.subset(split.val)}
files = encode_datasets(parts, out, lines)
def write():
    for name, pieces in files.items():
        with open(out / name, "wb", buffering=1 << 20) as file:
            file.writelines(pieces)
step("write", write)
step("of reading: opening files, headers", lambda: [
    (image_size(root / image.file_name), read_text(root / "training/label_2" / (Path(image.file_name).stem + ".txt")))
    for image in data.images])
print(json.dumps(seconds))
"""


def run(sizes: tuple[tuple[int, int], ...] = SIZES) -> list[dict[str, Any]]:
    """One row a tool and size, and one for each step of ours."""
    rows: list[dict[str, Any]] = []
    own = os.environ.get("KITTI_LABELS")
    if own:
        rows += measure(lambda root: write_tree_of(root, Path(own)))
    for n_images, per_image in sizes:
        rows += measure(partial(write_tree, n_images=n_images, per_image=per_image))
    columns = ("what", "tool", "wall_s", "cpu_s", "peak_mb", "wall ratio", "cpu ratio", "load", "share")
    return [{key: row.get(key) for key in columns} for row in rows]


def measure(write: Callable[[Path], int]) -> Iterator[dict[str, Any]]:
    """The rows of one tree; `write` makes it and says how many objects it holds."""
    datumaro = os.environ.get("DATUMARO_PYTHON")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        n_objects = write(folder / "kitti")
        n_images = len(list((folder / "kitti" / "training" / "label_2").iterdir()))
        what = f"{n_images:,} images, {n_objects:,} objects"
        convert = [sys.executable, str(ROOT / "tools" / "convert_kitti.py"), "--split", "random"]
        convert += ["--root", TREE, "--out", OUT]
        commands = {"drivetl": convert}
        if datumaro:
            commands["datumaro"] = [datumaro, "-c", DATUMARO, TREE, OUT]
        load = os.getloadavg()[0]
        best = fastest(commands, folder, 5 if n_images < 50_000 else 2)
        for tool, result in best.items():
            row = {"what": what, "tool": tool, **result, "load": load}
            if datumaro:
                row |= {
                    f"{kind} ratio": best["datumaro"][f"{kind}_s"] / result[f"{kind}_s"] for kind in ("wall", "cpu")
                }
            yield row
        if not datumaro:
            yield {"what": what, "tool": "datumaro (not installed)"}
        yield from steps(folder, what)


def fastest(commands: dict[str, list[str]], folder: Path, repeats: int) -> dict[str, dict[str, float]]:
    """Each tool's fastest of `repeats` runs, taken in turns, on `folder`/kitti.

    A run on a tree of one image comes first, so that no run waits for Python to compile what it imports.
    """
    write_tree(folder / "warm", 1, 1)

    def once(command: list[str], tree: str) -> dict[str, float]:
        places = {TREE: str(folder / tree), OUT: str(folder / "out")}
        result = timed([places.get(word, word) for word in command], folder)
        shutil.rmtree(folder / "out")
        return result

    for command in commands.values():
        once(command, "warm")
    found: dict[str, list[dict[str, float]]] = {tool: [] for tool in commands}
    for _ in range(repeats):
        for tool, command in commands.items():
            found[tool].append(once(command, "kitti"))
    return {tool: min(results, key=lambda result: result["wall_s"]) for tool, results in found.items()}


def steps(folder: Path, what: str) -> Iterator[dict[str, Any]]:
    """Where the time goes: a row a step."""
    (folder / "steps").mkdir()
    command = [sys.executable, "-c", STEPS, str(folder / "kitti"), str(folder / "steps")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    seconds: dict[str, float] = json.loads(done.stdout)
    whole = sum(value for name, value in seconds.items() if not name.startswith("of "))
    for name, value in seconds.items():
        yield {"what": what, "tool": f"drivetl: {name}", "cpu_s": value, "share": value / whole}


WATCH = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
wall_s = time.perf_counter() - start
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
if done.returncode:
    sys.exit(done.stderr[-2000:])
cpu_s = usage.ru_utime + usage.ru_stime
print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s, "peak_mb": usage.ru_maxrss / 1e3}))
"""


def timed(command: list[str], folder: Path) -> dict[str, float]:
    """Wall and processor seconds and the peak memory of a process. Raises RuntimeError with its output if it fails.

    A small process starts it: the peak of a child counts what its parent held, and this one may hold torch. Compiled
    Python is kept in `folder`.
    """
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} failed: {done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout)
    return result


def write_tree_of(root: Path, labels: Path) -> int:
    """A folder in KITTI's layout with these label files; returns the objects in them."""
    images, into = root / "training" / "image_2", root / "training" / "label_2"
    images.mkdir(parents=True)
    into.mkdir(parents=True)
    total = 0
    for path in sorted(labels.glob("*.txt")):
        text = path.read_text()
        (into / path.name).write_text(text)
        (images / f"{path.stem}.png").write_bytes(tiny_png(1242, 375))
        total += len(text.splitlines())
    return total


def write_tree(root: Path, n_images: int, per_image: int) -> int:
    """A folder in KITTI's layout with true PNG headers; returns the objects written."""
    rng = random.Random(0)  # noqa: S311
    images, labels = root / "training" / "image_2", root / "training" / "label_2"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    png = tiny_png(1242, 375)
    total = 0
    for number in range(n_images):
        (images / f"{number:06d}.png").write_bytes(png)
        lines = [label_line(rng) for _ in range(rng.randint(0, 2 * per_image))]
        (labels / f"{number:06d}.txt").write_text("".join(lines))
        total += len(lines)
    return total


def label_line(rng: random.Random) -> str:
    """One object as KITTI writes it."""
    label = rng.choice(LABELS)
    x, y = rng.uniform(0, 1100), rng.uniform(100, 300)
    box = f"{x:.2f} {y:.2f} {x + rng.uniform(8, 140):.2f} {y + rng.uniform(8, 74):.2f}"
    if label == "DontCare":
        return f"{label} -1 -1 -10 {box} -1 -1 -1 -1000 -1000 -1000 -10\n"
    rest = " ".join(f"{rng.uniform(-20, 60):.2f}" for _ in range(7))
    return f"{label} {rng.random():.2f} {rng.randint(0, 3)} {rng.uniform(-3, 3):.2f} {box} {rest}\n"


def tiny_png(width: int, height: int) -> bytes:
    """A whole, black PNG of a few hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + (width + 7) // 8) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


if __name__ == "__main__":
    chosen = tuple((int(count), 15) for count in sys.argv[1:]) or SIZES
    for line in run(chosen):
        print({key: value for key, value in line.items() if value is not None})
