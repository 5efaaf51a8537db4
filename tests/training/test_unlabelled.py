"""Laws of training on footage without labels: its labels, exact resume, refusals."""

import dataclasses
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from training_runs import kill_after, weights, write_tree

from drivetl.cli import main
from drivetl.coco.io import read_dataset, write_dataset
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.commands.finetune import _with_frames
from drivetl.config import EvalConfig, dump_yaml, load_config
from drivetl.data.sampling import EpochBatches, Extra
from drivetl.errors import ConfigError, DataError
from drivetl.files.runs import BEST_DETECTIONS, PSEUDO
from drivetl.metrics.match_store import match
from drivetl.metrics.operating import at_threshold, score_curve
from drivetl.metrics.results import Results, load_results
from drivetl.models.checkpoint import load_detector
from drivetl.models.weights import read_weights
from drivetl.processes import Group
from drivetl.training import loop, trainer, unlabelled
from drivetl.training.bands import with_bands
from drivetl.training.finetune import finetune
from drivetl.training.footage import read_unlabelled
from drivetl.training.footage_gain import GAIN, commands_without
from drivetl.training.rundir import read_metrics
from drivetl.training.unlabelled import Pseudo, _of_targets, detect_all, label, thresholds_of, write_pseudo
from drivetl.training.unlabelled_effect import effect

SURE, UNSURE = 0.2, 0.05


@pytest.fixture
def footage(tmp_path):
    """A folder of six frames of no drive; none is that of a validation set."""
    folder = write_tree(tmp_path / "night", n_images=6, seed=8).parent
    (folder / "data.json").unlink()
    return folder


@pytest.fixture
def config(small_config, source, footage):
    """Two labelled images and one frame a step, from the source's detector."""
    return dataclasses.replace(
        small_config,
        data=dataclasses.replace(
            small_config.data, unlabelled=str(footage), pseudo_threshold=SURE, pseudo_ignore_from=UNSURE
        ),
        model=dataclasses.replace(small_config.model, start=str(source[1])),
        optim=dataclasses.replace(small_config.optim, batch_size=3),
    )


def with_data(config, **keys):
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **keys))


def footage_of(config):
    return read_unlabelled(config, *(read_dataset(Path(path)) for path in (config.data.train, config.data.val)))


def equal(first, second):
    a, b = weights(first), weights(second)
    return all(torch.equal(a[key], b[key]) for key in a)


def test_a_run_trains_on_a_folder_and_writes_labels_that_can_be_trained_on_again(
    config, footage, tmp_path, monkeypatch, capsys
):
    steps, forward = [], loop.forward_uint8

    def remember(model, images, device, targets=None):
        steps.append([(int(item.get("stream", 0)), "loss_weights" in item) for item in targets])
        return forward(model, images, device, targets)

    monkeypatch.setattr(loop, "forward_uint8", remember)
    finetune(config, tmp_path / "run")
    assert len(steps) == 8 and all(sorted(step) == [(0, False), (0, False), (2, True)] for step in steps)
    pseudo = read_dataset(tmp_path / "run" / PSEUDO)
    assert pseudo.images_root.resolve() == footage.resolve() and len(pseudo.images) == 6
    scores = [item.attributes["score"] for image in pseudo.images for item in image.annotations]
    unsure = [item.attributes["score"] for image in pseudo.images for item in image.ignore_regions]
    assert scores and min(scores) >= SURE and unsure and min(unsure) >= UNSURE
    for image in pseudo.images:  # sure detections are ignored only beyond the 3 objects that labelled images have
        assert len(image.annotations) <= 3
        over = [item for item in image.ignore_regions if item.attributes["score"] >= SURE]
        assert not over or len(image.annotations) == 3
    recorded = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert (
        recorded["pseudo_round"] == 1
        and {"pseudo_sha256", "start_sha256", "unlabelled_images_sha256"} <= recorded.keys()
    )
    words = " ".join(capsys.readouterr().out.split())
    assert "an epoch is 4 steps with 8 images of data.train and 4 of data.unlabelled" in words
    assert f"{len(scores)} objects and {len(unsure)} ignore regions" in words
    seen = json.loads((tmp_path / "run" / "unlabelled.json").read_text())
    assert seen["frames"] == seen["of_frames"] == 6 and {row["threshold"] for row in seen["classes"]} == {SURE}
    assert [row["n"] for row in seen["classes"]] == [round(6 * row["before"]) for row in seen["classes"]]
    assert sum(row["n"] for row in seen["classes"]) == len(scores)
    assert "These counts prove nothing" in words and "found again" in words
    assert "The same training without the footage was not run" in words
    card = (tmp_path / "run" / "README.md").read_text()
    assert f"with pseudo-labels by the detector `{config.model.start}`: 6 frames of unknown drives" in card
    assert f"{len(scores)} objects and {len(unsure)} ignore regions\n" in card
    train, compared = commands_without(config, tmp_path / "run")
    assert train in card and compared in card
    for command in (train, compared):
        assert main(shlex.split(command)[1:]) == 0
    capsys.readouterr()
    without = tmp_path / "run_without"
    assert not (without / PSEUDO).exists() and "pseudo-labels" not in (without / "README.md").read_text()
    again = with_data(config, unlabelled="", pseudo=str(tmp_path / "run" / PSEUDO))
    finetune(again, tmp_path / "again")
    assert equal(tmp_path / "run", tmp_path / "again")
    second = dataclasses.replace(config, model=dataclasses.replace(config.model, start=str(tmp_path / "run")))
    finetune(second, tmp_path / "second")
    recorded = json.loads((tmp_path / "second" / "provenance.json").read_text())
    assert recorded["pseudo_round"] == 2 and recorded["pseudo_agreement"]["before"] == len(scores)
    assert "round 2: " in capsys.readouterr().out


@pytest.mark.parametrize("steps", [1, 5])
def test_resume_after_a_kill_is_bit_exact_and_labels_nothing_anew(config, tmp_path, monkeypatch, steps):
    finetune(config, tmp_path / "whole")
    monkeypatch.setattr(trainer, "SAVE_EVERY_S", -1.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_after(patch, steps)
        finetune(config, tmp_path / "killed")
    monkeypatch.setattr("drivetl.training.finetune.label", None)
    finetune(config, tmp_path / "killed", resume=True)
    assert equal(tmp_path / "whole", tmp_path / "killed")


def test_resume_is_refused_when_the_frames_or_the_labels_have_changed(config, footage, tmp_path):
    finetune(config, tmp_path / "run")
    path = tmp_path / "run" / PSEUDO
    labels = path.read_bytes()
    path.write_bytes(labels + b" ")
    with pytest.raises(ConfigError, match=r"pseudo\.json: is not the file this run began with .*--data\.pseudo"):
        finetune(config, tmp_path / "run", resume=True)
    path.write_bytes(labels)
    image = footage / "000004.png"
    image.write_bytes(image.read_bytes() + b"\0")
    with pytest.raises(ConfigError, match=r"images of data\.unlabelled are not those .*--accept-changed-images"):
        finetune(config, tmp_path / "run", resume=True)


def test_a_results_list_of_any_detector_takes_the_place_of_the_teacher(config, tmp_path):
    frames = write_tree(tmp_path / "dusk", n_images=5, seed=9, categories=("boat", "car"), first_drive=30)
    rows = [
        {"image_id": 1, "category_id": 2, "bbox": [10, 10, 20, 20], "score": 0.9},
        {"image_id": 4, "category_id": 2, "bbox": [30, 10, 20, 20], "score": 0.1},
    ]
    results = tmp_path / "results.json"
    results.write_text(json.dumps(rows))
    foreign = with_data(config, unlabelled=str(frames), pseudo=str(results))
    finetune(dataclasses.replace(foreign, model=dataclasses.replace(foreign.model, start="none")), tmp_path / "run")
    pseudo = read_dataset(tmp_path / "run" / PSEUDO)
    assert [[item.category_id for item in image.annotations] for image in pseudo.images] == [[1], [], [], [], []]
    assert [len(image.ignore_regions) for image in pseudo.images] == [0, 0, 0, 1, 0]
    assert all(image.labelled == (1,) for image in pseudo.images), "pedestrians are not labelled there"
    recorded = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert "pseudo_sha256" in recorded and not {"pseudo_round", "pseudo_agreement"} & recorded.keys()
    results.write_text(json.dumps([*rows, rows[0] | {"category_id": 1}]))
    with pytest.raises(
        ConfigError, match=r"data\.pseudo has labels of boat, not classes of data\.train: car, pedestrian"
    ):
        finetune(foreign, tmp_path / "boats")
    results.write_text(json.dumps([*rows, rows[0] | {"category_id": 9}]))
    with pytest.raises(DataError, match=r"results\.json: \[2\]: category_id 9 is not in .*1 boat, 2 car"):
        finetune(foreign, tmp_path / "ninth")
    results.write_text("[]")
    with pytest.raises(
        ConfigError, match=r"results\.json: no detection in the 5 frames .* - name other results, or lower"
    ):
        finetune(foreign, tmp_path / "nothing")
    for unlabelled_, message in (("", "which names no images"), (str(frames.parent), "dusk names no classes")):
        with pytest.raises(ConfigError, match=message + r" - set data\.unlabelled to the dataset json"):
            footage_of(with_data(foreign, unlabelled=unlabelled_))


def test_gaps_are_filled_when_asked_for_counted_and_never_in_an_edited_file(config, tmp_path):
    frames = write_tree(tmp_path / "dusk", n_images=7, seed=9, first_drive=30)
    row = {"category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9}
    (tmp_path / "results.json").write_text(json.dumps([row | {"image_id": 1}, row | {"image_id": 7}]))  # of one drive
    config = with_data(config, unlabelled=str(frames), pseudo=str(tmp_path / "results.json"))
    edited = with_data(config, unlabelled="", pseudo=str(tmp_path / PSEUDO), pseudo_gaps="ignore")

    def labelled(of):
        return label(footage_of(of), of, None, read_dataset(Path(of.data.train)), torch.device("cpu"), Group())

    assert labelled(config).in_words().endswith("2 objects and 0 ignore regions")
    assert "pseudo_gaps_filled" not in write_pseudo(labelled(config), tmp_path, config)
    assert labelled(edited).in_words().endswith("2 objects and 0 ignore regions")
    filling = with_data(config, pseudo_gaps="ignore")
    assert labelled(filling).in_words().endswith("2 objects and 1 ignore region (1 in gaps of one frame)")
    (tmp_path / "run").mkdir()
    assert write_pseudo(labelled(filling), tmp_path / "run", filling)["pseudo_gaps_filled"] == 1
    regions = [image.ignore_regions for image in read_dataset(tmp_path / "run" / PSEUDO).images]
    assert [len(of_image) for of_image in regions] == [0, 0, 0, 1, 0, 0, 0]
    assert regions[3][0].bbox_xywh == (10.0, 10.0, 20.0, 20.0)


def test_law_two_processes_make_the_labels_of_one_and_train_on_them(config, tmp_path):
    config = dataclasses.replace(config, eval=EvalConfig(1, 1), optim=dataclasses.replace(config.optim, epochs=1))
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "drivetl.cli"]
    command = [sys.executable, *launcher, "finetune", "--config", str(tmp_path / "config.yaml")]
    command += ["--out", str(tmp_path / "two"), "--compare-without-unlabelled"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    completed = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert completed.returncode == 0, completed.stderr[-2000:]
    target = read_dataset(Path(config.data.train))
    one = label(footage_of(config), config, None, target, torch.device("cpu"), Group()).dataset.images
    two = read_dataset(tmp_path / "two" / PSEUDO).images
    assert [image.file_name for image in two] == [image.file_name for image in one]
    for column in ("annotations", "ignore_regions"):
        ours, theirs = ([item for image in images for item in getattr(image, column)] for images in (one, two))
        assert len(ours) == len(theirs) > 0
        for a, b in zip(ours, theirs, strict=True):
            assert a.bbox_xywh == pytest.approx(b.bbox_xywh, abs=0.02)
            assert a.attributes["score"] == pytest.approx(b.attributes["score"], abs=2e-4)
    assert json.loads((tmp_path / "two" / "unlabelled.json").read_text())["frames"] == len(one)
    for run in ("two", "two_without"):
        assert read_metrics(tmp_path / run / "metrics.jsonl")[-1]["step"] == 2, "8 labelled images, 4 a step"
    assert json.loads((tmp_path / "two" / GAIN).read_text())["run_without"] == str(tmp_path / "two_without")


def test_law_frames_of_data_train_are_left_out(config, footage, tmp_path, capsys):
    train = Path(config.data.train).parent
    shutil.copy(train / "000001.png", footage / "a_copy.png")
    assert "a_copy.png" not in {image.file_name for image in footage_of(config).dataset.images}
    words = " ".join(capsys.readouterr().out.split())
    assert "data.unlabelled: 1 of 7 frames are images of data.train and are left out" in words

    names = [f"{train.name}/000001.png", f"{footage.name}/000001.png"]
    images = [ImageRecord(number, name, 96, 64) for number, name in enumerate(names, 1)]
    write_dataset(Dataset(("car", "pedestrian"), images, tmp_path), tmp_path / "both.json")
    row = {"category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9}
    (tmp_path / "results.json").write_text(json.dumps([row | {"image_id": 1}, row | {"image_id": 2}]))
    foreign = with_data(config, unlabelled=str(tmp_path / "both.json"), pseudo=str(tmp_path / "results.json"))
    pseudo = label(footage_of(foreign), foreign, None, read_dataset(train / "data.json"), torch.device("cpu"), Group())
    assert [(image.id, len(image.annotations)) for image in pseudo.dataset.images] == [(2, 1)]

    write_dataset(Dataset(("car", "pedestrian"), images[:1], tmp_path), tmp_path / "both.json")
    with pytest.raises(ConfigError, match=r"both\.json: all 1 frames of data\.unlabelled are images of data\.train"):
        footage_of(foreign)


def test_labels_in_footage_are_not_used_and_reported(config, tmp_path, capsys):
    frames = write_tree(tmp_path / "dusk", n_images=5, seed=9, first_drive=30)
    bare = read_dataset(frames)
    for image in bare.images:
        image.annotations, image.ignore_regions = [], []
    write_dataset(bare, tmp_path / "dusk" / "bare.json")
    finetune(with_data(config, unlabelled=str(frames)), tmp_path / "labelled")
    assert "has labels in 4 of 5 images; they are not used" in " ".join(capsys.readouterr().out.split())
    finetune(with_data(config, unlabelled=str(tmp_path / "dusk" / "bare.json")), tmp_path / "bare")
    assert "are not used" not in capsys.readouterr().out
    assert equal(tmp_path / "labelled", tmp_path / "bare")


def test_grey_frames_of_another_size_are_trained_on(config, footage, tmp_path):
    grey = np.random.default_rng(0).integers(0, 255, (40, 70), np.uint8)
    assert cv2.imwrite(str(footage / "000004.png"), grey)
    finetune(config, tmp_path / "run")
    assert {(image.width, image.height) for image in read_dataset(tmp_path / "run" / PSEUDO).images} >= {(70, 40)}


def test_law_a_start_that_is_kept_finds_all_of_its_pseudo_objects_again(config, source):
    frames = read_dataset(Path(source[0].data.train))
    detector = load_detector(source[1], "best", "cpu", "fp32")
    found = detect_all(detector, frames, config, Group(), "once")
    pseudo = Pseudo(with_bands(frames, found, (SURE, UNSURE)), 0.3333, 0.5)
    seen = effect(pseudo, source[1], config, torch.device("cpu"))["classes"]
    assert [row["before"] for row in seen] == [row["after"] for row in seen]
    assert all(row["found_again"] == 1 for row in seen if row["n"]) and any(row["n"] for row in seen)


def test_a_video_becomes_a_list_of_its_frames_next_to_the_run(config, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "night.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    for number in range(20):
        writer.write(np.random.default_rng(number).integers(0, 255, (8, 12, 3), np.uint8).repeat(8, 0).repeat(8, 1))
    writer.release()
    for _ in range(2):  # a second call, as of a resumed run, extracts nothing anew
        filmed = _with_frames(with_data(config, unlabelled=str(tmp_path / "night.avi")), tmp_path / "run")
        assert filmed.data.unlabelled == str(tmp_path / "run.frames" / "frames.json")
    footage = footage_of(filmed)
    assert [image.frame_index for image in footage.dataset.images] == [0, 5, 10, 15], "two a second"
    assert _with_frames(config, tmp_path / "run") == config


def test_law_a_class_has_the_threshold_of_its_best_f_beta_within_bounds(config, source, monkeypatch):
    run, categories = source[1], ("car", "pedestrian")
    beta = with_data(config, pseudo_beta=0.5)
    assert thresholds_of(str(run), categories, config) == {} == thresholds_of(str(run), categories, beta), "few objects"
    monkeypatch.setattr(unlabelled, "ENOUGH", 1)
    store = match(read_dataset(Path(source[0].data.val)), load_results(run / BEST_DETECTIONS))
    chosen = thresholds_of(str(run), categories, beta)
    assert set(chosen) == {1, 2}
    for number, threshold in chosen.items():
        points = {score: at_threshold(score_curve(store, number - 1), score, 4) for score in store.scores.tolist()}

        def f(point):
            p, r = point.precision, point.recall
            return 1.25 * p * r / (0.25 * p + r) if p + r > 0 else 0.0

        best = max(f(point) for point in points.values())
        ties = [score for score, point in points.items() if f(point) == pytest.approx(best)]
        assert threshold == min(0.9, max(0.3, threshold))
        assert any(threshold == min(0.9, max(0.3, score)) for score in ties)
    with pytest.raises(ConfigError, match=r"data\.pseudo_beta is about scores of model\.start, and data\.pseudo has"):
        with_data(beta, pseudo=config.data.train).check()
    with pytest.raises(ConfigError, match=r"data\.pseudo_beta needs the validation detections of a run's best weights"):
        thresholds_of(str(run / "checkpoints" / "last"), categories, beta)
    sure = with_bands(
        Dataset(categories, [ImageRecord(1, "1.png", 9, 9)], Path()),
        Results.of([1, 1], [1, 2], [[0.0, 0.0, 4.0, 6.0]] * 2, [0.5, 0.5]),
        (0.6, 0.05),
        {1: 0.4},
    ).images[0]
    assert [item.category_id for item in sure.annotations] == [1] and len(sure.ignore_regions) == 1


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "share", "source_share"),
    [
        (3, 1, 0.3333, 0.0),
        (4, 1, 0.25, 0.25),
        (8, 1, 0.25, 0.5),
        (1, 3, 0.3333, 0.0),
        (2, 3, 0.3333, 0.0),
        (3, 2, 0.3333, 0),
    ],
)
def test_law_the_run_without_the_footage_has_the_labelled_images_of_every_step(
    config, tmp_path, batch_size, accumulate, share, source_share
):
    """However a step is split into forward passes."""

    def labelled(of, *more):
        extras = [Extra(5, of.data.source_share)] if of.data.source else []
        batches = EpochBatches(8, of.optim.batch_size * of.optim.accumulate, 0, extras=extras + list(more))
        return [[item for item in step if item[1] < 8 + 5 * bool(extras)] for step in batches]

    source = config.data.train + "x" if source_share else ""
    config = with_data(config, unlabelled_share=share, source=source, source_share=source_share)
    optim = dataclasses.replace(config.optim, batch_size=batch_size, accumulate=accumulate)
    config = dataclasses.replace(config, optim=optim)
    (tmp_path / "a run").mkdir()
    (tmp_path / "a run" / "config.yaml").write_text(dump_yaml(config))
    train, compared = map(shlex.split, commands_without(config, tmp_path / "a run"))
    assert train[:3] == ["drivetl", "finetune", "--config"] and train[-2] == "--out"
    without = load_config([Path(train[3])], train[4:-2])
    assert not without.data.unlabelled and not without.data.pseudo
    counts = [sorted(map(len, labelled(of, *more))) for of, *more in ((config, Extra(6, share)), (without,))]
    assert counts[0] == counts[1] and set(counts[0]) == {without.optim.batch_size * without.optim.accumulate}
    assert without.optim.batch_size <= batch_size, "in no more memory"
    assert compared == ["drivetl", "compare", str(tmp_path / "a run"), train[-1]]


def test_law_where_no_epoch_beats_the_start_the_start_is_kept(config, source, tmp_path, capsys):
    config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, lr=0.1))
    outcome = finetune(config, tmp_path / "run")
    assert max(row["AP"] for row in outcome.rows[1:]) <= outcome.rows[0]["AP"] and outcome.best["epoch"] == 0
    kept, began = (read_weights(run / "checkpoints/best/model.safetensors") for run in (tmp_path / "run", source[1]))
    assert all(torch.equal(kept[key], began[key]) for key in began)
    assert not equal(tmp_path / "run", source[1])
    words = " ".join(capsys.readouterr().out.split())
    assert "adapting did not help" in words and "checkpoints/best is the source before training" in words


def test_law_thresholds_of_classes_hold_in_the_labels_in_the_numbers_and_after_reading(config, source, tmp_path):
    categories = ("car", "pedestrian")
    labelled = with_bands(
        Dataset(categories, [ImageRecord(1, "1.png", 9, 9)], Path()),
        Results.of([1] * 4, [1, 1, 2, 2], [[0.0, 0.0, 4.0, 6.0]] * 4, [0.35, 0.2, 0.55, 0.35]),
        (0.6, 0.4),
        {1: 0.3},
    ).images[0]
    assert [item.attributes["score"] for item in labelled.annotations] == [0.35], "also below the ignore regions"
    assert [item.attributes["score"] for item in labelled.ignore_regions] == [0.55]
    assert _of_targets({1: 0.3, 3: 0.7}, {1: 1, 2: 1, 3: 2}, config) == {1: SURE, 2: 0.7}
    assert _of_targets({}, {1: 1}, config) == {}

    frames = read_dataset(Path(source[0].data.train))
    detector = load_detector(source[1], "best", "cpu", "fp32")
    found = detect_all(detector, frames, config, Group(), "once")
    own = {1: 0.3, 2: 0.7}
    dataset = with_bands(frames, found, (SURE, UNSURE), own)
    dataset = dataclasses.replace(dataset, info={"thresholds": dict(zip(categories, own.values(), strict=True))})
    write_dataset(dataset, tmp_path / PSEUDO)
    pseudo = Pseudo(read_dataset(tmp_path / PSEUDO), 0.3333, 0.5)
    seen = effect(pseudo, source[1], config, torch.device("cpu"))["classes"]
    assert {row["name"]: row["threshold"] for row in seen} == {"car": 0.3, "pedestrian": 0.7}
    assert [row["before"] for row in seen] == [row["after"] for row in seen] and any(row["n"] for row in seen)
    assert pseudo.threshold("bus", SURE) == SURE


@pytest.mark.parametrize(
    "case", ["val file", "val copy", "source data", "corrupt", "empty", "nothing found", "no teacher", "shares", "band"]
)
def test_unusable_footage_is_refused_before_anything_is_written(config, footage, tmp_path, case):
    val, source_data = Path(config.data.val).parent, None
    error, keys = ConfigError, {}
    if case == "val file":
        keys, message = {"unlabelled": str(val)}, r"data\.unlabelled has .*000001\.png, which data\.val evaluates on"
    elif case == "val copy":
        (footage / "000009.png").write_bytes((val / "000003.png").read_bytes())
        message = r"data\.unlabelled has .*000009\.png \(a copy of .*000003\.png\), which data\.val evaluates on"
    elif case == "source data":
        source_data = write_tree(tmp_path / "old", first_drive=30, seed=6)
        shutil.copy(source_data.with_name("000004.png"), footage / "000009.png")
        message = r"data\.unlabelled has .*000009\.png \(a copy of .*000004\.png\), which --source-data evaluates on"
    elif case == "corrupt":
        whole = (footage / "000004.png").read_bytes()
        (footage / "000004.png").write_bytes(whole[: len(whole) // 2])
        error, message = DataError, r"000004\.png"
    elif case == "empty":
        (tmp_path / "none").mkdir()
        keys, error, message = {"unlabelled": str(tmp_path / "none")}, DataError, "none: holds no images"
    elif case == "nothing found":
        keys = {"pseudo_threshold": 1.0}
        message = r"no detection in the 6 frames of data\.unlabelled scores at least 1, \d+ are ignore regions"
    elif case == "no teacher":
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, start="none"))
        message = r"data\.unlabelled needs a detector to label it, model\.start is none"
    elif case == "shares":
        keys = {"unlabelled_share": 0.6, "source": config.data.train + "x", "source_share": 0.5}
        message = r"data\.unlabelled_share is 0\.6, next to data\.source_share 0\.5"
    else:
        keys = {"pseudo_ignore_from": 0.5}
        message = r"data\.pseudo_ignore_from is 0\.5, above data\.pseudo_threshold \(0\.2\)"
    with pytest.raises(error, match=message):
        finetune(with_data(config, **keys), tmp_path / "run", source_data=source_data)
    assert not (tmp_path / "run").exists()
