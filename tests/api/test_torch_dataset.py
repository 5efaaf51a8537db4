"""`Dataset.torch` is an ordinary dataset of torch: integer indices, any sampler, any number of workers."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler, Subset
from training_runs import write_tree

import drivetl
from drivetl.data.dataset import read_image


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return drivetl.read_dataset(write_tree(tmp_path_factory.mktemp("data") / "d"))


def test_items_are_the_images_and_their_boxes(data):
    items = data.torch()
    assert isinstance(items, torch.utils.data.Dataset) and len(items) == len(data.images) == len(list(items))
    for (image, target), record in zip(items, data.images, strict=True):
        assert image.dtype == torch.uint8 and image.shape == (3, record.height, record.width)
        assert np.array_equal(image.permute(1, 2, 0).numpy(), read_image(record, data.images_root))
        assert target["boxes"].shape == (len(record.annotations), 4) and target["image_id"] == record.id
        assert target["labels"].tolist() == [item.category_id for item in record.annotations]
    assert len(items[1][1]["boxes"]) == 0, "the image without objects"
    assert torch.equal(items[-1][0], items[len(items) - 1][0])
    with pytest.raises(IndexError, match="index 8 of 8"):
        items[8]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_plain_loader_sees_every_image_once(data, workers):
    loader = DataLoader(data.torch("photometric"), 3, shuffle=True, num_workers=workers, collate_fn=drivetl.collate)
    seen = [int(target["image_id"]) for _, targets in loader for target in targets]
    assert sorted(seen) == [image.id for image in data.images]
    few = DataLoader(Subset(data.torch(), [4, 2]), sampler=RandomSampler(range(2)), collate_fn=drivetl.collate)
    assert sum(len(images) for images, _ in few) == 2


def test_law_augmentation_differs_by_access_and_repeats_with_torchs_seed(data):
    items = data.torch("photometric")

    def first_epoch(seed):
        torch.manual_seed(seed)
        return [items[index][0] for index in range(len(items))]

    once, again, other = first_epoch(1), first_epoch(1), first_epoch(2)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(once, other, strict=True))
    assert not all(torch.equal(items[0][0], once[0]) for _ in range(8))


def test_no_augmentation_draws_no_random_number(data):
    torch.manual_seed(3)
    data.torch()[0]
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))


def test_a_function_augments(data):
    def black(sample, rng):
        sample.image[:] = int(rng.integers(1))
        return sample

    assert int(data.torch(black)[0][0].max()) == 0


def test_masks_are_given_on_request(data):
    assert "masks" not in data.torch()[0][1]
    target = data.torch(masks=True)[0][1]
    assert target["masks"].shape == (3, 64, 96) and not target["has_mask"].any()


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ("weathr", "did you mean 'weather'"),
        (3, "augment is a int"),
        ("auto", "'auto' is chosen by a training.* - name one: none, photometric"),
    ],
)
def test_an_unknown_augmentation_is_named(data, augment, message):
    with pytest.raises(drivetl.DrivetlError, match=message):
        data.torch(augment)
