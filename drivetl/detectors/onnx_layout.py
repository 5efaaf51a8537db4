"""What an ONNX file of somebody else takes and gives, as a small YAML file says it:

decoder: yolox          # boxes, ultralytics, detr or yolox: the layout of the outputs
classes: coco80         # names in the order of the outputs; coco80, coco91, or a text file with one a line
size: [416, 416]        # height, width of the input; not needed where the graph has one size
resize: letterbox       # or stretch
place: top_left         # of a letterbox, or centre
colour: BGR
white: 255              # what 255 becomes: 255, or 1
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as typed_dataclass
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from drivetl.detectors.classes import NOT_CLASSES
from drivetl.errors import DataError
from drivetl.files.read import read_text
from drivetl.files.typed import typed
from drivetl.files.yaml_reader import read_yaml

Three = Annotated[list[float], Field(min_length=3, max_length=3)]
Side = Annotated[int, Field(ge=16, le=8192)]
MOST_CLASSES = 10_000


@typed_dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True))
class Layout:
    """Input and outputs of a graph with one image input; the keys of the YAML file."""

    decoder: Literal["boxes", "ultralytics", "detr", "yolox"]
    """The layout of the outputs, see `decoders`."""
    classes: list[str] | str = ""
    """Names in the order of the outputs; coco80, coco91 or a text file. `N/A` and `__background__` are no classes."""
    size: Annotated[list[Side], Field(min_length=2, max_length=2)] | None = None
    """Height and width of the input, px."""
    resize: Literal["letterbox", "stretch"] = "letterbox"
    """letterbox keeps the aspect ratio and pads; stretch does not."""
    place: Literal["centre", "top_left"] = "centre"
    """Where a letterbox has the image."""
    pad: Annotated[int, Field(ge=0, le=255)] = 114
    """Grey value of the padding."""
    colour: Literal["RGB", "BGR"] = "RGB"
    """Order of the channels."""
    axes: Literal["NCHW", "NHWC"] = "NCHW"
    """Order of the input's axes."""
    white: Literal[1, 255] = 1
    """What the pixel value 255 becomes, before mean and std."""
    mean: Three = Field(default_factory=lambda: [0.0, 0.0, 0.0])
    """Subtracted, per channel in the order of `colour`."""
    std: Three = Field(default_factory=lambda: [1.0, 1.0, 1.0])
    """Divided by, per channel in the order of `colour`."""
    outputs: dict[str, str] = Field(default_factory=dict)
    """boxes, scores, labels, logits -> name of the output; needed where the names do not say it."""
    box_format: Literal["xyxy", "xywh", "cxcywh"] = "xyxy"
    """Of the decoder boxes."""
    box_unit: Literal["px", "fraction"] = "px"
    """Of the decoder boxes: px of the input, or fractions of its width and height."""
    activation: Literal["none", "sigmoid", "softmax"] = "none"
    """What turns the outputs into scores; after softmax the last one is no object."""
    score_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.001
    """Detections below it are dropped."""
    nms_iou: Annotated[float, Field(gt=0, le=1)] | None = None
    """IoU of the NMS per class. Default: 0.65 for ultralytics and yolox, no NMS for boxes and detr."""
    max_detections: Annotated[int, Field(ge=1, le=10_000)] = 300
    """The best that are kept of an image."""


def read_layout(path: Path) -> Layout:
    """The layout file of a graph. Raises DataError with file, line and key."""
    document = read_yaml(path)
    try:
        layout = typed(Layout, document, DataError)
    except DataError as error:
        raise error.at(path) from None
    problems = {
        ("std",): 0 in layout.std and "std contains 0",
        ("box_format",): layout.box_format != "xyxy" and layout.decoder != "boxes" and "box_format is for boxes only",
        ("box_unit",): layout.box_unit != "px" and layout.decoder != "boxes" and "box_unit is for boxes only",
        ("place",): layout.place == "top_left" and layout.resize == "stretch" and "place is for letterbox only",
    }
    for key, problem in problems.items():
        if problem:
            raise DataError(problem, remedy="fix or remove the line", file=path, line=document.line(key))
    return layout


def output_names(layout: Layout, path: Path, metadata: dict[str, str]) -> tuple[str, ...]:
    """The names of the class outputs, from the layout, or from the metadata `names` of an Ultralytics export.

    path: of the layout file, next to which a text file is found. Raises DataError.
    """
    classes = layout.classes or _names_of_metadata(metadata)
    if isinstance(classes, str):
        coco = tuple(FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"])
        known = {"coco91": coco, "coco80": tuple(name for name in coco if name not in NOT_CLASSES)}
        classes = list(known.get(classes, ())) or _names_of_file(path.parent / classes, path)
    names = [name.strip() for name in classes]
    real = [name for name in names if name not in NOT_CLASSES]
    if not real or "" in names or len(set(real)) < len(real) or len(names) > MOST_CLASSES:
        raise DataError(
            f"classes: {len(names)} names, empty or not unique" if names else "nothing names the classes",
            remedy="write classes: coco80, a list of names (N/A: no class) or a text file with one a line",
            file=path,
        )
    return tuple(names)


def _names_of_file(file: Path, path: Path) -> list[str]:
    if not file.is_file():
        raise DataError(
            f"classes: no such file {file.name!r}", remedy="write coco80, coco91, a list or a text file", file=path
        )
    return read_text(file).strip().splitlines()


def _names_of_metadata(metadata: dict[str, str]) -> list[str]:
    """`{0: 'person', 1: 'bicycle'}` as an Ultralytics export has it; empty without it."""
    try:
        names = ast.literal_eval(metadata["names"])
        return [str(names[number]) for number in range(len(names))]
    except (KeyError, ValueError, SyntaxError, TypeError, IndexError, MemoryError, RecursionError):
        return []
