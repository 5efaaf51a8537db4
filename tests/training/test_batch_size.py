"""Laws of `optim.batch_size: auto`: as many images per step on every machine, and the largest batch that fits."""

import pytest
import torch
from training_runs import changed, same, weights

from drivetl.cli import main
from drivetl.config import dump_yaml, load_config
from drivetl.errors import ConfigError, DrivetlError
from drivetl.models.norm import SMALL_BATCH
from drivetl.processes import Group
from drivetl.training import finetune, memory, preflight_speed
from drivetl.training.batch_size import STEP_IMAGES, candidates, hardest_batches, leaves_room, part_that_fits
from drivetl.training.memory import largest_that_fits

CPU, GPU = torch.device("cpu"), torch.device("cuda")
PARTS = [(8, 1), (4, 2), (2, 4), (1, 8)]


def auto(config, **values):
    return changed(config, "optim", batch_size="auto", **values)


@pytest.mark.parametrize("device", [CPU, GPU])
@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_law_every_candidate_has_as_many_images_per_step(small_config, device, accumulate):
    for world in range(1, 20):
        parts = candidates(auto(small_config, accumulate=accumulate), device, world)
        (per_process,) = {at_once * times for at_once, times in parts}
        assert per_process == accumulate * max(1, STEP_IMAGES // world)
        sizes = [at_once for at_once, _ in parts]
        assert sizes == sorted(set(sizes), reverse=True) and sizes[0] < SMALL_BATCH
        assert sizes[-1] == 1 or device == CPU
    assert candidates(auto(small_config), GPU, 1) == PARTS
    assert candidates(auto(small_config), CPU, 1) == [(4, 2)] and candidates(auto(small_config), GPU, 8) == [(1, 1)]


def test_law_the_largest_that_fits_is_found_and_no_larger_one_is_tried_after_it():
    for room in range(9):
        tried = []

        def fits(count, room=room, tried=tried):
            tried.append(count)
            return count <= room

        expected = next((part for part in PARTS if part[0] <= room), None)
        assert largest_that_fits(PARTS, fits) == expected
        assert tried == [size for size, _ in PARTS if size >= (expected or (1,))[0]]


def test_law_a_tenth_of_the_memory_is_left():
    assert leaves_room(peak=80, others=10, total=100) and not leaves_room(peak=80, others=11, total=100)


def limited_to(monkeypatch, images_at_once, tried):
    """A machine with room for `images_at_once` images in one forward pass of the test."""
    forward = memory.forward_uint8

    def limited(model, images, device, targets=None):
        tried.append(len(images))
        if len(images) > images_at_once:
            raise MemoryError
        return forward(model, images, device, targets)

    monkeypatch.setattr(memory, "forward_uint8", limited)


def test_law_the_training_is_that_of_the_numbers_it_finds_and_so_is_a_resumed_one(
    small_config, tmp_path, monkeypatch, capsys
):
    """The choice is in the run's config, and leaves no trace in the weights."""
    config, tried = auto(small_config), []
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "candidates", lambda config, device, world: PARTS)
        limited_to(patch, 2, tried)
        finetune.finetune(config, tmp_path / "auto")
    assert tried == [8, 4, 2, 2, 2]  # the most crowded images, and the largest as they are and augmented
    said = capsys.readouterr().out
    assert "effective batch: 8 images per optimizer step (batch_size 2 x accumulate 4)" in said
    stored = load_config(tmp_path / "auto" / "config.yaml")
    assert (stored.optim.batch_size, stored.optim.accumulate) == (2, 4)
    finetune.finetune(changed(small_config, "optim", batch_size=2, accumulate=4), tmp_path / "written")
    assert same(weights(tmp_path / "auto"), weights(tmp_path / "written"))
    finetune.finetune(config, tmp_path / "auto", resume=True)
    with pytest.raises(ConfigError, match=r"optim\.lr was 0\.001"):
        finetune.finetune(changed(config, "optim", lr=0.01), tmp_path / "auto", resume=True)


def test_on_a_cpu_it_is_the_default_and_says_so(small_config, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(dump_yaml(auto(small_config, lr="auto")))
    assert main(["finetune", "--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "batch_size auto: 4 at once, the default on a CPU, where memory is not the limit\n" in said
    assert "effective batch: 8 images per optimizer step (batch_size 4 x accumulate 2)" in said
    stored = load_config(tmp_path / "run" / "config.yaml")
    assert (stored.optim.batch_size, stored.optim.accumulate, stored.optim.lr) == (4, 2, 0.001)
    assert main(["finetune", "--resume", "--out", str(tmp_path / "run")]) == 0


def test_what_does_not_fit_at_all_writes_nothing_and_says_what_to_lower(small_config, tmp_path, monkeypatch):
    monkeypatch.setattr(finetune, "candidates", lambda config, device, world: PARTS)
    limited_to(monkeypatch, 0, [])
    with pytest.raises(DrivetlError, match=r"batch_size auto: out of memory on cpu - .*lower model\.max_size \(96\)"):
        finetune.finetune(auto(small_config), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def trainer(small_config, tmp_path):
    """Before its first step."""
    config = changed(small_config, "optim", batch_size=8)
    prepared = finetune.prepare(config, *finetune.read_pair(config), CPU, torch.float32)
    return finetune.assemble(config, prepared, CPU, torch.float32, Group(), tmp_path / "run")


def test_law_the_batches_are_the_largest_and_the_most_crowded_images(trainer):
    crowded, largest, augmented = hardest_batches(trainer, 3)
    assert [image.shape[1:] for image, _ in largest] == [(64, 96)] * 3
    assert [len(target["boxes"]) for _, target in crowded] == [3] * 3
    assert [int(target["image_id"]) for _, target in augmented] == [int(target["image_id"]) for _, target in largest]
    assert not any(torch.equal(a[0], b[0]) for a, b in zip(augmented, largest, strict=True))
    everything = hardest_batches(trainer, 8)[1]
    assert len(everything) == 8 and everything[-1][0].shape[1:] == (51, 75)
    assert len(hardest_batches(trainer, 20)[0]) == 20  # more than there are


def test_law_all_processes_take_what_fits_on_each(trainer, monkeypatch):
    """Another process has room for one image less at every size above 2."""
    limited_to(monkeypatch, 4, [])
    trainer.group = Group(0, 2)
    asked = iter([[False, False], [True, False], [True, True]])

    def gather(group, items):
        answer = next(asked)
        assert items == answer[:1]
        return answer

    monkeypatch.setattr(Group, "gather", gather)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    assert part_that_fits(trainer, PARTS) == (2, 4)
    assert same(trainer.model.state_dict(), before)
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


def test_info_tries_what_auto_would_choose(small_config, tmp_path, monkeypatch, capsys):
    measure = preflight_speed.measure

    def limited(planned, device, precision, seconds):
        if planned.config.optim.batch_size > 2:
            raise MemoryError
        return measure(planned, device, precision, seconds)

    (tmp_path / "c.yaml").write_text(dump_yaml(auto(small_config)))

    def checks_in(text):
        return [line.split()[1] for line in text.splitlines() if line.startswith(("ok ", "note ", "warning "))]

    words = ["info", "--config", str(tmp_path / "c.yaml"), "--timed", "2"]
    assert main(words) == 0 and "batch_size" not in checks_in(capsys.readouterr().out)
    monkeypatch.setattr("drivetl.training.preflight.candidates", lambda config, device, world: PARTS)
    monkeypatch.setattr(preflight_speed, "measure", limited)
    assert main(words) == 0
    assert "batch_size    auto: 2 at once, 4 times per step on cpu" in capsys.readouterr().out
    monkeypatch.setattr(preflight_speed, "measure", lambda *_: (_ for _ in ()).throw(MemoryError))
    assert main(words) == 2
    assert "lower model.max_size" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "find", "2.5"])
def test_other_words_are_refused(small_config, tmp_path, capsys, text):
    (tmp_path / "c.yaml").write_text(dump_yaml(small_config))
    assert main(["finetune", "--config", str(tmp_path / "c.yaml"), "--optim.batch_size", text]) == 2
    assert "optim.batch_size is" in capsys.readouterr().err
