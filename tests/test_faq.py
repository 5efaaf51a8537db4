"""The commands of docs/faq.md print the messages that the page shows."""

import json
import re
from pathlib import Path

import pytest
from kitti_trees import three_frames
from robust_run import write_run
from training_runs import write_tree

from drivetl.cli import main

PAGE = Path(__file__).parents[1] / "docs" / "faq.md"
SHOWN = re.findall(r"^\$ drivetl (.+)\n(error: .+)$", PAGE.read_text("utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the page's commands name."""
    folder = tmp_path_factory.mktemp("mistakes")
    three_frames(folder / "kitti")
    write_run(folder / "a_run")
    (folder / "out").mkdir()
    write_tree(folder / "images").rename(folder / "images" / "city.json")
    dataset = json.loads((folder / "images" / "city.json").read_text())
    dataset["info"]["drivetl"]["images_root"] = "images"
    box = {"bbox": [1, 1, 5, 5], "score": 0.5}
    files = {
        "city.json": json.dumps(dataset),
        "cars_only.yaml": "name: cars_only\nclasses:\n  car: {labels: [Car]}\nignore: {DontCare: all}\n",
        "taken/notes.txt": "",
        "typo.yaml": "optim:\n  epoch: 12\n",
        "text.yaml": "optim:\n  lr: abc\n",
        "of_another_split.json": json.dumps([box | {"image_id": 99, "category_id": 1}]),
        "from_zero.json": json.dumps([box | {"image_id": 1, "category_id": 0}]),
        "a_dataset.json": json.dumps({"images": []}),
        "broken.mp4": "",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_the_page_shows_messages() -> None:
    assert len(SHOWN) >= 12


@pytest.mark.parametrize(("words", "message"), SHOWN, ids=[words for words, _ in SHOWN])
def test_a_mistake_prints_the_shown_message(
    words: str, message: str, mistakes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(mistakes)
    assert main(words.split()) == 2
    assert capsys.readouterr().err.strip() == message
    assert not (mistakes / "out" / "kitti").exists() and not (mistakes / "halves").exists()
    assert not (mistakes / "seen").exists()
