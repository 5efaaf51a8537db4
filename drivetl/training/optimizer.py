"""Parameter groups, the learning rate as a pure function of the step, and which stages train in which epoch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from drivetl.config import OptimConfig
from drivetl.console.text import counted
from drivetl.models.build import stage_parameters

FLOOR = 0.01
"""The cosine ends at this share of the peak."""
DROPS = ((2, 3), (8, 9))
"""`step`: fractions of all steps after which the rate is a tenth of what it was, as detectron2's 1x schedule has."""

SAME_RATE = (2, 8)
"""Images per optimizer step between which the recipe's rates are used as they are: those that they were measured at."""


def batch_factor(images: int, optimizer: str) -> float:
    """What the recipe's rate is multiplied with for that many images per optimizer step, over all processes.

    1 within SAME_RATE. Outside it is the ratio to the nearer end for SGD (linear scaling, Goyal et al. 2017, "Accurate,
    Large Minibatch SGD"), and the square root of that ratio for AdamW (Malladi et al. 2022, "On the SDEs and Scaling
    Rules for Adaptive Gradient Algorithms").
    """
    ratio = images / min(max(images, SAME_RATE[0]), SAME_RATE[1])
    return ratio if optimizer == "sgd" else math.sqrt(ratio)


def build_optimizer(model: nn.Module, arch: str, config: OptimConfig, *, fused: bool = False) -> Optimizer:
    """One group per (stage, decayed or not), the learning rate falling by `layer_decay` per backbone stage from the
    top.

    All parameters are included from the beginning; a frozen one has no gradient and is not updated. Unfreezing
    therefore never changes the optimizer's layout, and a resumed state fits. fused: one kernel updates all weights, for
    a model on a GPU.
    """
    stages = stage_parameters(model, arch)
    groups = []
    for number, stage in enumerate(stages):
        from_top = max(0, len(stages) - 2 - number)  # heads and neck 0, highest backbone stage 1
        scale = config.layer_decay**from_top
        for decays in (True, False):
            parameters = [parameter for _, parameter in stage if (parameter.ndim > 1) == decays]
            if parameters:
                decay = config.weight_decay if decays else 0.0
                groups.append({"params": parameters, "weight_decay": decay, "scale": scale, "lr": config.lr * scale})
    if config.name == "sgd":
        return SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0, fused=fused or None)
    return AdamW(groups, lr=config.lr, fused=fused or None)


def learning_rate(step: int, total: int, config: OptimConfig) -> float:
    """The heads' rate at optimizer step 0..total-1: a linear rise, then `config.schedule`; the cosine ends at FLOOR."""
    warm = max(1, math.ceil(config.warmup_fraction * total))
    if step < warm:
        return config.lr * (step + 1) / warm
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "step":
        return config.lr * 0.1 ** sum(step * whole >= total * part for part, whole in DROPS)
    progress = (step - warm) / max(1, total - warm)
    return config.lr * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * progress)))


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Give every group its share of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def trainable_stages(epoch: int, n_stages: int, config: OptimConfig) -> int:
    """How many of the `n_stages` backbone stages train in this epoch, counted from the top."""
    most = max(0, n_stages - config.frozen_stages)
    if epoch < config.heads_only_epochs:
        return 0
    if config.unfreeze_every == 0:
        return most
    return min(most, 1 + (epoch - config.heads_only_epochs) // config.unfreeze_every)


def trained_in_words(n_stages: int, config: OptimConfig) -> str:
    """Which of the `n_stages` backbone stages train next to neck and heads, and when; '' for all in every step."""
    most = max(0, n_stages - config.frozen_stages)
    if most == 0:
        return "neck and heads; the backbone stays as it is"
    if not config.heads_only_epochs and not config.unfreeze_every and most == n_stages:
        return ""
    alone = f"{counted(config.heads_only_epochs, 'epoch')} without the backbone, then " * bool(config.heads_only_epochs)
    upper = "the whole backbone" if most == n_stages else f"the upper {most} of {n_stages} backbone stages"
    if config.unfreeze_every:
        last, every = trainable_stages(config.epochs - 1, n_stages, config), counted(config.unfreeze_every, "epoch")
        upper = f"one more backbone stage from the top every {every}, {last} of {n_stages} in the last epoch"
    return f"neck and heads, {alone}{upper}"


def set_trainable(model: nn.Module, arch: str, backbone_stages: int) -> None:
    """Let the top `backbone_stages` of the backbone train, with neck and heads; BatchNorm below them is frozen."""
    stages = stage_parameters(model, arch)
    frozen = len(stages) - 2 - backbone_stages
    for number, stage in enumerate(stages):
        for _, parameter in stage:
            parameter.requires_grad_(number >= frozen)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(model.training and module.weight.requires_grad)


def pull_to_start(model: nn.Module, l2sp_start: dict[str, Tensor], strength: float) -> Tensor:
    """L2-SP: strength / 2 * squared distance of the trainable weights from their start, for those that have one (Li,
    Grandvalet, Davoine 2018)."""
    terms = [
        (parameter - l2sp_start[name]).square().sum()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and name in l2sp_start
    ]
    return strength / 2 * torch.stack(terms).sum() if terms else torch.zeros(())
