"""`import drivetl` offers every public name and imports nothing heavy until one is used."""

import subprocess
import sys

import pytest

import drivetl

HEAVY = ("torch", "torchvision", "cv2", "numpy", "matplotlib", "rich", "albumentations")


def loaded_by(code):
    """Which of HEAVY a new Python has imported after some code."""
    report = f"{code}\nimport sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_is_light():
    assert loaded_by("import drivetl; dir(drivetl); drivetl.__version__") == []


def test_reading_evaluating_and_conditions_need_no_torch():
    code = "import drivetl; drivetl.read_dataset, drivetl.evaluate, drivetl.apply, drivetl.conditions.CATALOG"
    assert not {"torch", "torchvision"} & set(loaded_by(code))


def test_every_name_exists_is_listed_and_documented():
    assert sorted(drivetl.__all__) == drivetl.__all__ and set(drivetl.__all__) <= set(dir(drivetl))
    for name in drivetl.__all__:
        assert getattr(drivetl, name).__doc__, name


def test_the_stable_names_of_the_command_contract_are_there():
    assert {"load", "evaluate", "evaluate_robustness", "read_dataset", "apply"} <= set(drivetl.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        drivetl.lode  # noqa: B018
