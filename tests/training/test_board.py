"""Laws of what TensorBoard and MLflow show: metrics.jsonl, and every step once, also of a resumed run."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from PIL import Image
from training_runs import changed, kill_after

from drivetl.config import check_files, load_config
from drivetl.console.text import markdown
from drivetl.errors import ConfigError
from drivetl.models.weights import read_weights
from drivetl.training.board import Boards, Mlflow, TensorBoard, open_boards
from drivetl.training.finetune import finetune
from drivetl.training.rundir import read_metrics

LAST = "checkpoints/last/model.safetensors"


def with_board(config, name="tensorboard"):
    return dataclasses.replace(config, runtime=dataclasses.replace(config.runtime, **{name: True}))


def read(folder):
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    scalars = {tag: [(item.step, item.value) for item in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    return scalars, {tag: events.Images(tag) for tag in events.Tags()["images"]}


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_missing_package_is_told_before_anything_is_read_or_written(small_config, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    config = with_board(small_config, name)
    with pytest.raises(ConfigError, match=rf"runtime\.{name}") as caught:
        finetune(config, tmp_path / "run")
    assert f"drivetl[{name}]" in caught.value.remedy
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="not installed"):
        check_files(config)
    check_files(small_config)  # off by default


def test_the_key_is_off_by_default_and_writes_nothing(small_config, tmp_path):
    assert small_config.runtime.tensorboard is False and small_config.runtime.mlflow is False
    with open_boards(small_config, tmp_path / "run", 0, True) as boards:
        boards.image("first batch", b"")
    assert not (tmp_path / "run").exists()
    with open_boards(with_board(small_config), tmp_path / "run", 0, False):
        assert not (tmp_path / "run").exists()


def test_law_the_events_are_the_metrics_and_the_weights_are_those_without(small_config, tmp_path):
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    finetune(small_config, tmp_path / "plain")
    finetune(with_board(small_config), tmp_path / "run")
    scalars, images = read(tmp_path / "run" / "tensorboard")
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    for name in ("AP", "AP50", "AP75"):
        assert np.allclose(scalars[f"validation/{name}"], [(row["step"], row[name]) for row in rows])
    for name in ("car", "pedestrian"):
        expected = [(row["step"], row["AP50_per_class"][name]) for row in rows]
        assert np.allclose(scalars[f"AP50 of a class/{name}"], expected)
    assert [step for step, _ in scalars["loss/total"]] == [1, 2, 3, 4]
    total = np.array(scalars["loss/total"])[:, 1]
    parts = [np.array(scalars[tag])[:, 1] for tag in scalars if tag.startswith("loss/") and tag != "loss/total"]
    assert len(parts) == 4 and np.allclose(np.sum(parts, axis=0), total)
    assert total[:2].mean() == pytest.approx(rows[0]["train_loss"])
    rates = [value for _, value in scalars["learning rate"]]
    assert max(rates) == pytest.approx(small_config.optim.lr) and rates[-1] < rates[0]
    assert [image.step for image in images["first batch"]] == [0] and [image.step for image in images["curves"]] == [4]
    plain, logged = (read_weights(tmp_path / name / LAST) for name in ("plain", "run"))
    assert all(plain[key].equal(logged[key]) for key in plain)


def outcome_of(run):
    """(the figures of outcome.json by their tags, the verdict)."""
    document = json.loads((run / "outcome.json").read_text())
    delta = document["delta"] or {}
    figures = {"AP before": document["before"]["AP"], "AP best": document["best"]["AP"], "gain": delta.get("point")}
    figures |= {"gain low": delta.get("low"), "gain high": delta.get("high"), "p": delta.get("p")}
    return {f"outcome/{name}": value for name, value in figures.items() if value is not None}, document["verdict"]


def test_law_the_events_end_with_the_outcome(small_config, source, tmp_path):
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    finetune(with_board(changed(small_config, "model", start=str(source[1]))), run)
    scalars, _ = read(run / "tensorboard")
    figures, verdict = outcome_of(run)
    found = {tag: points for tag, points in scalars.items() if tag.startswith("outcome/")}
    assert found.keys() == figures.keys() and "outcome/AP before" in figures
    assert all(found[tag] == [(4, pytest.approx(value))] for tag, value in figures.items())
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    (text,) = events.Tensors("verdict/text_summary")
    assert text.step == 4 and text.tensor_proto.string_val[0].decode() == markdown(verdict) != ""


def test_the_outcome_of_a_gain_has_its_interval_and_missing_numbers_are_left_out(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    delta = {"point": 0.1, "low": -0.2, "high": 0.4, "p": None}
    comparison = {"metric": "AP50", "best": {"AP50": 0.5}, "before": {"AP50": 0.4}, "delta": delta, "verdict": ""}
    boards = Boards([TensorBoard(tmp_path, 0)])
    boards.outcome(comparison, 7)
    boards.close()
    names = {"AP50 before": 0.4, "AP50 best": 0.5, "gain": 0.1, "gain low": -0.2, "gain high": 0.4}
    expected = {f"outcome/{name}": [(7, pytest.approx(value))] for name, value in names.items()}
    assert read(tmp_path)[0] == expected


def test_law_a_killed_and_resumed_run_shows_every_step_once(small_config, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    config, run = with_board(small_config), tmp_path / "run"
    step = Boards.step

    def die_in_step_four(self, number, losses, rate):
        step(self, number, losses, rate)
        if number == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Boards, "step", die_in_step_four)
        finetune(config, run)
    assert len(read(run / "tensorboard")[0]["loss/total"]) == 4  # two of them after the saved state
    finetune(config, run, resume=True)
    scalars, images = read(run / "tensorboard")
    assert [number for number, _ in scalars["loss/total"]] == [1, 2, 3, 4]
    assert [number for number, _ in scalars["validation/AP"]] == [2, 4]
    assert len(images["first batch"]) == 1


def test_a_resumed_run_may_begin_or_stop_to_write_events(small_config, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_after(patch, 2)
        finetune(small_config, tmp_path / "run")
    finetune(with_board(small_config), tmp_path / "run", resume=True)
    assert [number for number, _ in read(tmp_path / "run" / "tensorboard")[0]["loss/total"]] == [3, 4]
    assert load_config(tmp_path / "run" / "config.yaml").runtime.tensorboard is False  # what it began with


def test_scores_that_are_missing_or_not_finite_are_left_out(tmp_path):
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    board = Boards([TensorBoard(tmp_path, 0)])
    missing = {"step": 3, "AP": float("nan"), "AP50": 0.5, "AP75": None, "AP50_per_class": {"car": None, "bus": 0.25}}
    board.evaluation(missing)
    board.close()
    assert read(tmp_path)[0] == {"validation/AP50": [(3, 0.5)], "AP50 of a class/bus": [(3, 0.25)]}


@pytest.fixture
def mlflow_client(monkeypatch):
    """What reads the database of a run. MLflow's imports warn of what they deprecate themselves."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    pytest.importorskip("mlflow", reason="needs the package mlflow")
    from mlflow.tracking import MlflowClient

    def client(run):
        found = MlflowClient(tracking_uri=f"sqlite:///{run / 'mlflow' / 'mlflow.db'}")
        (experiment,) = (item for item in found.search_experiments() if item.name == "drivetl")
        (only,) = found.search_runs([experiment.experiment_id])
        return found, only

    return client


@pytest.mark.filterwarnings("ignore")
def test_law_mlflow_has_the_metrics_the_config_and_the_images_also_of_a_resumed_run(
    small_config, tmp_path, monkeypatch, mlflow_client
):
    config, run = with_board(small_config, "mlflow"), tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_after(patch, 2)
        finetune(config, run)
    finetune(config, run, resume=True)
    client, only = mlflow_client(run)
    assert only.info.status == "FINISHED" and only.info.run_name == "run"
    assert only.data.params["optim.lr"] == "0.001" and only.data.params["model.arch"] == "fasterrcnn_tiny_fpn"
    rows = read_metrics(run / "metrics.jsonl")
    for name, key in (("validation/AP", "AP"), ("validation/AP50", "AP50")):
        points = client.get_metric_history(only.info.run_id, name)
        assert [(point.step, pytest.approx(point.value)) for point in points] == [
            (row["step"], row[key]) for row in rows
        ]
    losses = client.get_metric_history(only.info.run_id, "loss/total")
    assert [point.step for point in losses] == [1, 2, 3, 4]
    assert sum(point.value for point in losses[:2]) / 2 == pytest.approx(rows[0]["train_loss"])
    assert {item.path for item in client.list_artifacts(only.info.run_id)} == {"first batch.jpeg", "curves.png"}
    with Image.open(run / "mlflow" / "artifacts" / only.info.run_id / "artifacts" / "curves.png") as image:
        assert image.size == (1280, 380)


@pytest.mark.filterwarnings("ignore")
def test_law_mlflow_ends_with_the_outcome(small_config, source, tmp_path, mlflow_client):
    run = tmp_path / "run"
    finetune(with_board(changed(small_config, "model", start=str(source[1])), "mlflow"), run)
    _, only = mlflow_client(run)
    figures, verdict = outcome_of(run)
    assert {tag: only.data.metrics.get(tag) for tag in figures} == pytest.approx(figures)
    assert only.data.tags["verdict"] == verdict


@pytest.mark.filterwarnings("ignore")
def test_names_and_values_that_mlflow_refuses(tmp_path, small_config, mlflow_client):
    boards = Boards([Mlflow(tmp_path / "mlflow", "a run", small_config)])
    names = {"lorry (7,5 t)": 0.5, "Fußgänger": 0.25, "bus": None}
    boards.evaluation({"step": 3, "AP": float("nan"), "AP50": 0.5, "AP75": None, "AP50_per_class": names})
    boards.close()
    _, only = mlflow_client(tmp_path)
    assert only.data.metrics == {
        "validation/AP50": 0.5,
        "AP50 of a class/lorry _7_5 t_": 0.5,
        "AP50 of a class/Fu_g_nger": 0.25,
    }
