"""The `next:` command of predict runs as printed; export takes its size from the run's data."""

import json
import shlex

import pytest
import yaml
from planted import planted_dataset
from robust_run import write_run

from drivetl.cli import main
from drivetl.commands.export import data_size_hw
from drivetl.errors import ConfigError


def next_command(capsys):
    """The words of the last `next:` line."""
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next:")]
    program, *words = shlex.split(lines[-1].removeprefix("next:"))
    assert program == "drivetl"
    return words


def test_law_the_next_commands_of_predict_run_and_evaluate_every_detection(tmp_path, capsys):
    data = planted_dataset(tmp_path / "planted", n_images=2, n_drives=2)
    run = write_run(tmp_path / "a run")
    words = ["predict", "--run", str(run), "--data", str(data), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*words, "--score", "0.3", "--workers", "0"]) == 0
    words = next_command(capsys)
    assert words[0] == "predict" and words[words.index("--score") + 1] == "0"
    assert main([*words, "--workers", "0", "--device", "cpu"]) == 0
    words = next_command(capsys)
    assert words[0] == "evaluate" and words[-1] == str(tmp_path / "out_all" / "results.json")
    assert main(words) == 0


def test_export_takes_the_size_of_most_images_of_the_run_data(tmp_path, capsys):
    data = planted_dataset(tmp_path / "planted", n_images=3, n_drives=3)
    image = json.loads(data.read_text())["images"][0]
    run = write_run(tmp_path / "run")
    with pytest.raises(ConfigError, match="size of the run's images is unknown") as caught:
        data_size_hw(run)
    assert "--height and --width" in caught.value.remedy
    (run / "config.yaml").write_text(yaml.safe_dump({"data": {"val": str(data)}}))
    assert data_size_hw(run) == (image["height"], image["width"])
    assert f"{image['width']} x {image['height']} px" in capsys.readouterr().out
