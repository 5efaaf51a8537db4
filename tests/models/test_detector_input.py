"""A detector refuses images of another layout, type or range: they would give meaningless detections."""

import numpy as np
import pytest
import torch
from torch import nn

from drivetl.errors import DataError
from drivetl.models.detector import Detector

IMAGE = torch.full((3, 8, 12), 200, dtype=torch.uint8)


class FindsNothing(nn.Module):
    """A model that finds nothing in any image."""

    def forward(self, images):
        empty = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}
        return [empty for _ in images]


DETECTOR = Detector(FindsNothing(), ("car",), torch.device("cpu"), torch.float32, "none")


@pytest.mark.parametrize(
    ("image", "reason", "remedy"),
    [
        (
            IMAGE / 255,
            r"images\[1\] is \(3, 8, 12\) float32 tensor with values 0.78\d+ to 0.78\d+",
            "scale it to 0..255",
        ),
        (IMAGE.float(), "float32 tensor with values 200 to 200", "image.byte"),
        (IMAGE.int(), "int32 tensor", "image.byte"),
        (IMAGE.permute(1, 2, 0), r"\(8, 12, 3\) uint8 tensor", "channels first"),
        (IMAGE[:1], r"\(1, 8, 12\) uint8 tensor", "3 channels"),
        (IMAGE[None], r"\(1, 3, 8, 12\) uint8 tensor", "one by one"),
        (IMAGE[:, :0], r"\(3, 0, 12\) uint8 tensor,", "at least one pixel"),
        (IMAGE.numpy(), "uint8 array", "torch.from_numpy"),
        ("a.png", "is a str", "torch.from_numpy"),
        (None, "is a NoneType", "torch.from_numpy"),
    ],
)
def test_law_a_wrong_image_is_refused_with_what_it_is(image, reason, remedy):
    with pytest.raises(DataError, match=reason) as caught:
        DETECTOR.infer([IMAGE, image])
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("images", [IMAGE, IMAGE.numpy(), np.stack([IMAGE.numpy()]), "images"])
def test_law_one_image_is_not_a_batch(images):
    with pytest.raises(DataError, match="images are one"):
        DETECTOR.infer(images)


def test_right_images_pass():
    assert len(DETECTOR.infer([IMAGE, IMAGE[:, 2:]])) == 2 and DETECTOR.infer([]) == []
