"""torch.compile for the parts of a detector whose shapes are fixed: backbone with pyramid, and the RPN's head.

A flag that silently does nothing is worse than none: each part is one graph without breaks, made for exact shapes, and
`Compiled.check` raises when a part was not compiled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from drivetl.errors import DrivetlError
from drivetl.models.gpu import MOST_SHAPES

PARTS = ("backbone", "rpn.head")
GRAPHS_PER_PART = 64
"""More than unfreezing stage by stage needs for every shape."""
REMEDY = "leave runtime.compile false, and report it"


@dataclass
class Compiled:
    """What was compiled of a model."""

    graphs: Counter[str] = field(default_factory=Counter)
    """Part -> its number of graphs."""
    said: bool = False

    def check(self) -> str:
        """After a training step: what was compiled, in one line, and empty from the second time on. Raises DrivetlError
        when a part has no graph."""
        missing = [part for part in PARTS if not self.graphs[part]]
        if missing:
            raise DrivetlError(f"runtime.compile: {' and '.join(missing)} not compiled", remedy=REMEDY)
        line = "" if self.said else f"compiled: {', '.join(f'{part} ({self.graphs[part]} graph)' for part in PARTS)}"
        self.said = True
        return line


def compile_network(model: nn.Module, device: torch.device, backend: str = "inductor") -> tuple[Compiled | None, str]:
    """Compile the model's PARTS in place, at their first use in training; parameter names are unchanged. Returns what
    keeps count of it, and what was done in one line.

    Evaluation, and batches of more than MOST_SHAPES shapes, are not compiled: they would take longer to compile than to
    compute. Where this machine cannot compile (no C++ compiler, no Triton), the model is left unchanged, None.
    """
    try:
        torch.compile(nn.ReLU(), backend=backend)(torch.zeros(2, device=device))
    except Exception as error:  # inductor's failures share no base class: a missing compiler, header, or Triton
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return None, f"not compiled: {reason} - install a C++ compiler, or leave runtime.compile false"
    compiled = Compiled()
    for name in PARTS:
        part: Any = model.get_submodule(name)
        part._compiled_call_impl = _in_training(part, name, backend, compiled.graphs)
    return compiled, f"{' and '.join(PARTS)}: compiled at the first step, which takes a minute or more"


def _in_training(part: Any, name: str, backend: str, graphs: Counter[str]) -> Callable[..., Any]:
    """A call of the module: compiled in training, for the first MOST_SHAPES shapes."""
    from torch._dynamo import config, lookup_backend  # slow: only where it is used
    from torch._dynamo.exc import TorchDynamoException

    config.recompile_limit = max(config.recompile_limit, GRAPHS_PER_PART)

    def count(graph: Any, inputs: Any) -> Any:
        made = lookup_backend(backend)(graph, inputs)
        graphs[name] += 1
        return made

    call = torch.compile(part._call_impl, backend=count, dynamic=False, fullgraph=True)
    shapes: set[tuple[torch.Size, ...]] = set()

    def chosen(x: Tensor | list[Tensor]) -> Any:
        key = tuple(item.shape for item in x) if isinstance(x, list) else (x.shape,)
        if not part.training or (key not in shapes and len(shapes) == MOST_SHAPES):
            return part._call_impl(x)
        shapes.add(key)
        try:
            return call(x)  # type: ignore[no-untyped-call]
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise DrivetlError(f"runtime.compile: {name} cannot be compiled ({reason})", remedy=REMEDY) from error

    return chosen
