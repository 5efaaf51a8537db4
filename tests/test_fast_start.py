"""Laws of the start: help and mistakes import nothing slow; commands that need no network never import torch; others
say something before they do.

Each test is one subprocess, because what pytest has imported would hide an import.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from planted import planted_dataset

from drivetl.files.runs import STATE

TORCH = ("torch", "torchvision", "albumentations", "matplotlib", "scipy", "pandas")
SLOW = (*TORCH, "cv2", "numpy", "pycocotools", "PIL", "jinja2", "rich")

CONFIG = "data: {train: train.json, val: train.json}\n"
MISTAKES = (
    "evalute",
    "info nowhere",
    "audit nowhere.json",
    "audit train.json --out taken",
    "view train.json --out taken",
    "view train.json --out v.png --tile-width 1",
    "evaluate --gt nowhere.json --predictions train.json",
    "evaluate --gt train.json --predictions train.json --threshold-value 2",
    "compare nowhere nowhere",
    "compare train.json train.json",
    "conditions nowhere.png --out c.png",
    "conditions train.json --out taken",
    "convert-kitti --root nowhere --out o",
    "convert-footage --format cvat --root nowhere --out o",
    "labels train.json --format yolo --out taken",
    "labels train.json --format yolov --out o",
    "split nowhere.json --out o",
    "merge nowhere.json --out o",
    "sample --out taken",
    "finetune --config nowhere.yaml",
    "finetune --config c.yaml --optim.lrr 1",
    "finetune --config c.yaml --optim.lr abc",
    "finetune --config c.yaml --model.arch fasterrcnn_resnet50",
    "finetune --config c.yaml --model.start nowhere.pth",
    "finetune --config c.yaml --data.val nowhere.json",
    "finetune --config c.yaml --data.augment wether",
    "finetune --config c.yaml --data.augment atuo",
    "finetune --config c.yaml --out taken",
    "finetune --config c.yaml --out begun",
    "finetune --config c.yaml --out nowhere --resume",
    "select",
    "select data --run nowhere --out o",
    "select data --run . --out taken",
    "select data --run . --out o --labelled nowhere.json",
    "select data --run . --out o --gap -1",
    "doubt train.json",
    "doubt nowhere.json --run nowhere",
    "doubt train.json --run taken --out taken",
    "doubt train.json --run taken --threshold swaped=0.5",
    "anchors train.json --config nowhere.yaml",
    "anchors nowhere.json --config c.yaml",
    "budget --config c.yaml --data.val nowhere.json",
    "budget --config c.yaml --regimes tranfer",
    "eval-robustness --run nowhere --data train.json",
    "eval-robustness --run taken --data nowhere.json",
    "eval-robustness --run taken --data train.json --budget soon",
    "eval-robustness --run taken --data train.json --out taken",
    "eval-robustness --detector yolo:nowhere --data train.json --out o",
    "eval-robustness --detector onnx:nowhere.onnx --data train.json --out o",
    "eval-robustness --detector python:c.yaml --data train.json --out o",
    "export --run nowhere --out o.onnx",
    "predict nowhere.jpg --run nowhere --out o",
    "predict c.yaml --run . --out taken",
    "predict nowhere.jpg --run . --out o --score abc",
)

MAIN = """
import json, sys
from drivetl.cli import main
slow, calls = map(json.loads, sys.argv[1:])
def code_of(words):
    try:
        return main(words)
    except SystemExit as stop:
        return stop.code
for words in calls:
    code = code_of(words)
    print(json.dumps([words, code, [name for name in slow if name in sys.modules]]), flush=True)
"""


def run(calls, slow, folder):
    """[(words, exit code, slow modules that are imported)] after each call, all in one process."""
    command = [sys.executable, "-c", MAIN, json.dumps(slow), json.dumps(calls)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[[")], done.stderr


def test_the_parsers_of_all_commands_import_nothing_slow():
    code = (
        "import sys\nfrom drivetl.commands import COMMANDS, build_parser\n"
        "for command in COMMANDS: build_parser(command); print(command, *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first = {}  # slow module -> the command that imports it
    for line in done.stdout.splitlines():
        command, *modules = line.split()
        first |= {module: command for module in modules if module in SLOW and module not in first}
    assert first == {}


@pytest.fixture
def folder(tmp_path):
    planted_dataset(tmp_path / "data", n_images=2, n_drives=2)
    (tmp_path / "train.json").write_text((tmp_path / "data" / "val.json").read_text())
    (tmp_path / "c.yaml").write_text(CONFIG)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("")
    (tmp_path / "begun" / STATE).parent.mkdir(parents=True)
    (tmp_path / "begun" / STATE).write_text("")
    return tmp_path


def test_a_mistake_is_told_before_anything_slow_is_imported(folder):
    before = sorted(path.name for path in folder.iterdir())
    results, stderr = run([mistake.split() for mistake in MISTAKES], TORCH, folder)
    assert [(words, code, modules) for words, code, modules in results if code != 2 or modules] == []
    assert len(results) == len(MISTAKES)
    assert len(stderr.splitlines()) == len(MISTAKES) and "Traceback" not in stderr
    assert sorted(path.name for path in folder.iterdir()) == before


def test_evaluate_compare_info_audit_and_view_never_import_torch(folder):
    (folder / "results.json").write_text("[]")
    data = str(Path("data", "val.json"))
    calls = [
        ["info", data],
        ["audit", data, "--out", "audit"],
        ["view", data, "--out", "v.png"],
        ["evaluate", "--gt", data, "--predictions", "results.json", "--details"],
        ["compare", "results.json", "results.json", "--data", data, "--draws", "100"],
    ]
    results, stderr = run(calls, ("torch", "torchvision"), folder)
    assert [(code, modules) for _, code, modules in results] == [(0, [])] * len(calls), stderr


SLOW_STARTS = (
    "finetune --config c.yaml",
    "info --config c.yaml",
    "anchors train.json --config c.yaml",
    "budget --config c.yaml --out b",
    "eval-robustness --run run --data train.json",
    "export --run run --out o.onnx",
    "predict run/image.png --run run --out p",
    "tools/finetune.py --config c.yaml",
    "tools/eval_robustness.py --run run --data train.json",
)

UNTIL_TORCH = """
import contextlib, io, json, runpy, sys
from pathlib import Path

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise SystemExit("torch is imported")

sys.meta_path.insert(0, Stop())
root, *calls = json.loads(sys.argv[1])
for call in calls:
    program, *words = call.split()
    sys.argv = ["drivetl", program, *words]
    said, code = io.StringIO(), None
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            if program.endswith(".py"):
                sys.argv = [program, *words]
                runpy.run_path(str(Path(root) / program), run_name="__main__")
            else:
                runpy.run_module("drivetl", run_name="__main__")
        except SystemExit as stop:
            code = stop.code
    print(json.dumps([call, code, said.getvalue()]))
"""
"""Prints for every command what it says before torch is imported, where it ends."""


def test_law_something_is_said_before_torch_is_imported(folder):
    checkpoint = folder / "run" / "checkpoints" / "best"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.json").write_text(json.dumps({"spec": {"categories": ["car"]}}))
    (checkpoint / "model.safetensors").touch()
    image = next(path for path in (folder / "data").rglob("*") if path.suffix in (".png", ".jpg"))
    (folder / "run" / "image.png").write_bytes(image.read_bytes())
    calls = json.dumps([str(Path(__file__).parents[1]), *SLOW_STARTS])
    done = subprocess.run(
        [sys.executable, "-c", UNTIL_TORCH, calls], cwd=folder, capture_output=True, text=True, check=True
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [call for call, _, _ in results] == list(SLOW_STARTS)
    assert [result for result in results if result[1] != "torch is imported"] == []
    assert [call for call, _, said in results if not said.strip()] == []
