"""Laws of a training without enough memory: its answer is a command that continues, with as many images per step."""

import re
import shlex

import pytest
import torch
from training_runs import changed

from drivetl.cli import main
from drivetl.config import dump_yaml, load_config
from drivetl.errors import ConfigError, DrivetlError
from drivetl.training import loop, memory, validate
from drivetl.training.finetune import finetune
from drivetl.training.memory import is_out_of_memory, largest_that_fits, smaller_parts
from drivetl.training.rundir import read_metrics

OF_THE_CPU = (
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    " 40000000000 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError(OF_THE_CPU), True),
        (RuntimeError("[..] data. DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("DefaultCPUAllocator: can't allocate memory"), False),
        (MemoryError("Caught MemoryError in DataLoader worker process 0."), False),
    ],
)
def test_what_is_out_of_memory(error, expected):
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_law_the_parts_have_as_many_images_per_step(accumulate):
    for size in range(1, 33):
        parts = smaller_parts(size, accumulate)
        assert all(at_once * times == size * accumulate and at_once < size for at_once, times in parts)
        assert [at_once for at_once, _ in parts] == sorted({at_once for at_once, _ in parts}, reverse=True)
        assert (size == 1 and parts == []) or parts[-1] == (1, size * accumulate)
        for memory_of in range(33):
            found = largest_that_fits(parts, lambda count, room=memory_of: count <= room)
            fitting = [part for part in parts if part[0] <= memory_of]
            assert found == (fitting[0] if fitting else None)


def room_for(monkeypatch, images_at_once, error):
    """A machine on which a forward pass of the training has room for `images_at_once` images."""
    for module in (loop, memory):
        forward = module.forward_uint8

        def limited(model, images, device, targets=None, forward=forward):
            if len(images) > images_at_once:
                raise error
            return forward(model, images, device, targets)

        monkeypatch.setattr(module, "forward_uint8", limited)


def command_in(text):
    return shlex.split(re.search(r"continue with: drivetl (.*)", text)[1])


@pytest.mark.parametrize(
    "error", [RuntimeError(OF_THE_CPU), torch.OutOfMemoryError("CUDA out of memory."), MemoryError()]
)
def test_law_the_command_continues_and_so_does_a_resume_without_flags(
    small_config, tmp_path, monkeypatch, capsys, error
):
    (tmp_path / "c.yaml").write_text(dump_yaml(small_config))
    run = tmp_path / "a run"
    with monkeypatch.context() as patch:
        room_for(patch, 2, error)
        assert main(["finetune", "--config", str(tmp_path / "c.yaml"), "--out", str(run)]) == 2
        said = capsys.readouterr().err
        assert "step 0: out of memory with 4 images at once" in said and "2 at once fit, 4 per step as before" in said
        words = command_in(said)
        assert words[1:] == ["--resume", "--out", str(run), "--optim.batch_size", "2", "--optim.accumulate", "2"]
        assert main(words) == 0
        assert [row["step"] for row in read_metrics(run / "metrics.jsonl")] == [2, 4]
        stored = load_config(run / "config.yaml")
        assert (stored.optim.batch_size, stored.optim.accumulate) == (2, 2)
        assert main(["finetune", "--resume", "--out", str(run)]) == 0
    other = changed(small_config, "optim", batch_size=2)
    with pytest.raises(ConfigError, match=r"optim\.batch_size was 2|optim\.accumulate was 2, now 1"):
        finetune(other, run, resume=True)
    finetune(small_config, run, resume=True)  # back to the config that it began with


def test_law_batchnorm_is_treated_as_at_the_start(small_config, source, tmp_path, monkeypatch):
    """Sixteen images are enough for batch statistics, eight are not: a run that began with sixteen keeps training
    them."""
    config = changed(changed(small_config, "optim", batch_size=16, epochs=1), "model", start=str(source[1]))
    with monkeypatch.context() as patch, pytest.raises(DrivetlError, match="8 at once fit"):
        room_for(patch, 8, MemoryError())
        finetune(config, tmp_path / "run")
    split = changed(config, "optim", batch_size=8, accumulate=2)
    finetune(split, tmp_path / "run", resume=True)
    assert load_config(tmp_path / "run" / "config.yaml").model.norm == "train"
    finetune(split, tmp_path / "run", resume=True)


def test_what_does_not_fit_at_all_says_what_to_lower(small_config, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        room_for(patch, 0, MemoryError())
        with pytest.raises(DrivetlError, match=r"one image at once does not fit: lower model\.max_size \(96\)"):
            finetune(small_config, tmp_path / "run")


def test_an_evaluation_without_memory_names_its_own_key(small_config, source, tmp_path, monkeypatch, capsys):
    config = changed(small_config, "model", start=str(source[1]))
    (tmp_path / "c.yaml").write_text(dump_yaml(config))
    run, infer = tmp_path / "run", validate.detect
    with monkeypatch.context() as patch:

        def limited(model, images, device, precision):
            if len(images) > 1:
                raise MemoryError
            return infer(model, images, device, precision)

        patch.setattr(validate, "detect", limited)
        assert main(["finetune", "--config", str(tmp_path / "c.yaml"), "--out", str(run)]) == 2
        said = capsys.readouterr().err
        assert "step 0: out of memory in the evaluation, eval.batch_size 2" in said
        assert main(command_in(said)) == 0
    assert [row["epoch"] for row in read_metrics(run / "metrics.jsonl")] == [0, 1, 2]


def test_a_range_test_without_memory_says_what_to_lower(small_config, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        room_for(patch, 2, MemoryError())
        with pytest.raises(DrivetlError, match=r"memory in the test of optim\.lr find - lower optim\.batch_size"):
            finetune(changed(small_config, "optim", lr="find"), tmp_path / "run")


def test_other_errors_stay_what_they_are(small_config, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="shapes"):
        room_for(patch, 0, RuntimeError("shapes cannot be multiplied"))
        finetune(small_config, tmp_path / "run")
