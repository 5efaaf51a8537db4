"""Fine-tuning from a config: prepare, train, keep the best checkpoint, report whether it helped."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from drivetl import console
from drivetl.coco.drives import Drives
from drivetl.coco.hashes import images_hash
from drivetl.coco.io import read_dataset
from drivetl.coco.records import Dataset
from drivetl.config import (
    FIND,
    FinetuneConfig,
    check_footage,
    check_packages,
    dump_yaml,
    finds_rate,
    is_auto,
    load_config,
    recipe_keys,
    speed_keys,
    values_of,
    with_values,
)
from drivetl.console.text import counted
from drivetl.data.dataset import DetectionDataset, decoded_gb, loader_options, loader_processes
from drivetl.data.sampling import EpochBatches, Parts, Streams
from drivetl.errors import ConfigError
from drivetl.files.runs import STATE, check_out, resumes
from drivetl.files.write import free_path, is_taken, remove_leftovers, write_atomically
from drivetl.models.build import architecture
from drivetl.models.compiled import compile_network
from drivetl.models.gpu import choose_fused
from drivetl.models.norm import choose_norm
from drivetl.models.precision import choose_precision
from drivetl.models.runtime import choose_device, keep_memory
from drivetl.processes import Group, process_group
from drivetl.training.batch_size import candidates, in_words, part_that_fits, with_part
from drivetl.training.board import open_boards
from drivetl.training.ema import Average, SourceBlend
from drivetl.training.first_batch import first_batch
from drivetl.training.footage import Footage, read_unlabelled
from drivetl.training.footage_gain import (
    COMPARES,
    commands_without,
    is_compared,
    run_without,
    values_without,
    write_gain,
)
from drivetl.training.forgetting import OldDomain, measure, old_domain, show
from drivetl.training.memory import Part, is_out_of_memory, memory_of_the_test, out_of_memory
from drivetl.training.model_card import model_card, outcome
from drivetl.training.optimizer import build_optimizer
from drivetl.training.pair import read_pair
from drivetl.training.preflight import check_training, show_notable, stop_at_errors
from drivetl.training.preflight_checks import check_loader
from drivetl.training.preflight_plan import planned_as
from drivetl.training.prepare import Prepared, effective_batch, prepare
from drivetl.training.rate_finder import LOWEST, find_rate
from drivetl.training.replay import Replay, read_replay
from drivetl.training.rundir import (
    IMAGES,
    MetricsLog,
    changed_images,
    check_inputs,
    create_run,
    provenance,
    read_provenance,
    write_json,
)
from drivetl.training.separate import check_separate
from drivetl.training.trainer import CURVES, Trainer
from drivetl.training.unlabelled import label, read_pseudo, write_pseudo
from drivetl.training.unlabelled_effect import EFFECT, effect
from drivetl.training.unlabelled_effect import show as show_effect
from drivetl.training.validate import validation_loader
from drivetl.workers import dead_workers_as_errors

SPLIT = ("optim.batch_size", "optim.accumulate")
"""A resumed run may have other values with the same product, for a machine with less memory."""
NORM = "model.norm"
NEXT_TO_NOTHING = 0.01
"""AP50 below which a detector has not begun to work: its robustness is not worth measuring."""


@dataclass
class Outcome:
    """The results of a finished training."""

    run: Path
    rows: list[dict[str, Any]]
    """metrics.jsonl: one row per evaluation, row 0 the source before the first step where its classes map."""
    best: dict[str, Any]
    comparison: dict[str, Any]
    """outcome.json: best against row 0, with interval and verdict; empty on processes that do not lead."""
    gain: dict[str, Any] = field(default_factory=dict)
    """unlabelled_gain.json, where the same training without the footage was run; as `comparison` else."""


def finetune(
    config: FinetuneConfig,
    out: Path,
    *,
    resume: bool = False,
    source_data: Path | None = None,
    accept_changed_images: bool = False,
    compare_without: bool = False,
) -> Outcome:
    """Fine-tune as the config says into the run directory `out`.

    source_data: a COCO json of the source's own domain, on which forgetting is then measured. A resumed run uses the
    one it began with. accept_changed_images: resume although image files differ from those the run began with, and
    record it in provenance.json. compare_without: afterwards train the same without the footage into `out` with
    `_without` at its end, or resume that run, and compare both on data.val; a resumed run does what it began with.
    Raises ConfigError when `out` exists (unless resuming), DataError / CheckpointError for unusable input,
    NotFiniteLossError when a loss is not finite once more after `optim.rollbacks` returns to a saved state.
    """
    if not compare_without and not (resume and is_compared(out)):
        return _finetune(config, out, resume, source_data, accept_changed_images)
    check_footage(config)
    with process_group() as group:
        outcome = _finetune(config, out, resume, source_data, accept_changed_images, compare_without=True)
        effective, other = load_config(out / "config.yaml"), run_without(out)
        without = with_values(effective, values_without(effective))
        recorded = read_provenance(out).get("source_data")
        if group.leads:
            console.say(f"now the same training without the footage: {other}")
        source_data = source_data or (Path(recorded) if recorded else None)
        _finetune(without, other, resumes(other), source_data, accept_changed_images)
        if group.leads:
            outcome.gain = write_gain(out, read_dataset(Path(config.data.val)), effective)
        group.barrier()
        return outcome


def _finetune(
    config: FinetuneConfig,
    out: Path,
    resume: bool,
    source_data: Path | None,
    accept_changed_images: bool,
    compare_without: bool = False,
) -> Outcome:
    """One training of `finetune`. compare_without: the one without the footage will follow."""
    config.check()
    check_packages(config)
    if console.is_leader():  # which others may see to have begun
        check_out(out, resume)
    if compare_without:
        _check_without(config, out)
    if resume:
        for folder in ("", "checkpoints/last", "checkpoints/best", "eval"):
            remove_leftovers(out / folder)
        config = _resumed_config(config, out)
        recorded = read_provenance(out)
        check_inputs(recorded, config)
        if compare_without and console.is_leader():
            recorded |= COMPARES
            write_json(out / "provenance.json", recorded)
        if source_data is None and recorded.get("source_data"):
            source_data = Path(recorded["source_data"])
    with process_group() as group, dead_workers_as_errors("--data.workers"):
        torch.manual_seed(config.seed + group.rank)
        device = choose_device(group.device(config.runtime.device))
        if device.type == "cpu":
            keep_memory()
        precision, reason = choose_precision(config.runtime.precision, device)
        train, val = read_pair(config)
        replay = read_replay(config, train, val)
        footage = read_unlabelled(config, train, val)
        images = _images_hashes(train, val, replay, footage) if group.leads or resume else {}
        if resume:
            updated = changed_images(recorded, images, accept_changed_images)
            if updated is not None and group.leads:
                console.warn("image files have changed since this run began: the result is not that of either set")
                write_json(out / "provenance.json", updated)
        n_unlabelled = len(footage.dataset.images) if footage is not None else 0
        parts = candidates(config, device, group.world) if is_auto(config.optim.batch_size) else []
        if parts:
            config = with_part(config, parts[0])
        prepared = prepare(config, train, val, device, precision, group.world, replay, n_unlabelled)
        if len(parts) > 1:
            _choose_part(prepared, parts, device, precision, group, out)
        config = prepared.config
        prepared.notes += [in_words(config, parts, device)] * bool(parts) + effective_batch(config, group.world)
        old = old_domain(source_data, prepared) if source_data is not None else None
        if replay is not None and old is not None:
            check_separate("data.source", replay.dataset, "--source-data", old.dataset, replay.path)
        if footage is not None and old is not None:
            check_separate(footage.name, footage.dataset, "--source-data", old.dataset, footage.path)
        compiled = None
        if config.runtime.compile:
            compiled, note = compile_network(prepared.model, device)
            prepared.notes.append(note)
        prepared.notes.append(f"{str(precision).removeprefix('torch.')} on {device}: {reason}")
        if group.leads:
            console.say(*prepared.notes)
        if footage is not None:
            _add_pseudo(prepared, footage, out if resume else None, device, group)
        workers = loader_processes(config.data.workers, device)
        planned = planned_as(prepared, group.world)
        if resume:
            findings = [check_loader(planned.images, config, workers)]
        else:
            findings = check_training(planned, device, workers, out, runs=2 if compare_without else 1)
        if group.leads:
            show_notable(findings)
        stop_at_errors(findings)
        if group.leads and not resume:
            facts = provenance(config, device, f"{precision}: {reason}", source_data)
            _begin_run(out, prepared, facts | (COMPARES if compare_without else {}) | images)
        group.barrier()
        if finds_rate(config):
            config = _with_found_rate(config, prepared, device, precision, group, out)
        trainer = assemble(config, prepared, device, precision, group, out)
        trainer.compiled = compiled
        if resume:
            trainer.resume()
            if group.leads:
                _keep_split(out, config)
        with open_boards(config, out, trainer.step, group.leads) as trainer.boards:
            if not resume:
                trainer.save()  # from here on a kill loses only the time since the last saved state
            if group.leads and trainer.step == 0 and not (out / "batch.jpg").exists():
                _draw_first_batch(trainer)
            _train(trainer, prepared.source_maps)
            assert trainer.best is not None or not group.leads
            comparison = _finish(trainer, prepared, old, compare_without) if group.leads else {}
            if comparison:
                trainer.boards.outcome(comparison, trainer.step)
        return Outcome(out, trainer.log.rows, trainer.best or {}, comparison)


def _begin_run(out: Path, prepared: Prepared, facts: dict[str, Any]) -> None:
    """Make the run directory, with all that was decided. facts: what provenance.json says, but for pseudo-labels."""
    create_run(out, prepared.config, prepared.taxonomy)
    write_json(out / "anchors.json", prepared.anchors)
    write_json(out / "surgery.json", prepared.surgery)
    write_json(out / "augmentation.json", prepared.manifest)
    labels = write_pseudo(prepared.pseudo, out, prepared.config) if prepared.pseudo is not None else {}
    write_json(out / "provenance.json", facts | labels)


def _check_without(config: FinetuneConfig, run: Path) -> None:
    """Raises ConfigError where the run without the footage has begun as another training."""
    other = run_without(run)
    if not is_taken(other) or ((other / "config.yaml").is_file() and not (other / STATE).is_file()):
        return
    try:
        check_out(other, resume=True)
        _resumed_config(with_values(config, values_without(config)), other)
    except ConfigError as error:
        reason = f"is not the same training as {run} without the footage: {error.reason}"
        raise ConfigError(reason, remedy="remove or rename it, or choose another --out", file=other) from None


def _choose_part(
    prepared: Prepared, parts: list[Part], device: torch.device, precision: torch.dtype, group: Group, out: Path
) -> None:
    """Set the part that fits. It is tried without frames of data.unlabelled, which are not labelled yet."""
    any_rate = with_values(prepared.config, {"optim.lr": LOWEST})
    part = part_that_fits(assemble(any_rate, prepared, device, precision, group, out), parts)
    prepared.config = with_part(prepared.config, part)


def _with_found_rate(
    config: FinetuneConfig, prepared: Prepared, device: torch.device, precision: torch.dtype, group: Group, out: Path
) -> FinetuneConfig:
    """The config with the rate of a range test, which is also in the run's config.yaml: a resumed run has it."""
    any_rate = with_values(config, {"optim.lr": LOWEST})
    with memory_of_the_test():
        rate = find_rate(assemble(any_rate, prepared, device, precision, group, out))
    found = with_values(config, {"optim.lr": rate})
    if group.leads:
        console.say(f"optim.lr find: {found.optim.lr:g}, where the loss falls most steeply ({out / 'lr_find.png'})")
        write_atomically(out / "config.yaml", dump_yaml(found))
    return found


def _train(trainer: Trainer, evaluate_start: bool) -> None:
    """All epochs. Raises DrivetlError with the command that continues when the memory is too small."""
    try:
        trainer.train(evaluate_start)
        return
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    raise out_of_memory(trainer, reason)  # outside of the block: the exception holds the memory of the step


def begin_or_continue(config: FinetuneConfig, run: Path) -> Outcome:
    """`finetune` for callers that make many runs: a killed run is resumed, or restarted if it has no saved state."""
    return finetune(config, run, resume=resumes(run))


def _resumed_config(config: FinetuneConfig, out: Path) -> FinetuneConfig:
    """The config of a resumed run: `auto` values are those chosen at the start, all others must be the same.

    A step may be split differently into forward passes: as many images make it, and BatchNorm is treated as before.
    """
    stored, now = values_of(load_config(out / "config.yaml")), values_of(config)
    chosen = {key for key in (*recipe_keys(), NORM) if is_auto(now[key]) or now[key] == FIND}
    if is_auto(now[SPLIT[0]]):
        now |= {key: stored[key] for key in SPLIT}
        chosen |= set(SPLIT)
    may_change = speed_keys() | (set(SPLIT) if _images_per_step(stored) == _images_per_step(now) else set())
    for key, value in now.items():
        if stored[key] != value and key not in chosen and key not in may_change:
            raise ConfigError(
                f"{key} was {stored[key]!r}, now {value!r}",
                remedy="resume with the same value, or start another --out",
                file=out,
            )
    values = {key: stored[key] for key in sorted(chosen)}
    if is_auto(stored[NORM]) and stored[SPLIT[0]] != now[SPLIT[0]]:
        frozen, _ = choose_norm(stored[NORM], stored["model.start"], stored[SPLIT[0]])
        values[NORM] = "frozen" if frozen else "train"
    return with_values(config, values)


def _images_per_step(values: dict[str, Any]) -> int:
    """Images per optimizer step and process."""
    return int(values[SPLIT[0]] * values[SPLIT[1]])


def _keep_split(out: Path, config: FinetuneConfig) -> None:
    """Write how a step is now split to the config of a resumed run, so that the next resume does the same."""
    stored, now = load_config(out / "config.yaml"), values_of(config)
    if any(values_of(stored)[key] != now[key] for key in SPLIT):
        write_atomically(out / "config.yaml", dump_yaml(with_values(stored, {key: now[key] for key in (*SPLIT, NORM)})))


def _images_hashes(train: Dataset, val: Dataset, replay: Replay | None, footage: Footage | None) -> dict[str, str]:
    """Key in provenance.json -> hash of the images of every dataset of a training."""
    extras = [None if extra is None else extra.dataset for extra in (replay, footage)]
    datasets = dict(zip(IMAGES, [train, val, *extras], strict=True))
    return {key: images_hash(dataset) for key, dataset in datasets.items() if dataset is not None}


def _add_pseudo(prepared: Prepared, footage: Footage, resumed: Path | None, device: torch.device, group: Group) -> None:
    """Label the frames of data.unlabelled and say what was found; a resumed run keeps its labels."""
    if resumed is not None:
        prepared.pseudo = read_pseudo(resumed, prepared.config)
        return
    with torch.random.fork_rng(devices=[]):  # the teacher is built: the training is that of the same labels in a file
        prepared.pseudo = label(footage, prepared.config, prepared.spec, prepared.train, device, group)
    if group.leads:
        console.say(f"{footage.name}: {prepared.pseudo.in_words()}")


def assemble(
    config: FinetuneConfig, prepared: Prepared, device: torch.device, precision: torch.dtype, group: Group, out: Path
) -> Trainer:
    """The trainer with model, optimizer, loaders and log, before the first step."""
    model = prepared.model.to(device).train()
    if prepared.channels_last:
        model = model.to(memory_format=torch.channels_last)
    replay, pseudo, optim = prepared.replay, prepared.pseudo, config.optim
    streams = [(0, prepared.train, (1.0, 1.0))]
    streams += [(1, replay.dataset, (1.0, 1.0))] if replay is not None else []
    streams += [(2, pseudo.dataset, pseudo.loss_weights)] if pseudo is not None else []
    images = [image for _, dataset, _ in streams for image in dataset.images]
    workers = loader_processes(config.data.workers, device)
    fits = not workers and decoded_gb(images) <= config.data.cache_gb
    data = Streams(
        [
            DetectionDataset(
                dataset,
                with_masks=architecture(config.model.arch).masks,
                augment=prepared.augment,
                seed=config.seed,
                cache_gb=config.data.cache_gb if fits else 0.0,
                stream=stream,
                loss_weights=weights,
                skip_bad=config.data.on_bad_image == "skip",
            )
            for stream, dataset, weights in streams
        ]
    )
    batches = EpochBatches(
        len(prepared.train.images),
        optim.batch_size * optim.accumulate,
        config.seed,
        factors=prepared.factors,
        extras=[extra.extra for extra in (replay, pseudo) if extra is not None],
        rank=group.rank,
        world=group.world,
    )
    # a separate generator: making an iterator must not advance the global random state that resume restores
    generator = torch.Generator().manual_seed(config.seed)
    parts = Parts(batches, optim.accumulate)
    options = loader_options(workers, device) | {"pin_memory": False}  # `on_device` pins a batch as one block
    loader = DataLoader(data, batch_sampler=parts, generator=generator, **options)
    cache_gb = 0.0 if workers else config.data.cache_gb
    val_loader = validation_loader(prepared.val, config.eval.batch_size, workers, device, group, cache_gb)
    start = {name: value.detach().clone() for name, value in model.named_parameters() if name in prepared.inherited}
    return Trainer(
        config=config,
        spec=prepared.spec,
        relation=prepared.relation,
        model=model,
        optimizer=build_optimizer(model, config.model.arch, optim, fused=choose_fused(device)[0]),
        average=Average(model, optim.ema) if optim.ema else None,
        l2sp_start=start if optim.l2sp else None,
        blend=SourceBlend.of(start, optim.source_share, prepared.objects) if optim.source_share and start else None,
        device=device,
        precision=precision,
        group=group,
        run=out,
        log=MetricsLog(out / "metrics.jsonl"),
        batches=batches,
        loader=loader,
        val_loader=val_loader,
        val=prepared.val,
    )


def _draw_first_batch(trainer: Trainer) -> None:
    """Write batch.jpg and say so."""
    data, path = trainer.loader.dataset, trainer.run / "batch.jpg"
    assert isinstance(data, Streams)
    image = first_batch(data, trainer.batches, trainer.spec.categories)
    write_atomically(path, image)
    trainer.boards.image("first batch", image)
    same = trainer.config.data.augment == "none" and trainer.config.data.scale_jitter == (1.0, 1.0)
    console.say(f"{path}: the first batch{'' if same else ', augmented,'} with its labels")


def _finish(trainer: Trainer, prepared: Prepared, old: OldDomain | None, compares: bool) -> dict[str, Any]:
    """Write outcome.json, forgetting.json and the model card; print the closing tables and the next command. compares:
    the same training without the footage follows."""
    rows, best, config, run, val = trainer.log.rows, trainer.best, trainer.config, trainer.run, trainer.val
    assert best is not None
    comparison = outcome(run, rows, best, val, config.eval.metric)
    write_json(run / "outcome.json", comparison)
    forgotten = None
    if old is not None:
        forgotten = measure(old, prepared, run, config.eval.batch_size, trainer.device)
        write_json(run / "forgetting.json", forgotten)
    if prepared.pseudo is not None:
        seen = effect(prepared.pseudo, run, config, trainer.device)
        write_json(run / EFFECT, seen)
    facts = {
        "start": prepared.start,
        "categories": trainer.spec.categories,
        "train_images": len(prepared.train.images),
        "train_drives": Drives.of(prepared.train.images).in_words(),
        "replay": prepared.replay,
        "pseudo": prepared.pseudo,
        "augmentation": prepared.manifest.get("preset", "none"),
        "outcome": comparison,
        "forgetting": forgotten,
        "remarks": trainer.remarks(),
        "path": run,
    }
    write_atomically(run / "README.md", model_card(run.name, config, facts))
    columns = ["", "step", "AP", "AP50", "AP75", "loss"]
    console.table(
        f"{run.name}: {config.model.arch}, {len(val.images)} validation images", columns, map(_metrics_row, rows)
    )
    if forgotten is not None:
        show(forgotten)
    for remark in trainer.remarks():
        console.warn(remark)
    if prepared.pseudo is not None:
        show_effect(seen, bool(comparison["verdict"]), compares)
    if comparison["verdict"]:
        console.say(comparison["verdict"])
    more = commands_without(config, run) if prepared.pseudo is not None and not compares else ()
    console.wrote(run, _next_command(trainer), *more)
    return comparison


def _next_command(trainer: Trainer) -> str:
    """The command after a training: its robustness, or, where it detects next to nothing, a look at that; says so."""
    run, val = trainer.run, trainer.config.data.val
    highest = max((row["AP50"] for row in trainer.log.rows if row["AP50"] is not None), default=math.inf)
    if highest >= NEXT_TO_NOTHING:
        return console.command("eval-robustness", "--run", run, "--data", val)
    console.say(
        f"AP50 {highest:.3f} is next to nothing: look for wrong boxes in {run / 'batch.jpg'}, for a falling loss in"
        f" {run / CURVES}, and at its detections; {counted(trainer.step, 'step')} may be too few"
    )
    return console.command(
        "predict", val, "--run", run, "--score", "0.05", "--out", free_path(run.with_name(f"{run.name}_seen"))
    )


def _metrics_row(row: dict[str, Any]) -> list[str]:
    def number(key: str) -> str:
        return f"{row[key]:.3f}" if row.get(key) is not None else "-"

    name = "source" if row["epoch"] == 0 else f"epoch {row['epoch']}"
    return [name, str(row["step"]), number("AP"), number("AP50"), number("AP75"), number("train_loss")]
