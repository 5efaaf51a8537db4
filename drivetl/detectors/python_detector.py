"""A detector that the user's own Python code makes: `path/to/file.py:factory` or `package.module:factory`.

`factory()` returns an object with `categories` and `infer(images)`; see `any_detector`, which checks what it returns.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from drivetl.coco.detections import Detections
from drivetl.detectors.any_detector import AnyDetector
from drivetl.errors import ConfigError, DrivetlError, nearest


class PythonDetector(AnyDetector):
    """A detector of the user's code; an exception in it is one line that names the user's line."""

    def infer(self, images: list[torch.Tensor]) -> list[Detections]:
        found: list[Detections] = _told(lambda: super(PythonDetector, self).infer(images), f"{self.name}.infer")
        return found


def python_detector(where: str, name: str) -> PythonDetector:
    """Import the module (a file ending in .py, or a dotted name) and call its factory of that name.

    Modules in the current folder are found too. Raises ConfigError for a module or factory that does not exist or
    raises, and for what is not a detector.
    """
    module = _told(lambda: _module(where), where)
    factory = getattr(module, name, None)
    if not callable(factory):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigError(f"no function {name!r}", remedy=nearest(name, known), file=where)
    return PythonDetector(_told(factory, f"{name}()"))


def _module(where: str) -> ModuleType:
    if not where.endswith(".py"):
        _findable(Path.cwd())
        return importlib.import_module(where)
    path = Path(where).resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _findable(path.parent)
    spec.loader.exec_module(module)
    return module


def _findable(folder: Path) -> None:
    """Modules in a folder can be imported, as Python does for those next to a script."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _told(call: Callable[[], Any], what: str) -> Any:
    """The result of the user's code. Raises ConfigError in place of its exception, with its file and line."""
    try:
        return call()
    except DrivetlError:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigError(
            f"{what} raised {type(error).__name__}: {error}",
            remedy="the line is where it was raised",
            file=frame.filename,
            line=frame.lineno,
        ) from error
