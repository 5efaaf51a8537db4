"""`--detector python:FILE.py:FACTORY`: the user's own code in the command, and its mistakes as one line."""

import json
from pathlib import Path

import pytest
import torch
from planted import PlantedDetector, planted_dataset

import drivetl
from drivetl.cli import main
from drivetl.coco.io import read_dataset
from drivetl.data.dataset import read_image

QUICK = ["--conditions", "night", "--severities", "1,3", "--draws", "60", "--workers", "0"]
HELPERS = Path(__file__).parents[1] / "helpers"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return planted_dataset(tmp_path_factory.mktemp("planted"), n_images=10, n_drives=5)


@pytest.fixture
def code(tmp_path, monkeypatch):
    """Writes a module; sys.path is restored."""
    monkeypatch.syspath_prepend(str(HELPERS))

    def write(text):
        (tmp_path / "mine.py").write_text(text)
        return f"python:{tmp_path / 'mine.py'}"

    return write


def evaluate(spec, data, out, *words):
    return main(["eval-robustness", "--detector", spec, "--data", str(data), "--out", str(out), *QUICK, *words])


def test_the_command_gives_the_numbers_of_the_library(data, code, tmp_path):
    spec = code("from planted import PlantedDetector\n\n\ndef make():\n    return PlantedDetector()\n")
    assert evaluate(f"{spec}:make", data, tmp_path / "out") == 0
    own = drivetl.evaluate_robustness(
        PlantedDetector(), data, conditions="night", severities=(1, 3), draws=60, workers=0
    )
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    assert document["cells"] == own.document["cells"] and own.clean.point > 0.5
    assert evaluate("python:planted:PlantedDetector", data, tmp_path / "module") == 0
    assert json.loads((tmp_path / "module" / "results.json").read_text())["cells"] == document["cells"]


def test_a_cache_keeps_what_was_detected(data, code, tmp_path):
    """The second call infers nothing; without a name of the weights nothing is kept."""
    spec = code("from planted import PlantedDetector\n\n\ndef make():\n    return PlantedDetector()\n")
    words = ["--cache", str(tmp_path / "cache")]
    assert evaluate(f"{spec}:make", data, tmp_path / "a", *words) == 0
    assert evaluate(f"{spec}:make", data, tmp_path / "b", *words) == 0
    first, second = (json.loads((tmp_path / name / "results.json").read_text()) for name in "ab")
    assert first["timing"]["inferences"] > 0 == second["timing"]["inferences"] and first["cells"] == second["cells"]
    spec = code("from planted import PlantedDetector\n\n\ndef make():\n    return PlantedDetector(weights_hash='')\n")
    assert evaluate(f"{spec}:make", data, tmp_path / "c", *words) == 2 and not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("text", "factory", "message"),
    [
        ("def make():\n    return 3\n", "make", "the detector is"),
        ("def make():\n    return 3\n", "mkae", "mine.py: no function 'mkae' - did you mean 'make'?"),
        ("def make():\n    return 1 / 0\n", "make", "mine.py:2: make() raised ZeroDivisionError"),
        ("import nowhere\n", "make", "mine.py raised ModuleNotFoundError: No module named 'nowhere'"),
        (
            "class D:\n    categories = ('car', 'pedestrian')\n\n    def infer(self, x):\n        raise OSError(5)\n",
            "D",
            "mine.py:5: D.infer raised OSError: 5",
        ),
        (
            "class D:\n    categories = ('boat',)\n    infer = len\n",
            "D",
            "no class of the detector is one of the data's: boat; those are car, pedestrian - name the same ones, like "
            "--class-map boat=car",
        ),
    ],
)
def test_mistakes_in_the_code_are_one_line(data, code, tmp_path, capsys, text, factory, message):
    assert evaluate(f"{code(text)}:{factory}", data, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and not (tmp_path / "out").exists()


WRONG = {
    "nan": ("[[1, 2, 30, 40]], [float('nan')], [1]", "image 0: scores contain NaN or infinity"),
    "label": ("[[1, 2, 30, 40]], [0.5], [0]", "image 0: labels from 0 to 0, for 2 classes - labels begin at 1"),
    "xywh": ("[[90, 60, 30, 20]], [0.5], [1]", "the box (90, 60, 30, 20) ends before it begins"),
    "fraction": ("[[0.1, 0.2, 0.3, 0.4]], [0.5], [1]", "no box goes beyond 0.4, the image is 256 x 96 px"),
    "resized": ("[[600, 2, 630, 40]], [0.5], [1]", "the box (600, 2, 630, 40) is outside the image of 256 x 96 px"),
    "shape": ("[[1, 2, 30]], [0.5], [1]", "boxes (1, 3), scores (1,), labels (1,)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_answers_are_one_line_and_nothing_is_written(data, code, tmp_path, capsys, name):
    answer, message = WRONG[name]
    text = f"class D:\n    categories = ('car', 'pedestrian')\n    infer = lambda self, x: [({answer})] * len(x)\n"
    assert evaluate(f"{code(text)}:D", data, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and not (tmp_path / "out").exists()


def test_an_image_of_another_size_is_one_line(code, tmp_path, capsys):
    data = planted_dataset(tmp_path / "d", n_images=6, n_drives=3)
    document = json.loads(data.read_text())
    document["images"][2]["width"] += 8
    data.write_text(json.dumps(document))
    spec = code("from planted import PlantedDetector\n\n\ndef make():\n    return PlantedDetector()\n")
    assert evaluate(f"{spec}:make", data, tmp_path / "out", "--workers", "1") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and "000002.png: is 256 x 96, the json says 264 x 96" in lines[0]
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there(data, tmp_path, capsys):
    assert evaluate("python:nowhere.py:make", data, tmp_path / "out") == 2
    assert "nowhere.py: cannot be read" in capsys.readouterr().err
    assert evaluate("python:nowhere.py", data, tmp_path / "out") == 2
    assert "is not python:FILE.py:FACTORY" in capsys.readouterr().err


def predict(spec, data, out, *words):
    return main(["predict", "--detector", spec, "--data", str(data), "--out", str(out), "--workers", "0", *words])


def test_predict_writes_what_the_detector_finds(data, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(HELPERS))
    spec = "python:planted:PlantedDetector"
    words = ["--score", "0", "--pictures", "1", "--compare", f"{spec}", "--batch-size", "1"]
    assert predict(spec, data, tmp_path / "out", *words) == 2
    assert "--compare names the same run" in capsys.readouterr().err
    assert predict(spec, data, tmp_path / "out", *words[:4], "--batch-size", "1") == 0
    dataset = read_dataset(data)
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    for record in dataset.images:
        image = torch.from_numpy(read_image(record, dataset.images_root)).permute(2, 0, 1)
        found = PlantedDetector().infer([image])[0]
        written = [row for row in rows if row["image_id"] == record.id]
        assert sorted(row["category_id"] for row in written) == sorted(found.labels.tolist())
        assert sorted(row["bbox"][0] for row in written) == sorted(found.boxes[:, 0].tolist())
    assert len(rows) > 10 and "drivetl evaluate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--detector", "results:."], "a folder of results cannot detect"),
        (["--detector", "python:nowhere.py:make"], "nowhere.py: cannot be read"),
        (["--detector", "torchvision:none", "--run", "."], "needs one of --run and --detector"),
        ([], "needs one of --run and --detector"),
        (["--detector", "torchvision:none", "--at", "fp=1"], "--at needs the validation of a run"),
    ],
)
def test_predict_refuses_other_detectors(data, tmp_path, capsys, words, message):
    assert main(["predict", "--data", str(data), "--out", str(tmp_path / "o"), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and not (tmp_path / "o").exists()
