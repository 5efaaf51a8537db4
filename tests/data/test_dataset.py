"""Laws of samples and batches."""

import cv2
import numpy as np
import pytest
import torch

from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord
from drivetl.data.dataset import DetectionDataset, IndexedDataset, read_image, read_sample
from drivetl.data.repeats import class_factors, images_per_epoch, repeat_factors, sampling_in_words
from drivetl.data.sampling import EpochBatches, Extra, spread_over_drives
from drivetl.errors import DataError


def record(number, **fields):
    return ImageRecord(number, f"{number}.png", 40, 30, **fields)


@pytest.fixture
def dataset(tmp_path):
    """Image 1: an object with a mask, one with a box only, a sliver, an ignore region; image 2: empty."""
    for number in (1, 2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((30, 40, 3), 10 * number, np.uint8))
    full = record(1, labelled=(2,))
    square = [[4.0, 4.0, 14.0, 4.0, 14.0, 14.0, 4.0, 14.0]]
    full.annotations = [
        Annotation(2, (4, 4, 10, 10), 100, square),
        Annotation(1, (20, 5, 8, 9), 72),
        Annotation(1, (30, 5, 0.4, 9), 3.6),
    ]
    full.ignore_regions = [IgnoreRegion((0, 20, 10, 10), 100)]
    return Dataset(("car", "pedestrian"), [full, record(2)], tmp_path)


def test_a_sample_keeps_every_object_or_makes_it_an_ignore_region(dataset):
    sample = read_sample(dataset.images[0], read_image(dataset.images[0], dataset.images_root), with_masks=True)
    assert sample.boxes.tolist() == [[4, 4, 14, 14], [20, 5, 28, 14]]
    assert sample.labels.tolist() == [2, 1]
    np.testing.assert_allclose(sample.ignore_boxes, [[0, 20, 10, 30], [30, 5, 30.4, 14]])
    assert sample.has_mask.tolist() == [True, False]
    assert sample.masks[0].sum() == 100 and sample.masks[1].sum() == 0


def test_an_empty_image_is_a_normal_sample(dataset):
    image, target = DetectionDataset(dataset, with_masks=True)[0, 1]
    assert image.dtype == torch.uint8 and image.shape == (3, 30, 40) and int(image[0, 0, 0]) == 20
    assert target["boxes"].shape == (0, 4) and target["labels"].shape == (0,)
    assert target["masks"].shape == (0, 30, 40) and target["ignore_boxes"].shape == (0, 4)
    assert "labelled" not in target


def test_unlabelled_classes_are_marked(dataset):
    _, target = DetectionDataset(dataset)[0, 0]
    assert target["labelled"].tolist() == [True, False, True]


def test_by_index_every_target_says_which_classes_are_labelled(dataset):
    labelled = [target["labelled"].tolist() for _, target in IndexedDataset(dataset)]
    assert labelled == [[True, False, True], [True, True, True]]


def test_an_image_whose_size_differs_from_the_json_is_refused(dataset, tmp_path):
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((31, 40, 3), np.uint8))
    with pytest.raises(DataError, match=r"1\.png: is 40 x 31, the json says 40 x 30"):
        DetectionDataset(dataset)[0, 0]


def test_law_a_broken_mask_names_the_json_and_the_image(dataset, tmp_path):
    dataset.file = tmp_path / "train.json"
    image = next(image for image in dataset.images if image.annotations)
    image.annotations[0].segmentation = {"size": [image.height, image.width], "counts": [1, 2]}
    index = dataset.images.index(image)
    DetectionDataset(dataset)[0, index]  # boxes alone do not need it
    with pytest.raises(DataError, match=rf"train\.json: image '{image.file_name}': RLE counts do not fill"):
        DetectionDataset(dataset, with_masks=True)[0, index]


def test_the_cache_returns_copies(dataset):
    data = DetectionDataset(dataset, cache_gb=1.0)
    first = data[0, 0][0]
    first.zero_()
    assert int(data[0, 0][0][0, 0, 0]) == 10


def test_augmentation_depends_on_seed_epoch_and_index_alone(dataset):
    def noise(sample, rng):
        sample.image = rng.integers(0, 255, sample.image.shape, dtype=np.uint8)
        return sample

    a, b = (DetectionDataset(dataset, augment=noise, seed=3) for _ in range(2))
    b[7, 1]  # another order of access
    assert torch.equal(a[5, 0][0], b[5, 0][0])
    assert not torch.equal(a[5, 0][0], a[6, 0][0])
    assert not torch.equal(a[5, 0][0], DetectionDataset(dataset, augment=noise, seed=4)[5, 0][0])


@pytest.mark.parametrize(("n_images", "batch", "world"), [(10, 4, 1), (10, 4, 2), (1, 4, 2), (7, 1, 3)])
def test_every_image_is_seen_in_every_epoch_and_processes_get_the_same_number_of_steps(n_images, batch, world):
    seen = []
    lengths = set()
    for rank in range(world):
        batches = EpochBatches(n_images, batch, seed=1, rank=rank, world=world)
        batches.epoch = 2
        steps = list(batches)
        lengths.add(len(steps))
        assert len(steps) == len(batches) and all(len(step) == batch for step in steps)
        seen += [index for step in steps for epoch, index in step if epoch == 2]
    assert set(seen) == set(range(n_images))
    assert len(lengths) == 1


def test_a_resumed_epoch_continues_where_it_stopped():
    batches = EpochBatches(20, 3, seed=0)
    whole = list(batches)
    batches.first = 4
    assert list(batches) == whole[4:]
    batches.first, batches.epoch = 0, 1
    assert list(batches) != whole


def test_few_images_come_from_all_drives_and_are_nested():
    images = [record(number, drive=f"drive {number % 4}") for number in range(1, 41)]
    eight, sixteen = spread_over_drives(images, 8, seed=5), spread_over_drives(images, 16, seed=5)
    assert {image.drive for image in eight} == {f"drive {n}" for n in range(4)}
    assert {image.id for image in eight} < {image.id for image in sixteen}
    assert len(spread_over_drives(images, 1000, seed=5)) == 40
    assert spread_over_drives([], 5, seed=0) == []


def street_images():
    """Ten images: a car in eight, a pedestrian in two, a train in one of the four that label trains; one is empty."""
    images = [record(number, labelled=None if number <= 3 else (1, 2)) for number in range(1, 10)] + [
        record(10, labelled=(1, 2, 3))
    ]
    for image in images[:8]:
        image.annotations.append(Annotation(1, (4, 4, 10, 10), 100))
        image.annotations.append(Annotation(1, (20, 4, 10, 10), 100))
    for image in (images[1], images[9]):
        image.annotations.append(Annotation(2, (4, 4, 10, 10), 100))
    images[2].annotations.append(Annotation(3, (4, 4, 10, 10), 100))
    images[4].ignore_regions = [IgnoreRegion((0, 20, 10, 10), 100)]
    return images


def test_repeat_factors_follow_the_formula():
    """f: car 8/10, pedestrian 2/10, train 1/4 (four images label trains); the threshold is 0.5."""
    images = street_images()
    by_class = class_factors(images, 0.5)
    assert by_class == pytest.approx({1: 1.0, 2: np.sqrt(0.5 / 0.2), 3: np.sqrt(0.5 / 0.25)})
    expected = [1, np.sqrt(2.5), np.sqrt(2), 1, 1, 1, 1, 1, 1, np.sqrt(2.5)]
    factors = repeat_factors(images, 0.5)
    assert factors == pytest.approx(expected) and factors[8] == 1, "image 9 is empty"
    assert images_per_epoch(factors) == 12  # 7 + 2 * 1.581 + 1.414 = 11.58, rounded up
    text = sampling_in_words(images, ("car", "pedestrian", "train"), 0.5)
    assert text.endswith("12 images instead of 10: those of rare classes repeat, pedestrian x1.6, train x1.4")
    assert "no class is in fewer than 10%" in sampling_in_words(images, ("car", "pedestrian", "train"), 0.1)
    assert np.array_equal(repeat_factors(images, 0.1), np.ones(10))
    assert len(repeat_factors([], 0.1)) == 0 and repeat_factors([record(1)], 0.1).tolist() == [1.0]


def test_images_are_seen_as_often_as_their_factors_say():
    """Every epoch: the floor or the ceiling of each factor, no image is left out; over epochs: the factor."""
    factors = repeat_factors(street_images(), 0.5)
    batches, epochs = EpochBatches(10, 1, seed=3, factors=factors), 400
    counts = np.zeros((epochs, 10))
    for epoch in range(epochs):
        batches.epoch = epoch
        items = batches._items()
        assert len(set(items)) == len(items) in (11, 12)
        for _, index, *copy in items:
            counts[epoch, index] += 1
            assert copy in ([], [1])
    assert np.all((counts == np.floor(factors)) | (counts == np.ceil(factors)))
    error = np.abs(counts.mean(axis=0) - factors)
    assert np.all(error <= 4 * np.sqrt(0.25 / epochs))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_repeated_sampling_is_resumed_and_shared_as_uniform_sampling_is(world):
    factors, seen = repeat_factors(street_images(), 0.5), []
    for rank in range(world):
        batches = EpochBatches(10, 2, seed=1, factors=factors, rank=rank, world=world)
        batches.epoch = 5
        whole = list(batches)
        assert len(whole) == len(batches) == -(-12 // (2 * world)) and all(len(step) == 2 for step in whole)
        assert list(batches) == whole
        batches.first = 1
        assert list(batches) == whole[1:]
        seen += [item for step in whole for item in step]
    assert {item[1] for item in seen} == set(range(10)) and {item[0] for item in seen} == {5}
    alone = EpochBatches(10, 2, seed=1, factors=factors)
    alone.epoch = 5
    assert set(seen) == {item for step in alone for item in step}, "any number of processes sees the same samples"


def test_repeated_images_mix_with_those_of_another_dataset():
    """A quarter of the positions is the extra's; the rest of an epoch shows every image, rare ones twice."""
    factors = repeat_factors(street_images(), 0.5)
    batches = EpochBatches(10, 4, seed=1, factors=factors, extras=[Extra(5, 0.25)])
    assert len(batches) == 4  # 12 images of the first dataset in 4 * 3 positions
    items = [item for step in batches for item in step]
    assert sum(item[1] >= 10 for item in items) == 4
    own = [item for item in items if item[1] < 10]
    assert {item[1] for item in own} == set(range(10)) and len(own) == 12
    assert {item for item in own if len(item) == 3} <= {(0, index, 1) for index in (1, 2, 9)}


def test_factors_of_one_are_every_image_once():
    batches = EpochBatches(7, 7, seed=0, factors=np.ones(7))
    assert sorted(next(iter(batches))) == [(0, number) for number in range(7)] and len(batches) == 1


def test_copies_of_an_image_are_augmented_differently(dataset):
    def noise(sample, rng):
        sample.image = rng.integers(0, 255, sample.image.shape, dtype=np.uint8)
        return sample

    data = DetectionDataset(dataset, augment=noise, seed=3)
    first, second = data[5, 0][0], data[5, 0, 1][0]
    assert not torch.equal(first, second) and torch.equal(second, data[5, 0, 1][0])
