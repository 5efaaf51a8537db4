"""Scores per class: what is written is read, and an operating point gives what it promises on the validation images."""

import shutil

import numpy as np
import pytest
import yaml
from planted import CLASSES, PlantedDetector, planted_dataset, read_planted

from drivetl.errors import ConfigError, DataError
from drivetl.files.runs import BEST_DETECTIONS
from drivetl.metrics.match_store import match
from drivetl.metrics.operating import at_threshold, score_curve
from drivetl.metrics.results import concatenate, of_image, save_results
from drivetl.prediction.images import predict, with_min_score
from drivetl.prediction.thresholds import (
    DEFAULT_SCORE,
    check_names,
    operating_points_of,
    parse_rule,
    parse_scores,
    scores_of,
)


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("0.5", [0.5, 0.5, 0.5]),
        ("car=0.5", [0.5, DEFAULT_SCORE, DEFAULT_SCORE]),
        ("0.2,car=.5, traffic light = 1 ", [0.5, 0.2, 1.0]),
        ("0", [0, 0, 0]),
    ],
)
def test_scores_per_class(text, scores):
    assert scores_of(parse_scores(text), ("car", "person", "traffic light")).tolist() == scores


@pytest.mark.parametrize("text", ["", "1.1", "-0.1", "nan", "car=", "car=x", "car=0.5,car=0.6", "0.5,,", "1_0", "inf"])
def test_what_is_not_a_score_is_refused(text):
    with pytest.raises(ConfigError, match="--score"):
        parse_scores(text)


def test_an_unknown_class_gets_the_name_that_was_meant():
    with pytest.raises(ConfigError, match="no class 'cat'") as caught:
        check_names(parse_scores("cat=0.5"), CLASSES)
    assert "did you mean 'car'?" in caught.value.remedy


@pytest.mark.parametrize("text", ["recall", "recall=", "recall=1.5", "fp=-1", "f1=0.5", "=0.5", "recall=nan"])
def test_what_is_not_an_operating_point_is_refused(text):
    with pytest.raises(ConfigError, match="--at"):
        parse_rule(text)
    assert parse_rule("recall=0.9") == ("recall", 0.9) and parse_rule("fp=3") == ("fp", 3.0)


@pytest.fixture
def validated(tmp_path):
    """(dataset, run) with the stored detections of a detector that finds a part of the objects."""
    data = read_planted(tmp_path / "d", n_images=6)
    rows = []
    for number, (record, found) in enumerate(predict(PlantedDetector(), data)):
        found.scores[:] = np.linspace(0.9, 0.2, len(found.scores)) - 0.01 * number
        found.boxes[len(found.boxes) // 2 + 1 :] += 200  # false positives, below the others
        rows.append(of_image(record.id, found))
    run = tmp_path / "run"
    (run / "eval").mkdir(parents=True)
    save_results(run / BEST_DETECTIONS, concatenate(rows))
    (run / "config.yaml").write_text(yaml.safe_dump({"data": {"val": str(tmp_path / "d" / "val.json")}}))
    return data, run, concatenate(rows)


@pytest.mark.parametrize("value", [0.1, 0.3, 0.5])
def test_law_recall_is_reached_by_the_highest_score_that_reaches_it(validated, value):
    data, run, results = validated
    store = match(data, results)
    for k, row in enumerate(operating_points_of(run, CLASSES, "recall", value)):
        curve = score_curve(store, k)
        assert row.point == at_threshold(curve, row.point.threshold, store.n_images)
        if not row.note:
            assert row.point.recall >= value
            higher = curve.scores[curve.scores > row.point.threshold]
            assert not len(higher) or at_threshold(curve, higher[-1], store.n_images).recall < value


@pytest.mark.parametrize("value", [0.0, 0.2, 1.0, 9.0])
def test_law_false_positives_stay_within_the_rate(validated, value):
    data, run, results = validated
    chosen = operating_points_of(run, CLASSES, "fp", value)
    kept = results.scores >= np.array([row.point.threshold for row in chosen])[results.category_id - 1]
    tp, ignored = (store := match(data, results.where(kept))).tp_and_ignored()
    for k in range(len(CLASSES)):
        wrong = int(((store.category == k) & ~tp & ~ignored).sum())
        assert wrong <= value * len(data.images)


def test_what_cannot_be_reached_is_said(validated):
    _, run, results = validated
    for row in operating_points_of(run, CLASSES, "recall", 1.0):
        assert "out of reach" in row.note
        scores = results.scores[results.category_id == CLASSES.index(row.name) + 1]
        assert row.point.threshold == scores.min()


def test_a_class_without_detections_or_objects_keeps_the_default(validated):
    _, run, results = validated
    save_results(run / BEST_DETECTIONS, results.where(results.category_id == 1))
    car, pedestrian = operating_points_of(run, CLASSES, "recall", 0.1)
    assert not car.note and pedestrian.point.threshold == DEFAULT_SCORE and "never detected" in pedestrian.note


def test_a_run_that_stored_nothing_or_whose_data_changed_is_an_error(validated, tmp_path):
    _, run, _ = validated
    with pytest.raises(DataError, match="classes are not those of the run"):
        operating_points_of(run, ("car",), "recall", 0.5)
    other = planted_dataset(tmp_path / "other", n_images=2)
    (run / "config.yaml").write_text(yaml.safe_dump({"data": {"val": str(other)}}))
    with pytest.raises(DataError, match=r"does not fit .*other") as caught:
        operating_points_of(run, CLASSES, "recall", 0.5)
    assert caught.value.file == run / BEST_DETECTIONS
    shutil.rmtree(run / "eval")
    with pytest.raises(DataError, match="stored no detections"):
        operating_points_of(run, CLASSES, "recall", 0.5)


def test_infinite_scores_keep_nothing():
    ((_, found), *_) = [(1, with_min_score(PlantedDetector()._one(np.zeros((9, 9, 3), np.int32)), np.full(2, np.inf)))]
    assert len(found.scores) == 0
