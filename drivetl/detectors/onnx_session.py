"""Opening ONNX files in ONNX Runtime, with errors in one line."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

from drivetl.errors import ConfigError, DataError


def open_session(path: Path, threads: int = 0) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU.

    threads: 0: as many as torch uses, which OMP_NUM_THREADS sets. Raises ConfigError when onnxruntime is missing,
    DataError for a file that it cannot load.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise ConfigError("an ONNX file needs onnxruntime", remedy="pip install 'drivetl[onnx]'", file=path)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the cores render between two images
    options.log_severity_level = 3  # errors only: it warns of every shape that differs from the traced one
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", remedy="check the path", file=path) from None
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes, which all derive from Exception
        raise _refused(error, path) from None


def run_session(session: Any, inputs: dict[str, Any], path: Path) -> dict[str, Any]:
    """The outputs by name. Raises DataError for an error of ONNX Runtime in the graph."""
    names = [item.name for item in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, inputs), strict=True))
    except Exception as error:  # onnxruntime's own classes
        raise DataError(
            f"ONNX Runtime cannot run it ({_first_line(error)})", remedy="check the file elsewhere", file=path
        ) from None


def inputs_and_outputs(session: Any) -> str:
    """Names, shapes and types of a graph's inputs and outputs, in one line."""

    def listed(items: Any) -> str:
        return ", ".join(
            f"{item.name} ({', '.join(map(str, item.shape))}) {item.type.removeprefix('tensor(').removesuffix(')')}"
            for item in items
        )

    return f"inputs: {listed(session.get_inputs())}; outputs: {listed(session.get_outputs())}"


def _refused(error: Exception, path: Path) -> DataError:
    text = _first_line(error)
    if "opset" in text.lower() or "IR version" in text:
        remedy = "export it with an older opset, or update onnxruntime"
        return DataError(f"its version is not supported by this onnxruntime ({text})", remedy=remedy, file=path)
    return DataError(f"not an ONNX file ({text})", remedy="it may be damaged: export or download it again", file=path)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
