"""A tiny dataset on disk: coloured rectangles on grey, three drives, one image without objects, one of odd size."""

import dataclasses

import cv2
import numpy as np
import torch

from drivetl.coco.io import write_dataset
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord
from drivetl.config import DataConfig, EvalConfig, FinetuneConfig, ModelConfig, OptimConfig, RuntimeConfig
from drivetl.models.weights import read_weights
from drivetl.training import trainer
from drivetl.training.rundir import read_metrics


def _image(rng, width, height, n_objects):
    image = np.full((height, width, 3), 90, np.uint8)
    annotations = []
    for index in range(n_objects):
        w, h = rng.integers(16, 30, 2)
        x, y = rng.integers(0, width - w), rng.integers(0, height - h)
        category = index % 2 + 1
        image[y : y + h, x : x + w] = (220, 40, 40) if category == 1 else (40, 40, 220)
        box = (float(x), float(y), float(w), float(h))
        annotations.append(Annotation(category, box, float(w * h)))
    return image, annotations


def write_tree(folder, n_images=8, categories=("car", "pedestrian"), first_drive=0, relation=None, seed=0, n_drives=3):
    """A dataset json whose images alternate between `n_drives` drives; image 2 is empty, image 3 of odd size."""
    rng = np.random.default_rng(seed)
    records = []
    for number in range(1, n_images + 1):
        width, height = (96, 64) if number != 3 else (75, 51)
        image, annotations = _image(rng, width, height, 0 if number == 2 else 3)
        if not annotations:  # a frame of its own in every tree: copies are not trained and evaluated on
            image[0, 0] = np.random.default_rng([seed, first_drive]).integers(0, 255, 3)
        name = f"{number:06d}.png"
        folder.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / name), image[..., ::-1])
        record = ImageRecord(number, name, width, height, f"drive {first_drive + number % n_drives}", number)
        record.annotations = annotations
        if number == 1:
            record.ignore_regions = [IgnoreRegion((0.0, 0.0, 20.0, 20.0), 400.0)]
        records.append(record)
    classes = {name: {"labels": [name], "from": (relation or {}).get(name, {})} for name in categories}
    dataset = Dataset(
        tuple(categories), records, folder, {"source": "test", "taxonomy": {"name": "test", "classes": classes}}
    )
    write_dataset(dataset, folder / "data.json")
    return folder / "data.json"


TIMES = ("seconds", "images_per_s", "loader_share")
"""Keys of metrics.jsonl that are measured times: all others are the same in a resumed run."""


def without_times(rows):
    """The rows of a metrics.jsonl without measured times."""
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def rows_of(run):
    """The rows of a run's metrics.jsonl without measured times."""
    return without_times(read_metrics(run / "metrics.jsonl"))


def weights(run, which="last"):
    """Name -> tensor of a run's checkpoint."""
    return read_weights(run / "checkpoints" / which / "model.safetensors")


def same(a, b):
    """Whether two states have the same tensors, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def changed(config, section, **values):
    """The config with other values in one section."""
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})


def kill_after(patch, steps):
    """Interrupt training right after the state of step number `steps` is saved."""
    save = trainer.Trainer.save

    def save_and_die(self):
        save(self)
        if self.step >= steps:
            raise KeyboardInterrupt

    patch.setattr(trainer.Trainer, "save", save_and_die)


def tiny_training(train, val):
    """The config of a training of four steps, which takes a second."""
    return FinetuneConfig(
        data=DataConfig(str(train), str(val), augment="photometric", workers=0),
        model=ModelConfig(
            "fasterrcnn_tiny_fpn",
            "none",
            64,
            96,
            proposals_train=50,
            proposals_test=20,
            rois_per_image=16,
            anchors="keep",
        ),
        optim=OptimConfig(epochs=2, lr=1e-3, batch_size=4),
        eval=EvalConfig(batch_size=2),
        runtime=RuntimeConfig(device="cpu", precision="fp32"),
    )
