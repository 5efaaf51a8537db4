"""Laws of pre-flight: every planted mistake is found, estimates are what is taken, and it decides as finetune does."""

import json
import shlex
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from torchvision.ops import box_iou
from training_runs import changed, write_tree

from drivetl.cli import main
from drivetl.coco.io import read_dataset, write_dataset
from drivetl.config import FinetuneConfig, dump_yaml, with_values
from drivetl.data import sharing
from drivetl.errors import ConfigError
from drivetl.models.anchors import resized
from drivetl.training import preflight_checks
from drivetl.training.finetune import finetune
from drivetl.training.pair import read_pair
from drivetl.training.preflight import check_training
from drivetl.training.preflight_checks import PAIR_BYTES, check_split, checkpoint_bytes, crowd_bytes
from drivetl.training.preflight_plan import plan_training, planned_as
from drivetl.training.preflight_speed import Speed, check_speed
from drivetl.training.prepare import prepare

CPU = torch.device("cpu")


def edited(path, edit):
    """Change a dataset in place by a function of it."""
    dataset = read_dataset(path)
    edit(dataset)
    write_dataset(dataset, path)


def findings(config, out, workers=0):
    """check -> its findings."""
    found = {}
    for item in check_training(plan_training(config, *read_pair(config)), CPU, workers, out):
        found.setdefault(item.check, []).append(item)
    return found


def worst(found):
    return {check: max((item.severity for item in items), key=SEVERITIES.index) for check, items in found.items()}


SEVERITIES = ("ok", "note", "warning", "error")


def test_a_small_training_has_notes_only_for_what_it_lacks(small_config, tmp_path):
    found = findings(small_config, tmp_path / "run")
    assert {check for check, severity in worst(found).items() if severity != "ok"} == {
        *("split", "objects", "steps", "BatchNorm")  # three drives, few objects, four steps, batches of 4
    }
    assert "warning" not in worst(found).values()
    assert all(item.fix for items in found.values() for item in items if item.severity != "ok")


LARGE = {"lr": 0.1}, {"lr": 1e-6}, {"name": "sgd", "lr": 1.0}


@pytest.mark.parametrize("values", LARGE, ids=str)
def test_law_a_learning_rate_far_from_the_usual_one_is_a_warning_whose_fix_is_not(small_config, tmp_path, values):
    config = changed(small_config, "optim", **values)
    (item,) = findings(config, tmp_path)["learning rate"]
    assert item.severity == "warning" and item.fix.startswith("--optim.lr ")
    config = changed(config, "optim", lr=float(item.fix.split()[1]))
    assert worst(findings(config, tmp_path))["learning rate"] == "ok"


@pytest.mark.parametrize(("norm", "severity"), [("auto", "note"), ("train", "note"), ("frozen", "warning")])
def test_batch_norm_of_random_weights(small_config, tmp_path, norm, severity):
    assert worst(findings(changed(small_config, "model", norm=norm), tmp_path))["BatchNorm"] == severity
    enough = changed(changed(small_config, "model", norm="train"), "optim", batch_size=16)
    assert worst(findings(enough, tmp_path))["BatchNorm"] == "ok"


def test_objects_classes_and_scale_against_the_start(source, tmp_path):
    train = write_tree(tmp_path / "train", categories=("car", "tram"), relation={"tram": {"bus": 1.0}})
    val = write_tree(tmp_path / "val", 2, ("car", "tram"), first_drive=10, relation={"tram": {"bus": 1.0}})
    edited(train, lambda data: [image.annotations.clear() for image in data.images[1:]])
    config = changed(source[0], "data", train=str(train), val=str(val))
    config = changed(config, "model", start=str(source[1]), min_size=256, max_size=512)
    found = findings(config, tmp_path)
    assert found["classes"][0].value == "carried over: car; new: tram; lost: pedestrian"
    assert found["classes"][0].severity == "warning"
    assert "car (2), tram (1)" in found["objects"][0].value and "data.train" in found["objects"][0].value
    assert "enlarged 4.0 times" in found["size"][0].value and "--model.min_size 64" in found["size"][0].fix
    edited(train, lambda data: data.images[0].annotations.clear())
    found = findings(config, tmp_path)
    assert "no objects in data.train: car, tram" in found["objects"][0].value
    assert found["objects"][0].severity == found["data.train"][0].severity == "warning"


def test_law_the_share_below_the_smallest_anchor(small_config, tmp_path):
    """Objects of 16 to 30 px against anchors of 12 px: at a quarter of the size all are smaller, else none."""
    edited(tmp_path / "train" / "data.json", lambda data: [setattr(image, "width", 384) for image in data.images])
    edited(tmp_path / "train" / "data.json", lambda data: [setattr(image, "height", 256) for image in data.images])
    (item,) = findings(small_config, tmp_path)["anchors"]
    assert item.severity == "warning" and item.value.startswith("100% of 21 objects") and "(12 px)" in item.value
    assert "--model.min_size 256 --model.max_size 384" in item.fix
    assert "--model.anchors fit" in item.fix  # they are kept as they are
    fits = changed(small_config, "model", anchors="fit")
    assert "model.anchors fit may choose" in findings(fits, tmp_path)["anchors"][0].fix
    prepared = prepare(fits, *read_pair(fits), CPU, torch.float32)  # too few boxes to fit to
    (item,) = [f for f in check_training(planned_as(prepared, 1), CPU, 0, tmp_path) if f.check == "anchors"]
    assert item.severity == "warning" and "fit" not in item.fix
    own = changed(small_config, "model", min_size=256, max_size=384)
    assert findings(own, tmp_path)["anchors"][0].value.startswith("0% of 21 objects")


def test_train_and_val_are_apart(small_config, tmp_path):
    train, val = read_pair(small_config)
    assert check_split(train, train).severity == "warning" and "drives" in check_split(train, train).value
    for dataset in (train, val):
        for image in dataset.images:
            image.drive = ""
    assert "8 of 8 images of data.val are in data.train too" in check_split(train, train).value
    assert check_split(train, val).severity == "note"
    copy = val.images_root / "000004.png"
    copy.write_bytes((train.images_root / "000006.png").read_bytes())
    found = check_split(train, val)
    assert found.severity == "warning" and "1 of 4 images of data.val are in data.train too" in found.value
    assert found.value.endswith(f"(first {copy}, a copy of {train.images_root / '000006.png'})")


def test_law_an_error_stops_before_anything_is_written(small_config, tmp_path, monkeypatch, capsys):
    (tmp_path / "c.yaml").write_text(dump_yaml(small_config))
    image = tmp_path / "train" / "000004.png"
    content = image.read_bytes()
    image.unlink()
    assert main(["info", "--config", str(tmp_path / "c.yaml")]) == 2
    said = capsys.readouterr()
    assert "error: data.train: 1 of 8 image files are missing, first " in said.err and "000004.png" in said.err
    assert "next:" not in said.out and "trying" not in said.out and "BatchNorm" in said.out
    with pytest.raises(ConfigError, match="1 of 8 image files are missing"):
        finetune(small_config, tmp_path / "run")
    image.write_bytes(content)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(preflight_checks.shutil, "disk_usage", lambda _: usage(1000))
    with pytest.raises(ConfigError, match=r"disk: checkpoints need .* MB, .* has 1 KB free - free space"):
        finetune(small_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_disk_holds_the_checkpoints_of_both_trainings_where_two_are_compared(small_config, tmp_path, monkeypatch):
    planned = plan_training(small_config, *read_pair(small_config))
    of_one = preflight_checks.checkpoint_bytes(planned.model, planned.config)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(preflight_checks.shutil, "disk_usage", lambda _: usage(3 * of_one))
    severities = [preflight_checks.check_disk(planned, tmp_path, runs).severity for runs in (1, 2, 4)]
    assert severities == ["ok", "warning", "error"]


def test_a_small_dev_shm_is_a_warning(small_config, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(sharing.shutil, "disk_usage", lambda _: usage(10**12))
    assert worst(findings(small_config, tmp_path, workers=2))["loader"] == "ok"
    monkeypatch.setattr(sharing, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(sharing.shutil, "disk_usage", lambda path: usage(1000 if path == tmp_path else 10**12))
    monkeypatch.setattr(preflight_checks, "shutil", shutil)
    found = findings(small_config, tmp_path / "run", workers=2)
    assert found["loader"][0].severity == "warning" and "--shm-size" in found["loader"][0].fix


GRADUAL = {"heads_only_epochs": 2, "unfreeze_every": 2}


@pytest.mark.parametrize(
    ("start", "optim", "severity", "said"),
    [
        ("none", {}, "ok", "all layers"),
        ("none", {"frozen_stages": 2}, "warning", "never trained in the lowest 2 of 5 backbone stages"),
        ("none", {"frozen_stages": 99}, "warning", "never trained in the lowest 5 of 5 backbone stages"),
        ("none", {"heads_only_epochs": 1}, "ok", "1 epoch without the backbone, then the whole backbone"),
        ("none", {**GRADUAL, "epochs": 3}, "warning", "never trained in the lowest 4 of 5 backbone stages"),
        ("run", {"frozen_stages": 2}, "ok", "neck and heads, the upper 3 of 5 backbone stages"),
        ("run", {"frozen_stages": 99}, "ok", "neck and heads; the backbone stays as it is"),
        ("run", {**GRADUAL, "epochs": 6}, "note", "6 epochs unfreeze the upper 2 of 5 backbone stages only"),
        ("run", {**GRADUAL, "epochs": 11}, "ok", "every 2 epochs, 5 of 5 in the last epoch"),
    ],
)
def test_law_frozen_weights_are_said_and_the_fix_trains_them(
    source, small_config, tmp_path, start, optim, severity, said
):
    config = changed(source[0] if start == "run" else small_config, "optim", **optim)
    config = changed(config, "model", start=str(source[1]) if start == "run" else "none")
    (item,) = findings(config, tmp_path)["trained"]
    assert item.severity == severity and said in item.value
    words = [word for word in item.fix.split() if word not in ("and", "or", "more")]
    fixed = with_values(config, {key[2:]: int(value) for key, value in zip(words[::2], words[1::2], strict=True)})
    assert worst(findings(fixed, tmp_path))["trained"] == "ok"


def test_pulling_and_blending_without_a_start_are_said_to_be_without_effect(source, small_config, tmp_path):
    config = changed(small_config, "optim", l2sp=0.1, source_share=0.3)
    (item,) = findings(config, tmp_path)["start"]
    assert item.severity == "warning" and "no effect of optim.l2sp and optim.source_share" in item.value
    config = changed(changed(source[0], "optim", l2sp=0.1), "model", start=str(source[1]))
    assert worst(findings(config, tmp_path))["start"] == "ok"


# ---- Estimates against what is really taken


def test_law_the_checkpoints_take_what_was_said(source):
    config, run = source
    said = checkpoint_bytes(plan_training(config, *read_pair(config)).model, config)
    sizes = {path.relative_to(run).as_posix(): path.stat().st_size for path in run.glob("checkpoints/*/*.safetensors")}
    state = sizes.pop("checkpoints/last/state.safetensors")
    assert len(sizes) == 2
    assert said == pytest.approx(sum(sizes.values()) + 2 * state, rel=0.05)


def peak_bytes(function):
    """The most memory that is allocated at once in a call."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def test_law_a_pair_of_boxes_takes_the_bytes_that_are_planned_with(small_config):
    corners = torch.rand(5000, 2) * 50
    boxes = torch.cat([corners, corners + 10], 1)
    assert peak_bytes(lambda: box_iou(boxes[:40], boxes)) == pytest.approx(PAIR_BYTES * 40 * 5000, rel=0.1)
    planned = plan_training(small_config, *read_pair(small_config))
    image = planned.train.images[0]
    assert resized(image.width, image.height, 64, 96) == (96, 64)
    anchors = 3 * sum(96 // stride * (64 // stride) for stride in (4, 8, 16, 32))
    assert crowd_bytes(planned, image) == PAIR_BYTES * 3 * anchors
    masks = changed(small_config, "model", arch="maskrcnn_mobilenet_v2_lite_fpn", min_size=640, max_size=960)
    with_masks = crowd_bytes(plan_training(masks, *read_pair(masks)), image)
    assert with_masks > 5 * 3 * 960 * 640


# ---- The same decisions as finetune


@pytest.mark.parametrize("start", ["none", "run", "file"])
def test_law_it_plans_what_finetune_prepares(source, tmp_path, start):
    config = FinetuneConfig(data=source[0].data, model=source[0].model)
    config = changed(config, "optim", recipe="auto", epochs="auto", lr="auto", source_share="auto", accumulate=8)
    if start != "none":
        file = tmp_path / "weights.safetensors"
        shutil.copyfile(source[1] / "checkpoints" / "best" / "model.safetensors", file)
        (tmp_path / "weights.safetensors.classes.txt").write_text("car\npedestrian\n")
        config = changed(config, "model", start=str(source[1] if start == "run" else file))
    pair = read_pair(config)
    planned, prepared = plan_training(config, *pair), prepare(config, *pair, CPU, torch.float32)
    assert planned.config == prepared.config and planned.spec == prepared.spec
    assert planned.class_plan == prepared.class_plan and (start == "none") == (planned.class_plan is None)
    assert planned.steps == planned.config.optim.epochs * 1  # eight images, 32 to a step
    shapes = {name: value.shape for name, value in prepared.model.state_dict().items()}
    assert {name: value.shape for name, value in planned.model.state_dict().items()} == shapes


EXTRAS = [
    {"source_share": 0.5},
    {"source_share": "auto"},
    {"source_share": 0.3, "sampling": "repeat_factor", "rare_below": 1.0},
    {"sampling": "repeat_factor", "rare_below": 1.0},
]


@pytest.mark.parametrize("values", EXTRAS, ids=str)
def test_law_the_planned_steps_are_made(small_config, tmp_path, values):
    old = write_tree(tmp_path / "old", 5, first_drive=20) if "source_share" in values else ""
    config = changed(small_config, "data", source=str(old), **values)
    config = changed(config, "optim", epochs=3, batch_size=2, accumulate=2)
    planned = plan_training(config, *read_pair(config))
    assert finetune(config, tmp_path / "run").rows[-1]["step"] == planned.steps


def test_finetune_prints_what_is_not_ok(small_config, tmp_path, capsys):
    finetune(changed(small_config, "optim", lr=1e-6), tmp_path / "run")
    said = capsys.readouterr()
    assert "note: steps: 4 of 4 images (2 epochs): few - more --optim.epochs" in said.out
    assert "warning: learning rate: 1e-06 (adamw) for 4 images per step, usual is 0.001" in said.err
    heads = [line.split(": ")[1] for line in (said.out + said.err).splitlines() if line.startswith(("note", "warning"))]
    assert sorted(heads) == ["BatchNorm", "learning rate", "objects", "objects", "split", "steps"]
    assert f"next:  drivetl eval-robustness --run {tmp_path / 'run'}" in said.out


def test_a_detector_that_finds_nothing_leads_to_a_look_at_its_detections(small_config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("drivetl.training.finetune.NEXT_TO_NOTHING", 1.01)
    finetune(changed(small_config, "optim", epochs=1), tmp_path / "run")
    said = capsys.readouterr().out
    assert "is next to nothing" in said and "2 steps may be too few" in said
    assert f"next:  drivetl predict {small_config.data.val} --run {tmp_path / 'run'} --score 0.05 --out" in said
    assert "eval-robustness" not in said


# ---- Speed, and the command


def test_law_the_side_that_waits_is_named(small_config):
    planned = plan_training(small_config, *read_pair(small_config))

    def speed(load_s, step_s, workers):
        return check_speed(planned, Speed(load_s, step_s, 10**9, whole=True), CPU, workers)

    fast = speed(load_s=0.01, step_s=4.0, workers=0)
    assert fast[0].value == "the model takes 1 images/s, the loader gives 100 images/s from the training process"
    assert [item.severity for item in fast] == ["ok"] * 3
    assert fast[1].value.startswith("about 16 s on cpu for 4 steps;")
    days = speed(load_s=0.01, step_s=1e5, workers=0)[1]
    assert days.severity == "warning" and "days on cpu" in days.value and "max_size" in days.fix
    slow = speed(load_s=0.5, step_s=0.2, workers=1)[0]
    assert slow.severity == "warning" and "the model waits 90% of the time" in slow.value and slow.fix
    assert speed(load_s=0.05, step_s=0.2, workers=1)[0].severity == "ok"  # while the model works
    assert speed(load_s=0.05, step_s=0.2, workers=0)[0].severity == "warning"  # one after the other


def test_law_info_checks_a_config_writes_nothing_and_leads_to_the_training(small_config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(dump_yaml(small_config))
    before = sorted(tmp_path.rglob("*"))
    words = ["info", "--config", "c.yaml", "--optim.epochs", "3", "--seed", "1", "--timed", "5"]
    assert main([*words, "--json"]) == 0
    *lines, document = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80 and str(tmp_path) not in line] == []
    assert sorted(tmp_path.rglob("*")) == before
    result = json.loads(document)
    checks = {item["check"]: item for item in result["numbers"]["checks"]}
    assert {"data.train", "classes", "memory", "disk", "speed", "time", "step"} <= checks.keys()
    assert "for 6 steps" in checks["time"]["value"] and result["numbers"]["errors"] == 0
    (following,) = result["next"]
    assert following == "drivetl finetune --config c.yaml --optim.epochs 3 --seed 1" and f"next:  {following}" in lines
    assert main([*shlex.split(following)[1:], "--print-config"]) == 0
    (tmp_path / "runs" / "c").mkdir(parents=True)  # the run's folder is taken: the command names another
    assert main(["info", "--config", "c.yaml", "--timed", "0"]) == 0
    assert f"next:  drivetl finetune --config c.yaml --out {Path('runs', 'c_2')}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["info"], "drivetl info: needs PATH or --config"),
        (["info", "c.yaml", "--config", "c.yaml"], "PATH and --config - leave one of them out"),
        (["info", "c.yaml", "--optim.lr", "1"], "unknown flag --optim.lr"),
        (["info", "--config", "c.yaml", "--timed", "-1"], "--timed is -1 - it must be from 0 to 3600"),
    ],
)
def test_mistakes_in_the_flags(small_config, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(dump_yaml(small_config))
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code
    assert code == 2 and message in capsys.readouterr().err
