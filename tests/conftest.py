"""Fixtures that several rooms share: a tiny dataset, its training, and a run that found something."""

import signal
from dataclasses import replace

import pytest
from hypothesis import settings

# A law is right or wrong, however busy the machine is: an example may take longer than hypothesis' 200 ms.
settings.register_profile("drivetl", deadline=None)
settings.load_profile("drivetl")
pytest.register_assert_rewrite("format_laws")

# A shell starts a background command with SIGINT ignored, which tests of Ctrl-C would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Tests marked `gpu` are skipped where there is none; torch is imported only where one is collected."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA GPU"))


@pytest.fixture
def tree(tmp_path):
    """(train json, val json) with different drives."""
    from training_runs import write_tree

    return write_tree(tmp_path / "train"), write_tree(tmp_path / "val", n_images=4, first_drive=10, seed=1)


@pytest.fixture
def small_config(tree):
    """A training of four steps that takes a second."""
    from training_runs import tiny_training

    return tiny_training(*tree)


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """(config, run) of a detector that found something, made once: not to be changed."""
    from training_runs import tiny_training, write_tree

    from drivetl.config import EvalConfig
    from drivetl.training.finetune import finetune

    root = tmp_path_factory.mktemp("source")
    train = write_tree(root / "train")
    val = write_tree(root / "val", n_images=4, first_drive=10, seed=1)
    config = tiny_training(train, val)
    config = replace(config, optim=replace(config.optim, epochs=20, lr=2e-3), eval=EvalConfig(20, 2))
    finetune(config, root / "run")
    return config, root / "run"
