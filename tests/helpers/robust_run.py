"""A run directory as finetune leaves it, of a tiny detector that never learnt anything: enough for the plumbing."""

import json

import torch

from drivetl.models.build import ModelSpec, build_model
from drivetl.models.checkpoint import save_model
from drivetl.models.weights import portable_state

SPEC = ModelSpec("fasterrcnn_tiny_fpn", ("car", "pedestrian"), 96, 256, 50, 30, 64, 20, 0.05, frozen_norm=False)


def write_run(folder, manifest=None, seed=0):
    """checkpoints/best and, where a manifest is given, augmentation.json. Returns the folder."""
    torch.manual_seed(seed)
    save_model(folder / "checkpoints" / "best", portable_state(build_model(SPEC)), SPEC, {})
    if manifest is not None:
        (folder / "augmentation.json").write_text(json.dumps(manifest))
    return folder
