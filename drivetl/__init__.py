"""drivetl fine-tunes object detectors for driving scenes and measures how they hold up in bad weather.

    import drivetl

    detector = drivetl.load("runs/city")
    found = detector("frame.png")  # found.boxes, found.scores, found.names, found.draw()

    data = drivetl.read_dataset("out/city/val.json")
    print(drivetl.evaluate(data, detector(data)))

The names below are imported on first use, so that `import drivetl` takes no time. `docs/python.md` explains them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "Detector",
    "DrivetlError",
    "Evaluation",
    "Prediction",
    "Robustness",
    "apply",
    "collate",
    "conditions",
    "evaluate",
    "evaluate_robustness",
    "load",
    "read_dataset",
]

if TYPE_CHECKING:
    from drivetl import conditions
    from drivetl.api.dataset import Dataset, read_dataset
    from drivetl.api.detector import Detector, load
    from drivetl.api.evaluation import Evaluation, evaluate
    from drivetl.api.images import apply
    from drivetl.api.prediction import Prediction
    from drivetl.api.robustness import Robustness, evaluate_robustness
    from drivetl.data.dataset import collate
    from drivetl.errors import DrivetlError
else:
    _MODULES = {
        "Dataset": "drivetl.api.dataset",
        "Detector": "drivetl.api.detector",
        "DrivetlError": "drivetl.errors",
        "Evaluation": "drivetl.api.evaluation",
        "Prediction": "drivetl.api.prediction",
        "Robustness": "drivetl.api.robustness",
        "apply": "drivetl.api.images",
        "collate": "drivetl.data.dataset",
        "evaluate": "drivetl.api.evaluation",
        "evaluate_robustness": "drivetl.api.robustness",
        "load": "drivetl.api.detector",
        "read_dataset": "drivetl.api.dataset",
    }
    """Public name -> the module it is in."""

    def __getattr__(name):
        """A public name, imported on first use (PEP 562)."""
        if name == "conditions":
            return importlib.import_module("drivetl.conditions")
        if name not in _MODULES:
            raise AttributeError(f"module 'drivetl' has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
        return value

    def __dir__():
        return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
