import json
import tarfile
from pathlib import Path

import kitti_oracle
import numpy as np
import pytest

from drivetl.errors import DataError
from drivetl.metrics import kitti_ap
from drivetl.metrics.kitti_objects import read_labels, read_results

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
TAIL = "-1 -1 -1 -1000 -1000 -1000 -10"


def label(name, box, truncated=0, occluded=0):
    return f"{name} {truncated} {occluded} -10 {' '.join(map(str, box))} {TAIL}"


def result(name, box, score):
    return f"{name} -1 -1 -10 {' '.join(map(str, box))} {TAIL} {score}"


def write(folder, frames):
    folder.mkdir()
    for frame, lines in frames.items():
        (folder / f"{frame}.txt").write_text("".join(line + "\n" for line in lines))
    return folder


def evaluate(tmp_path, labels, results, **options):
    truth = read_labels(write(tmp_path / "labels", labels))
    found = read_results(write(tmp_path / "results", results), truth.frames)
    return kitti_ap.evaluate(truth, found, **options)


BOX = (100, 100, 200, 160)


def assert_equal_to_oracle(results, expected, atol=1e-12):
    for name, levels in expected.items():
        for level, (precision, n_objects) in levels.items():
            ours = results[name][level]
            np.testing.assert_allclose(ours.precision_41, precision, rtol=0, atol=atol)
            assert ours.n_gt == n_objects
            if n_objects:
                assert ours.ap40 == pytest.approx(sum(precision[1:]) / 40, abs=atol)
                assert ours.ap11 == pytest.approx(sum(precision[::4]) / 11, abs=atol)


@pytest.mark.parametrize("seed", range(20))
def test_equals_plain_loops_on_synthetic_frames(tmp_path, seed):
    frames = kitti_oracle.random_frames(seed)
    labels, results = ({f"{number:06d}": frame[part] for number, frame in enumerate(frames)} for part in (0, 1))
    assert_equal_to_oracle(evaluate(tmp_path, labels, results), kitti_oracle.evaluate(frames))


def without(name, part=0):
    """Frames -> the frames without the labels (part 0) or detections (part 1) of that name."""
    return lambda frames: [
        tuple([line for line in lines if i != part or line.split()[0] != name] for i, lines in enumerate(frame))
        for frame in frames
    ]


def with_zero(field):
    """Frames -> the frames whose labels have 0 in that field."""

    def change(line):
        words = line.split()
        return " ".join([*words[:field], "0", *words[field + 1 :]])

    return lambda frames: [([change(line) for line in labels], results) for labels, results in frames]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(without("DontCare"), id="DontCare"),
        pytest.param(without("Van"), id="neighbour of car"),
        pytest.param(without("Person_sitting"), id="neighbour of pedestrian"),
        pytest.param(with_zero(1), id="truncation"),
        pytest.param(with_zero(2), id="occlusion"),
        pytest.param(without("Misc", 1), id="small detections of other classes"),
    ],
)
def test_the_synthetic_frames_exercise_each_rule(change):
    """Removing what a rule is about changes the result, so that a wrong rule would be noticed."""
    frames = [frame for seed in range(3) for frame in kitti_oracle.random_frames(seed)]
    assert kitti_oracle.evaluate(change(frames)) != kitti_oracle.evaluate(frames)


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """(folder with the labels and detections of the even frames, their names, the official evaluator's figures)."""
    if not SHARED.is_dir():
        pytest.skip("KITTI's labels may not be shipped: plain loops are checked against the official evaluator here")
    folder = tmp_path_factory.mktemp("official")
    for archive in ("kitti_official_eval/detections.tar.gz", "kitti_labels/label_2.tar.gz"):
        with tarfile.open(SHARED / archive) as tar:
            even = [member for member in tar if member.isfile() and int(Path(member.name).stem) % 2 == 0]
            tar.extractall(folder, even, filter="data")
    figures = json.loads((SHARED / "kitti_official_eval" / "expected.json").read_text())
    assert set(figures) == {"car", "pedestrian"}
    return folder, [f"{number:06d}" for number in range(0, 7481, 2)], figures


def test_equals_the_official_evaluator(official):
    folder, frames, figures = official
    truth = read_labels(folder / "full_label_2", frames)
    results = kitti_ap.evaluate(truth, read_results(folder / "det", frames))
    for name, levels in figures.items():
        for level, expected in levels.items():
            ours = results[name][level]
            np.testing.assert_allclose(ours.precision_41, expected["precision_41"], rtol=0, atol=1e-6)
            assert 100 * ours.ap40 == pytest.approx(expected["AP40"], abs=1e-4)
            assert 100 * ours.ap11 == pytest.approx(expected["AP11"], abs=1e-4)


def test_plain_loops_equal_the_official_evaluator(official):
    """The evaluator prints six decimals."""
    folder, frames, figures = official

    def lines_of(path):
        return path.read_text().splitlines() if path.is_file() else []

    texts = [(lines_of(folder / "full_label_2" / f"{n}.txt"), lines_of(folder / "det" / f"{n}.txt")) for n in frames]
    computed = kitti_oracle.evaluate(texts)
    for name, levels in figures.items():
        for level, expected in levels.items():
            np.testing.assert_allclose(computed[name][level][0], expected["precision_41"], rtol=0, atol=5.01e-7)


def test_one_detected_car(tmp_path):
    levels = evaluate(tmp_path, {"000000": [label("Car", BOX)]}, {"000000": [result("car", BOX, 0.9)]})["car"]
    assert levels["easy"].n_gt == 1
    # one true positive gives one threshold: recall is sampled at 0 alone, in the devkit as here
    assert levels["easy"].precision_41.tolist() == [1.0] + [0.0] * 40


def many(n, extra=()):
    """n frames with a detected car each, at falling scores; `extra` lines go to every frame's labels."""
    labels = {f"{i:06d}": [label("Car", BOX), *extra] for i in range(n)}
    results = {f"{i:06d}": [result("Car", BOX, 0.9 - 0.001 * i)] for i in range(n)}
    return labels, results


def test_all_cars_detected_is_precision_one_everywhere(tmp_path):
    one = evaluate(tmp_path, *many(80))["car"]["moderate"]
    assert one.ap40 == one.ap11 == 1.0


def add_to_all(results, line):
    return {frame: [*lines, line] for frame, lines in results.items()}


def test_a_false_positive_counts_unless_in_dontcare(tmp_path):
    away = (400, 100, 500, 160)
    labels, results = many(80)
    results = add_to_all(results, result("Car", away, 0.95))
    assert evaluate(tmp_path, labels, results)["car"]["easy"].ap40 == pytest.approx(0.5, abs=0.01)
    (tmp_path / "second").mkdir()
    labels, _ = many(80, extra=[label("DontCare", (390, 90, 510, 170), -1, -1)])
    assert evaluate(tmp_path / "second", labels, results)["car"]["easy"].ap40 == 1.0


def test_a_van_detected_as_car_is_ignored(tmp_path):
    away = (400, 100, 500, 160)
    labels, results = many(80, extra=[label("Van", away)])
    results = add_to_all(results, result("Car", away, 0.95))
    easy = evaluate(tmp_path, labels, results)["car"]["easy"]
    assert (easy.n_gt, easy.ap40) == (80, 1.0)


def test_height_of_exactly_the_limit(tmp_path):
    """A label of 40 px is too small for easy (<=), a detection of 40 px is not (<)."""
    low = (100, 100, 200, 140)
    labels = {"000000": [label("Car", low)], "000001": [label("Car", BOX)]}
    results = {"000000": [result("Car", (400, 0, 500, 40), 0.5)], "000001": [result("Car", BOX, 0.4)]}
    easy = evaluate(tmp_path, labels, results)["car"]["easy"]
    assert easy.n_gt == 1
    assert easy.precision_41[0] == 0.5


def test_a_small_detection_of_another_class_takes_a_car_out_of_the_count(tmp_path):
    """The devkit's quirk: 39 px of `pedestrian` on a 41 px car, and the car is neither detected nor missed."""
    car, small = (100, 100, 200, 141), (100, 101, 200, 140)
    labels = {f"{i:06d}": [label("Car", BOX)] for i in range(40)} | {"000040": [label("Car", car)]}
    results = {f"{i:06d}": [result("Car", BOX, 0.5)] for i in range(40)}
    results["000040"] = [result("Pedestrian", small, 0.99), result("Car", car, 0.3)]
    official = evaluate(tmp_path, labels, results)["car"]["easy"]
    (tmp_path / "second").mkdir()
    plain = evaluate(tmp_path / "second", labels, results, strict_kitti=False)["car"]["easy"]
    assert plain.ap40 >= official.ap40
    assert not np.array_equal(plain.precision_41, official.precision_41)


def test_truncated_or_occluded_objects_are_ignored_at_easy(tmp_path):
    labels, results = many(80, extra=[label("Car", (400, 100, 500, 160), 0.4, 0), label("Car", BOX, 0, 3)])
    levels = evaluate(tmp_path, labels, results)["car"]
    assert [levels[name].n_gt for name in ("easy", "moderate", "hard")] == [80, 80, 160]


def test_no_objects_give_no_number(tmp_path):
    levels = evaluate(tmp_path, {"000000": []}, {"000000": [result("Car", BOX, 0.5)]})["car"]
    assert np.isnan(levels["hard"].ap40)


def test_missing_results_count_as_no_detections_with_a_warning(tmp_path, capsys):
    labels, results = many(80)
    first_half = {frame: lines for frame, lines in results.items() if frame < "000040"}
    easy = evaluate(tmp_path, labels, first_half)["car"]["easy"]
    assert "40 of 80 frames have no result file (000040" in " ".join(capsys.readouterr().err.split())
    assert easy.n_gt == 80
    assert easy.ap40 == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Car 0 0 0 1 2 3 4 0 0 0 0 0 0 0", "000000.txt:2: 15 fields instead of 16"),
        ("Car -1 -1 0 1 2 x 4 0 0 0 0 0 0 0 0.5", "000000.txt:2: right is 'x', not a usable number"),
        ("Car -1 -1 0 9 2 3 4 0 0 0 0 0 0 0 0.5", "000000.txt:2: box [9, 2, 3, 4] has x2 < x1"),
        ("Car -1 -1 0 1 2 3 4 0 0 0 0 0 0 0 nan", "000000.txt:2: score is 'nan', not a usable number"),
        ("Car -1 -1 0 1 2 inf 4 0 0 0 0 0 0 0 0.3", "000000.txt:2: right is 'inf', not a usable number"),
    ],
)
def test_broken_result_lines_name_file_and_line(tmp_path, line, message):
    with pytest.raises(DataError) as error:
        evaluate(tmp_path, {"000000": [label("Car", BOX)]}, {"000000": [result("Car", BOX, 0.5), line]})
    assert message in str(error.value)


def test_results_of_unknown_frames_and_duplicate_files_are_refused(tmp_path):
    labels, results = many(3)
    with pytest.raises(DataError, match="without labels"):
        evaluate(tmp_path, {"000000": labels["000000"]}, results)
    (tmp_path / "second").mkdir()
    with pytest.raises(DataError, match="second file for frame"):
        evaluate(tmp_path / "second", labels, results | {"2": [result("Car", BOX, 0.5)]})
