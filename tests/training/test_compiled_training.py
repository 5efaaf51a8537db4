"""A training with runtime.compile: it says what it compiled, at fixed shapes, and goes on like any other."""

import dataclasses
from functools import partial

import torch

from drivetl.models.compiled import compile_network
from drivetl.training import finetune as module
from drivetl.training.rundir import read_metrics


def test_a_compiled_training_says_so_pads_to_fixed_shapes_and_reports_its_pace(
    small_config, tmp_path, monkeypatch, capsys
):
    # the compiler's front end alone: inductor takes a minute
    monkeypatch.setattr(module, "compile_network", partial(compile_network, backend="eager"))
    config = dataclasses.replace(small_config, runtime=dataclasses.replace(small_config.runtime, compile=True))
    shapes = []
    assemble = module.assemble

    def remember(*arguments):
        trainer = assemble(*arguments)
        batch_images = trainer.model.transform.batch_images

        def seen(images, size_divisible):
            batch = batch_images(images, size_divisible)
            if trainer.model.training:
                shapes.append(tuple(batch.shape[2:]))
            return batch

        trainer.model.transform.batch_images = seen
        return trainer

    monkeypatch.setattr(module, "assemble", remember)
    module.finetune(config, tmp_path / "run")
    said = capsys.readouterr().out
    assert "input shapes: batches are padded to 64x96 (0.0% more pixels)" in said
    assert "backbone and rpn.head: compiled at the first step" in said
    assert "compiled: backbone (1 graph), rpn.head (1 graph)" in said
    assert said.count("images/s, network") == 1, "after the first epoch"
    assert set(shapes) == {(64, 96)}
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert all(row["images_per_s"] > 0 and 0 <= row["loader_share"] <= 1 for row in rows if row["epoch"])
    assert torch.get_float32_matmul_precision() == "highest", "a CPU's settings are left alone"
