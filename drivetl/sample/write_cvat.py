"""Annotated footage in the format "CVAT for images 1.1", as boxes or as instance masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

import numpy as np

from drivetl.sample.camera import Array
from drivetl.sample.render import SampleFrame

LABELS = {
    "Car": "automobile",
    "Van": "delivery_van",
    "Truck": "lorry",
    "Tram": "streetcar",
    "Pedestrian": "person",
    "Person_sitting": "person",
    "Cyclist": "bicyclist",
}
"""Class names of town B."""

COLOURS = {
    "person": "#c06060",
    "bicyclist": "#8040c0",
    "streetcar": "#20a080",
    "automobile": "#2080c0",
    "delivery_van": "#f0a030",
    "lorry": "#706050",
    "ignore": "#909090",
    "weather": "#3060a0",
    "timeofday": "#505090",
}
TAGS = {"weather": ("clear", "rain"), "timeofday": ("day", "night")}


@dataclass(frozen=True, slots=True)
class Shapes:
    """XML of one frame's shapes and tags, as boxes and as masks: the content of its <image> element."""

    boxes: str
    masks: str


def shapes(frame: SampleFrame, drive: int) -> Shapes:
    """All shapes of a frame, far to near; `z_order` increases towards the camera."""
    boxes, masks = [], []
    for order, item in enumerate(frame.objects):
        label, occluded = LABELS[item.label], int(item.occlusion > 0)
        track = drive * 10_000 + item.track_id
        inner = _attribute("track_id", track) + _attribute("truncated", f"{item.truncation:.2f}")
        inner += _attribute("occlusion", item.occlusion)
        boxes.append(_box(label, item.box_xyxy, occluded, order, inner))
        x, y = int(item.visible_box_xyxy[0]), int(item.visible_box_xyxy[1])
        rows, columns = item.mask_crop.shape
        masks.append(
            f'    <mask label="{label}" source="manual" occluded="{occluded}" rle="{_runs(item.mask_crop)}" '
            f'left="{x}" top="{y}" width="{columns}" height="{rows}" z_order="{order}">\n{inner}    </mask>\n'
        )
    for group in frame.ignore:
        element = _box("ignore", group.box_xyxy, 0, len(frame.objects), _attribute("kind", group.kind))
        boxes.append(element)
        masks.append(element)
    tags = "".join(
        f'    <tag label="{name}" source="manual">\n{_attribute("value", frame.attributes[name])}    </tag>\n'
        for name in TAGS
    )
    return Shapes("".join(boxes) + tags, "".join(masks) + tags)


def _box(label: str, box: Sequence[float], occluded: int, order: int, inner: str) -> str:
    x1, y1, x2, y2 = (f"{value:.2f}" for value in box)
    return (
        f'    <box label="{label}" source="manual" occluded="{occluded}" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" '
        f'z_order="{order}">\n{inner}    </box>\n'
    )


def _attribute(name: str, value: object) -> str:
    return f'      <attribute name="{name}">{value}</attribute>\n'


def _runs(mask: Array) -> str:
    """Row-major run lengths, zeros first, as CVAT writes them."""
    flat = mask.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return ", ".join(str(run) for run in ([0, *runs] if flat[0] else runs))


def document(images: Sequence[tuple[str, int, int, str]], task: str) -> str:
    """The content of annotations.xml; images are (name, width, height, XML of the shapes)."""
    parts = [
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n',
        _meta(task, len(images)),
    ]
    for number, (name, width, height, inner) in enumerate(images):
        parts.append(
            f'  <image id="{number}" name={quoteattr(name)} width="{width}" height="{height}">\n{inner}  </image>\n'
        )
    return "".join(parts) + "</annotations>\n"


def _meta(task: str, size: int) -> str:
    labels = "".join(_label(name) for name in COLOURS)
    return f"""  <meta>
    <task>
      <id>1</id>
      <name>{task}</name>
      <size>{size}</size>
      <mode>annotation</mode>
      <overlap>0</overlap>
      <bugtracker></bugtracker>
      <subset>default</subset>
      <start_frame>0</start_frame>
      <stop_frame>{max(size - 1, 0)}</stop_frame>
      <frame_filter></frame_filter>
      <labels>
{labels}      </labels>
    </task>
  </meta>
"""


def _label(name: str) -> str:
    if name in TAGS:
        kind, attributes = "tag", _spec("value", "select", TAGS[name][0], TAGS[name])
    elif name == "ignore":
        kind, attributes = "any", _spec("kind", "select", "car", ("car", "truck", "tram", "person", "bicycle"))
    else:
        kind, attributes = "any", _spec("track_id", "number", "0", ("0", "100000000", "1"))
        attributes += _spec("truncated", "text", "0.00", ()) + _spec("occlusion", "select", "0", tuple("0123"))
    return f"""        <label>
          <name>{name}</name>
          <color>{COLOURS[name]}</color>
          <type>{kind}</type>
          <attributes>
{attributes}          </attributes>
        </label>
"""


def _spec(name: str, kind: str, default: str, values: Sequence[str]) -> str:
    joined = "\n".join(values)
    return f"""            <attribute>
              <name>{name}</name>
              <mutable>False</mutable>
              <input_type>{kind}</input_type>
              <default_value>{default}</default_value>
              <values>{joined}</values>
            </attribute>
"""
