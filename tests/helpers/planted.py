"""Images with planted bright boxes of known position, and a detector that misses them at low contrast."""

import json
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch

from drivetl.coco.detections import Detections
from drivetl.coco.io import read_dataset

SIZE_HW = (96, 256)
CLASSES = ("car", "pedestrian")


@dataclass
class PlantedDetector:
    """Reads planted boxes: red ones are cars, green ones pedestrians; a box needs `contrast` against its background."""

    contrast: float = 70.0
    name: str = ""
    weights_hash: str = "planted"
    categories: tuple = CLASSES
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: torch.dtype = torch.float32
    augmentation: dict | None = None
    run: object = None
    images_seen: int = 0

    def infer(self, images):
        self.images_seen += len(images)
        assert len({tuple(image.shape) for image in images}) <= 1, "a batch holds one size"
        return [self._one(image.permute(1, 2, 0).numpy().astype(np.int32)) for image in images]

    def _one(self, image):
        rows = []
        for label, channel, other in ((1, 0, 1), (2, 1, 0)):
            strength = image[..., channel] - image[..., other]
            mask = (strength > self.contrast * 0.6).astype(np.uint8)
            count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
            for x, y, w, h, area in stats[1:count]:
                if area >= 20:
                    inside = strength[y : y + h, x : x + w].mean()
                    rows.append((x, y, x + w, y + h, min(1.0, inside / 255), label))
        rows.sort(key=lambda row: -row[4])
        table = np.array(rows, np.float32).reshape(-1, 6)
        return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def planted_dataset(folder, n_images=8, n_drives=4, seed=0, size_hw=SIZE_HW):
    """Write images and a COCO json; image 0 is empty, the last has another size. Returns the json's path."""
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    (folder / "images").mkdir(parents=True)
    for number in range(n_images):
        height, width = size_hw if number < n_images - 1 else (size_hw[0] + 32, size_hw[1] - 40)
        pixels = rng.integers(70, 110, (height, width, 1), dtype=np.uint8).repeat(3, axis=2)
        pixels[: height // 3] = (150, 180, 210)
        for column in range(0 if number == 0 else 4):
            w, h = int(rng.integers(14, 36)), int(rng.integers(12, 30))
            x = column * width // 4 + int(rng.integers(0, width // 4 - w + 1))
            y = int(rng.integers(height // 3, height - h))
            label = 1 + int(rng.random() < 0.4)
            glow = int(rng.integers(120, 250))
            pixels[y : y + h, x : x + w] = (glow, 40, 40) if label == 1 else (40, glow, 40)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": label,
                    "iscrowd": 0,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "attributes": {"location_xyz_m": [float(rng.uniform(-4, 4)), 1.6, float(rng.uniform(8, 60))]},
                }
            )
        name = f"images/{number:06d}.png"
        cv2.imwrite(str(folder / name), pixels[..., ::-1])
        images.append(
            {
                "id": number + 1,
                "file_name": name,
                "width": width,
                "height": height,
                "sequence": f"drive_{number % n_drives}",
                "attributes": {"weather": "rain" if number % 3 == 0 else "clear"},
            }
        )
    document = {
        "info": {"drivetl": {"images_root": ".", "source": "planted"}},
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
        "images": images,
        "annotations": annotations,
    }
    path = folder / "val.json"
    path.write_text(json.dumps(document))
    return path


def read_planted(folder, **options):
    """The dataset of `planted_dataset`."""
    return read_dataset(planted_dataset(folder, **options))
