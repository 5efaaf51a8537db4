"""Laws of fine-tuning: the run directory, exact resume, refusals, what is inherited from a source."""

import contextlib
import copy
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from training_runs import changed, kill_after, same, weights, without_times, write_tree

from drivetl.coco import hashes
from drivetl.coco.io import read_dataset
from drivetl.config import OptimConfig, dump_yaml, load_config
from drivetl.errors import CheckpointError, ConfigError, DrivetlError
from drivetl.files.runs import STATE
from drivetl.models.checkpoint import load_detector, read_manifest
from drivetl.robustness.held_out import levels
from drivetl.training import loop, trainer
from drivetl.training.finetune import begin_or_continue, finetune
from drivetl.training.rundir import read_metrics

ROOT = Path(__file__).parents[2]


def test_a_run_directory_contains_the_files_of_the_contract(small_config, tmp_path):
    run = tmp_path / "run"
    outcome = finetune(small_config, run)
    for name in (
        "config.yaml",
        "taxonomy.yaml",
        "anchors.json",
        "surgery.json",
        "augmentation.json",
        "provenance.json",
        "metrics.jsonl",
        "README.md",
        "checkpoints/best/model.safetensors",
        "checkpoints/last/model.safetensors",
    ):
        assert (run / name).is_file(), name
    rows = read_metrics(run / "metrics.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows == outcome.rows
    assert rows[-1]["step"] == 4
    assert outcome.best["AP"] == max(row["AP"] for row in rows)
    assert yaml.safe_load((run / "config.yaml").read_text()) == small_config.as_dict()
    manifest = json.loads((run / "augmentation.json").read_text())
    assert manifest["preset"] == "photometric" and manifest["ancestors"] == []
    detector = load_detector(run, device="cpu")
    assert detector.categories == ("car", "pedestrian")
    detections = detector.infer([torch.zeros(3, 64, 96, dtype=torch.uint8)])
    assert detections[0].boxes.shape[1] == 4


def test_the_seed_determines_the_weights(small_config, tmp_path):
    finetune(small_config, tmp_path / "a")
    finetune(small_config, tmp_path / "b")
    finetune(dataclasses.replace(small_config, seed=1), tmp_path / "c")
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_workers_do_not_change_the_weights(small_config, tmp_path):
    finetune(small_config, tmp_path / "a")
    finetune(changed(small_config, "data", workers=2), tmp_path / "b")
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_resume_after_a_kill_is_bit_exact(small_config, tmp_path, monkeypatch, steps):
    config = changed(small_config, "optim", ema=0.9, name="sgd" if steps == 2 else "adamw")
    if steps == 3:  # in the middle of an epoch of three steps
        config = changed(config, "data", augment="mixed", sampling="repeat_factor", rare_below=1.0)
    finetune(config, tmp_path / "whole")
    monkeypatch.setattr(trainer, "SAVE_EVERY_S", -1.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_after(patch, steps)
        finetune(config, tmp_path / "killed")
    torch.manual_seed(99)  # the state of the process must not matter
    finetune(config, tmp_path / "killed", resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    whole, killed = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "killed"))
    assert without_times(whole) == without_times(killed)


def test_resume_needs_the_same_configuration(small_config, tmp_path):
    finetune(small_config, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"optim\.lr"):
        finetune(changed(small_config, "optim", lr=0.5), tmp_path / "run", resume=True)


def test_a_run_killed_before_its_first_state_is_refused_with_the_way_out(small_config, tmp_path):
    finetune(small_config, tmp_path / "run")
    (tmp_path / "run" / STATE).unlink()
    for resume in (False, True):
        with pytest.raises(ConfigError, match=r"stopped before its first step.*remove it and start without"):
            finetune(small_config, tmp_path / "run", resume=resume)


@pytest.mark.parametrize("key", ["data.train", "data.val", "model.start"])
def test_resume_is_refused_when_an_input_file_has_changed(source, tmp_path, key):
    config, _ = source
    run = tmp_path / "source"
    shutil.copytree(source[1], run)
    train, val = write_tree(tmp_path / "train"), write_tree(tmp_path / "val", n_images=4, first_drive=10)
    config = changed(changed(config, "model", start=str(run)), "optim", epochs=1)
    config = changed(config, "data", train=str(train), val=str(val))
    finetune(config, tmp_path / "run")
    best = run / "checkpoints" / "best" / "model.safetensors"
    file = {"data.train": train, "data.val": val, "model.start": best}[key]
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(ConfigError, match=rf"{key}: the file is not the one this run began with.*restore it"):
        finetune(config, tmp_path / "run", resume=True)


@pytest.mark.parametrize("key", ["data.train", "data.val"])
def test_resume_is_refused_when_an_image_has_changed(tree, small_config, tmp_path, key):
    finetune(small_config, tmp_path / "run")
    image = {"data.train": tree[0], "data.val": tree[1]}[key].parent / "000004.png"
    content = image.read_bytes()
    image.touch()
    finetune(small_config, tmp_path / "run", resume=True)
    image.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # of the same size
    with pytest.raises(ConfigError, match=rf"images of {key} are not those .*--accept-changed-images"):
        finetune(small_config, tmp_path / "run", resume=True)
    finetune(small_config, tmp_path / "run", resume=True, accept_changed_images=True)
    recorded = json.loads((tmp_path / "run" / "provenance.json").read_text())["changed_images"]
    assert [change["key"] for change in recorded] == [f"{key.removeprefix('data.')}_images_sha256"]
    finetune(small_config, tmp_path / "run", resume=True)


def test_the_hash_of_many_images_knows_every_size(tree, monkeypatch):
    monkeypatch.setattr(hashes, "SAMPLED_IMAGES", 2)
    dataset = read_dataset(tree[0])
    found = {hashes.images_hash(dataset)}
    for record in dataset.images:
        path = dataset.images_root / record.file_name
        path.write_bytes(path.read_bytes() + b" ")
        found.add(hashes.images_hash(dataset))
    (dataset.images_root / dataset.images[1].file_name).unlink()
    assert len(found | {hashes.images_hash(dataset)}) == len(dataset.images) + 2


def test_law_a_folder_with_a_reserved_start_name_is_ignored(small_config, tmp_path, monkeypatch):
    (tmp_path / "none").mkdir()
    monkeypatch.chdir(tmp_path)
    assert small_config.model.start == "none"
    finetune(changed(small_config, "optim", epochs=1), tmp_path / "run")
    assert (tmp_path / "run" / "README.md").is_file()


def test_a_run_is_never_overwritten_and_a_missing_run_is_not_resumed(small_config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"exists already.*--out"):
        finetune(small_config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]
    with pytest.raises(ConfigError, match="nothing to resume"):
        finetune(small_config, tmp_path / "new", resume=True)
    with pytest.raises(ConfigError, match="exists already"):
        begin_or_continue(small_config, tmp_path / "run")
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_a_loss_that_is_not_finite_stops_and_names_the_images(small_config, tmp_path, monkeypatch):
    forward = loop.forward_uint8

    def broken(model, images, device, targets=None):
        losses = forward(model, images, device, targets)
        return {key: value * float("nan") for key, value in losses.items()}

    monkeypatch.setattr(loop, "forward_uint8", broken)
    with pytest.raises(DrivetlError, match=r"step 0.*not finite.*loss_classifier.*image ids \d+, \d+, \d+, \d+"):
        finetune(small_config, tmp_path / "run")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_law_a_loss_that_is_not_finite_leaves_weights_and_optimizer_as_before_the_step(monkeypatch, elsewhere):
    """In a process group the step is made by all processes or by none: gradients are averaged over them."""
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW([{"params": list(model.parameters()), "scale": 1.0}], lr=0.1)
    factor = {0: 1.0, 1: 1.0 if elsewhere else float("inf")}
    steps, seen = [], []

    def forward(network, images, device, targets=None):
        return {"a": network(images[0]).sum(), "b": network(images[0]).square().sum() * factor[len(steps)]}

    def after_step(step, losses):
        steps.append(step)
        seen.append(copy.deepcopy((model.state_dict(), optimizer.state_dict()["state"])))
        if elsewhere:
            monkeypatch.setattr(loop.dist, "all_reduce", lambda value, operation: value.zero_())

    monkeypatch.setattr(loop, "forward_uint8", forward)
    batch = ([torch.ones(3, 2)], [{"image_id": torch.tensor(7)}])
    optim = OptimConfig(lr=0.1)
    with one_process_group() if elsewhere else contextlib.nullcontext():
        network = torch.nn.parallel.DistributedDataParallel(model) if elsewhere else model
        message = "step 1: a loss of another process is not finite" if elsewhere else r"not finite \(a .*, b inf\) .* 7"
        with pytest.raises(DrivetlError, match=message):
            loop.train_epoch(
                network,
                [batch] * 3,
                optimizer,
                optim,
                first_step=0,
                total_steps=3,
                device=torch.device("cpu"),
                precision=torch.float32,
                means=loop.Means(),
                after_step=after_step,
            )
    assert steps == [0]
    ((weights_before, moments_before),) = seen
    assert same(weights_before, model.state_dict())
    moments = optimizer.state_dict()["state"]
    assert all(same(moments_before[index], moments[index]) for index in moments_before)


@contextlib.contextmanager
def one_process_group():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def test_starting_from_a_run_evaluates_the_source_first_and_inherits_its_manifest(small_config, tmp_path):
    finetune(small_config, tmp_path / "source")
    config = changed(small_config, "model", start=str(tmp_path / "source"))
    outcome = finetune(changed(config, "optim", lr=1e-9), tmp_path / "target")
    source_row = outcome.rows[0]
    assert source_row["epoch"] == 0 and source_row["step"] == 0
    best = max(row["AP"] for row in read_metrics(tmp_path / "source" / "metrics.jsonl"))
    assert source_row["AP"] == pytest.approx(best, abs=1e-9)
    manifest = json.loads((tmp_path / "target" / "augmentation.json").read_text())
    assert [item["preset"] for item in manifest["ancestors"]] == ["photometric"]


def test_a_source_without_a_manifest_makes_the_levels_unverified(small_config, tmp_path):
    finetune(small_config, tmp_path / "source")
    start = tmp_path / "source" / "checkpoints" / "best" / "model.safetensors"
    bare = start.rename(tmp_path / "bare.safetensors")
    finetune(changed(small_config, "model", start=str(bare)), tmp_path / "target")
    manifest = read_manifest(tmp_path / "target")
    assert manifest["ancestors"] == [None]
    assert levels(manifest, ["fog"], [1]).of_condition == {"fog": "UNVERIFIED"}


def test_another_architecture_as_source_is_refused(small_config, tmp_path):
    finetune(changed(small_config, "optim", epochs=1), tmp_path / "source")
    config = changed(small_config, "model", start=str(tmp_path / "source"), arch="fasterrcnn_mobilenet_v2_fpn")
    with pytest.raises(ConfigError, match=r"model\.start is a fasterrcnn_tiny_fpn"):
        finetune(config, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_heads_only_epochs_and_frozen_stages_leave_the_backbone_unchanged(small_config, tmp_path):
    finetune(small_config, tmp_path / "source")
    config = changed(small_config, "model", start=str(tmp_path / "source"))
    config = changed(config, "optim", epochs=2, heads_only_epochs=1, frozen_stages=4)
    finetune(config, tmp_path / "target")
    before, after = weights(tmp_path / "source", "best"), weights(tmp_path / "target")
    frozen = [key for key in before if key.startswith(tuple(f"backbone.body.{n}." for n in range(4)))]
    moved = [key for key in before if key.startswith("backbone.body.4.") and key.endswith("weight")]
    assert frozen and all(torch.equal(before[key], after[key]) for key in frozen)
    assert any(not torch.equal(before[key], after[key]) for key in moved)


def test_pickled_code_in_weights_is_never_run(small_config, tmp_path):
    torch.save({"model": Path("x")}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"evil\.pth.*never run"):
        finetune(changed(small_config, "model", start=str(tmp_path / "evil.pth")), tmp_path / "run")


def test_the_error_about_weights_that_cannot_be_downloaded_names_the_file_and_its_folder(
    small_config, tmp_path, monkeypatch
):
    import urllib.error

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    config = changed(small_config, "model", arch="fasterrcnn_mobilenet_v3_large_320_fpn", start="coco")
    with pytest.raises(
        CheckpointError, match=r"fasterrcnn_mobilenet_v3_large_320_fpn-\w+\.pth into .*hub.*checkpoints"
    ):
        finetune(config, tmp_path / "run")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.stem)
def test_law_every_shipped_yaml_opens_with_what_it_is_for_and_what_to_expect(path):
    lines = path.read_text().splitlines()
    opening = lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]
    assert len(opening) > 2 and any(line.startswith("# Expect: ") for line in opening)
    assert any(line.startswith("#   ") for line in opening)  # a command


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "finetune").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_parses_and_says_how_to_run_it(path):
    config = load_config(path)
    assert config.model.arch
    assert f"configs/finetune/{path.name}" in path.read_text()


def test_two_processes_train_together(small_config, tmp_path):
    """torchrun with two CPU processes: the same run directory, every image seen, one set of metrics, a quarter of the
    images from a second dataset, and two damaged images, which are skipped whichever process meets them."""
    old = write_tree(tmp_path / "old", n_images=5, first_drive=20)
    small_config = changed(small_config, "data", source=str(old), source_share=0.25, on_bad_image="skip")
    for number in (4, 7):
        (Path(small_config.data.train).parent / f"{number:06d}.png").write_bytes(b"not an image")
    (tmp_path / "config.yaml").write_text(dump_yaml(small_config))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "drivetl.cli"]
    arguments = ["--config", str(tmp_path / "config.yaml"), "--optim.batch_size", "2", "--out", str(tmp_path / "run")]
    command = [sys.executable, *launcher, "finetune", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    completed = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert completed.returncode == 0, completed.stderr[-2000:]
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [3, 6]
    words = "skipped 2 training images that cannot be read: 000004.png (2 times), 000007.png (2 times)"
    assert words in (tmp_path / "run" / "README.md").read_text()
    with pytest.raises(ConfigError, match=r"began with 2 processes, now 1: its steps would differ"):
        finetune(changed(small_config, "optim", batch_size=2), tmp_path / "run", resume=True)
    assert read_metrics(tmp_path / "run" / "metrics.jsonl") == rows
    assert load_detector(tmp_path / "run", device="cpu").categories == ("car", "pedestrian")
