"""Laws of a batch's way to the device: it arrives as it was; and of the pace that is reported."""

import pytest
import torch

from drivetl.training.pace import Pace
from drivetl.training.transfer import ALIGNMENT, on_device, pack, unpack

CPU = torch.device("cpu")


def batch(seed=0, count=3):
    generator = torch.Generator().manual_seed(seed)
    images = [torch.randint(0, 255, (3, 5 + n, 7), dtype=torch.uint8, generator=generator) for n in range(count)]
    targets = [
        {
            "boxes": torch.rand(n, 4, generator=generator),
            "labels": torch.randint(1, 4, (n,), generator=generator),
            "has_mask": torch.ones(n, dtype=torch.bool),
            "image_id": torch.tensor(n),
        }
        for n in range(count)
    ]
    targets[-1] |= {"stream": torch.tensor(1), "masks": torch.ones(count - 1, 8, 7, dtype=torch.uint8)}
    return images, targets


def assert_same(one, other):
    assert len(one[0]) == len(other[0]) and len(one[1]) == len(other[1])
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(one[0], other[0], strict=True))
    for ours, theirs in zip(one[1], other[1], strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) and ours[key].dtype == theirs[key].dtype for key in ours)


@pytest.mark.parametrize("count", [1, 3])
def test_law_a_packed_batch_unpacks_to_itself_and_is_one_block(count):
    original = batch(count=count)
    block, layout = pack(original, pinned=False)
    unpacked = unpack(block, layout)
    assert_same(unpacked, original)
    inside = [*unpacked[0], *(value for item in unpacked[1] for key, value in item.items() if key in layout.targets[0])]
    memory = {tensor.untyped_storage().data_ptr() for tensor in inside if tensor.numel()}
    assert memory == {block.untyped_storage().data_ptr()}
    assert unpacked[1][0]["image_id"] is original[1][0]["image_id"], "what the network does not read stays"
    assert all(place[0] % ALIGNMENT == 0 for place in layout.images)


def test_images_from_other_layouts_are_packed_by_value():
    images, targets = batch()
    turned = [image.permute(1, 2, 0).contiguous().permute(2, 0, 1) for image in images]
    assert_same(unpack(*pack((turned, targets), pinned=False)), (images, targets))


def test_on_a_cpu_batches_are_passed_on_as_they_are():
    batches = [batch(seed) for seed in range(3)]
    assert all(a is b for a, b in zip(on_device(iter(batches), CPU), batches, strict=True))
    assert list(on_device([], CPU)) == []


@pytest.mark.gpu
def test_law_batches_arrive_on_a_gpu_in_order_and_as_they_were():
    batches = [batch(seed) for seed in range(5)]
    arrived = list(on_device(iter(batches), torch.device("cuda")))
    assert all(image.device.type == "cuda" for image in arrived[0][0])
    for ours, theirs in zip(arrived, batches, strict=True):
        back = [image.cpu() for image in ours[0]], [{k: v.cpu() for k, v in item.items()} for item in ours[1]]
        assert_same(back, theirs)


def test_the_pace_counts_images_and_who_waits(monkeypatch):
    now = iter([0.0, 0.0, 3.0, 4.0, 4.0, 5.0, 8.0, 8.0, 8.0, 8.0])
    monkeypatch.setattr("drivetl.training.pace.time.perf_counter", lambda: next(now))
    pace = Pace()
    assert len(list(pace.timed([batch(), batch()]))) == 2
    assert (pace.images, pace.waited_s, pace.total_s) == (6, 4.0, 8.0)
    assert pace.row() == {"images_per_s": 0.75, "loader_share": 0.5}
    assert pace.in_words(0).startswith("loader 1.5 images/s, network 1.5: the network waits 50% of the time - try")
    assert "loader 0.75 images/s" in pace.in_words(2), "processes of a loader work while the network does"


def test_a_fast_loader_is_only_known_to_be_faster():
    pace = Pace(images=100, waited_s=0.1, total_s=10.0)
    assert pace.in_words(4) == "loader at least 10 images/s, network 10.1: the network waits 1% of the time"
    assert pace.in_words(0) == "loader 1e+03 images/s, network 10.1: the network waits 1% of the time"
    assert Pace().row() == {}
