"""A video through one detector or two: detections, tracks and a drawn video, a batch of frames at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson
import torch

from drivetl import console
from drivetl.coco.detections import Detections
from drivetl.coco.records import ImageRecord
from drivetl.coco.tracks import NO_TRACKS, PATIENCE_S, associate
from drivetl.draw.objects import jpeg
from drivetl.errors import DataError
from drivetl.files.images import Rgb
from drivetl.files.video import read_frames, video_suffix, video_writer
from drivetl.prediction.drawing import annotated, together
from drivetl.prediction.images import with_min_score
from drivetl.prediction.inputs import VideoInput
from drivetl.prediction.model import Model
from drivetl.prediction.results import Add, Found, images_document, result_files


@dataclass(frozen=True)
class VideoOptions:
    """How a video is run and written."""

    codec: str
    """h264 or vp8."""
    formats: tuple[str, ...]
    batch_size: int = 8
    track: bool = False
    pictures: int = 0
    """Single frames to write as JPEG, evenly spaced."""


@dataclass(frozen=True)
class VideoSummary:
    """What was read and written."""

    file: str
    n_frames: int
    seconds: float

    def cut_off(self, expected: int) -> bool:
        """Whether the video ended well before the number in its header, which is often off by one or two."""
        return expected > 0 and self.n_frames < expected - max(2, expected // 100)


def run_video(source: VideoInput, models: Sequence[Model], folder: Path, options: VideoOptions) -> VideoSummary:
    """Write the drawn video into `folder`, and each model's results and images.json into its own.

    The video has the rate of the source; two models are shown together. Frames are images `<video>/<number>.jpg` with
    ids from 1, as `convert-footage --video` names them. Memory holds `batch_size` frames, whatever the length. Raises
    DataError when the video cannot be decoded or written.
    """
    info, drive = source.info, source.path.stem
    name = f"{drive}{video_suffix(options.codec)}"
    shape = together([np.zeros((info.height, info.width, 3), np.uint8)] * len(models), [""] * len(models)).shape
    step = max(1, -(-info.n_frames // options.pictures)) if options.pictures else 0
    began = time.monotonic()
    records: list[ImageRecord] = []
    with ExitStack() as stack:
        write = stack.enter_context(video_writer(folder / name, shape[1], shape[0], info.rate_fps, options.codec))
        files = [stack.enter_context(result_files(model.folder, options.formats, model.categories)) for model in models]
        stream = _detected(models, read_frames(source.path), options.batch_size)
        annotate = _Annotator(models, files, info.rate_fps, options.track)
        for image, detections in console.track(stream, f"running {source.path.name}", info.n_frames or None, "frames"):
            number = len(records)
            record = ImageRecord(number + 1, f"{drive}/{number:06d}.jpg", info.width, info.height, drive, number)
            records.append(record)
            drawn = annotate(record, image, detections)
            write(drawn)
            if step and number % step == 0 and number // step < options.pictures:
                _write_picture(folder / "pictures" / f"{number:06d}.jpg", drawn)
    if not records:
        raise DataError("no frame could be decoded", remedy="re-encode or replace the video", file=source.path)
    for model in models:
        document = images_document(records, model.categories)
        (model.folder / "images.json").write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return VideoSummary(name, len(records), time.monotonic() - began)


class _Annotator:
    """Writes the results of a frame and draws it; keeps the tracks of each model from frame to frame."""

    def __init__(self, models: Sequence[Model], files: Sequence[Add], rate_fps: float, track: bool):
        self.models, self.files, self.rate_fps = models, files, rate_fps
        self.tracks = [NO_TRACKS] * len(models) if track else None
        self.patience = max(1, round(PATIENCE_S * rate_fps))

    def __call__(self, record: ImageRecord, image: Rgb, detections: Sequence[Detections]) -> Rgb:
        frames = []
        for number, (model, of_model) in enumerate(zip(self.models, detections, strict=True)):
            ids = self._ids(number, of_model)
            assert record.frame_index is not None
            found = Found(record, of_model, ids, time_s=record.frame_index / self.rate_fps)
            self.files[number](found)
            model.count(of_model.labels)
            frames.append(annotated(image, found, model.categories))
        return together(frames, [model.name for model in self.models])

    def _ids(self, number: int, detections: Detections) -> npt.NDArray[np.int64] | None:
        if self.tracks is None:
            return None
        self.tracks[number], ids = associate(
            self.tracks[number], detections.boxes, detections.labels, patience=self.patience
        )
        return ids


def _detected(
    models: Sequence[Model], frames: Iterable[Rgb], batch_size: int
) -> Iterator[tuple[Rgb, tuple[Detections, ...]]]:
    """Each frame in order with the detections of each model that reach its thresholds."""
    iterator = iter(frames)
    while batch := list(islice(iterator, batch_size)):
        tensors = [torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))) for image in batch]
        outputs: list[list[Detections]] = [
            [with_min_score(found, model.scores) for found in model.detector.infer(tensors)] for model in models
        ]
        yield from zip(batch, zip(*outputs, strict=True), strict=True)


def _write_picture(path: Path, image: Rgb) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(jpeg(image, quality=90))
