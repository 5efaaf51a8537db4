"""COCO metrics of any detector's results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl.api.tables import html_table, text_table
from drivetl.coco import records
from drivetl.coco.detections import Detections
from drivetl.coco.io import load_json
from drivetl.console import warn
from drivetl.errors import ConfigError, DataError, nearest
from drivetl.metrics import coco_ap
from drivetl.metrics.match_store import MatchStore, match
from drivetl.metrics.measures import METRICS
from drivetl.metrics.results import Results, concatenate, count_repeated, from_records, of_image, read_coco_results
from drivetl.metrics.statistics import Interval, allows_intervals, drive_bootstrap
from drivetl.metrics.truth import GroundTruth, from_coco, from_dataset
from drivetl.metrics.zero_ap import explain_zero

if TYPE_CHECKING:
    from drivetl.api.prediction import Prediction

COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")


@dataclass(eq=False, repr=False)
class Evaluation:
    """COCO's numbers of a detector on a dataset, 0..1; NaN where nothing could be measured."""

    metrics: coco_ap.CocoMetrics
    store: MatchStore
    """The matched detections, from which every other metric can be computed."""
    warnings: list[str]
    """What is odd about the results, as printed."""

    @property
    def ap(self) -> float:
        """Mean AP over classes and the IoU thresholds 0.5 to 0.95."""
        return self.named()["AP"]

    @property
    def ap50(self) -> float:
        """Mean AP over classes at IoU 0.5."""
        return self.named()["AP50"]

    @property
    def per_class(self) -> dict[str, dict[str, float]]:
        """Class name -> AP, AP50, AP75, APs, APm, APl, AR100, n_gt (number of objects)."""
        return self.metrics.per_class

    @property
    def n_images(self) -> int:
        return self.store.n_images

    @property
    def n_objects(self) -> int:
        """Ignore regions left out."""
        return int(self.store.truth.counts().sum())

    def named(self) -> dict[str, float]:
        """COCO's twelve numbers by name."""
        return self.metrics.named()

    def interval(self, metric: str = "AP", draws: int = 1000, seed: int = 0) -> Interval:
        """The 95 % interval of AP or AP50, by a bootstrap over drives; NaN ends where images or drives are too few."""
        if metric not in METRICS:
            raise ConfigError(f"no interval of {metric!r}", remedy=nearest(metric, METRICS))
        if draws < 2:
            raise ConfigError(f"draws is {draws}", remedy="use 1000")
        if not allows_intervals(self.store.truth.drives):
            return Interval(self.named()[metric], *[float("nan")] * 3)
        return drive_bootstrap(partial(coco_ap.ap, self.store, METRICS[metric]), self.store.units(), draws, seed)

    def __repr__(self) -> str:
        named = self.named()
        return f"Evaluation(AP {number(named['AP'])}, AP50 {number(named['AP50'])}; {self._extent()})"

    def __str__(self) -> str:
        rows = [(name, number(value)) for name, value in self.named().items()]
        title = f"COCO {self.store.iou_type}: {self._extent()}"
        return "\n".join([title, text_table(("metric", "value"), rows), "", text_table(*self._class_table())])

    def _repr_html_(self) -> str:
        """What a notebook shows: the twelve numbers and a row per class."""
        named = {name: number(value) for name, value in self.named().items()}
        title = f"COCO {self.store.iou_type}: {self._extent()}"
        numbers = html_table(title, tuple(named), [tuple(named.values())])
        return str(numbers + html_table("per class", *self._class_table()))

    def _extent(self) -> str:
        return f"{self.n_images} images, {self.n_objects} objects"

    def _class_table(self) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
        return class_table(self.metrics)


def class_table(metrics: coco_ap.CocoMetrics) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """(columns, a row per class) of a table."""
    rows: list[tuple[object, ...]] = [
        (name, *(number(row[key]) for key in COLUMNS), int(row["n_gt"])) for name, row in metrics.per_class.items()
    ]
    return ("class", *COLUMNS, "objects"), rows


def number(value: float | None) -> str:
    """Three decimals; a dash for a value that could not be measured."""
    return "-" if value is None or value != value else f"{value:.3f}"


def evaluate(
    gt: str | Path | records.Dataset | Mapping[str, Any],
    results: str | Path | Sequence[str | Path] | Sequence[Mapping[str, Any]] | Sequence[Prediction],
    *,
    iou_type: str = "bbox",
) -> Evaluation:
    """COCO metrics of results against a ground truth; oddities of the results are printed as warnings.

    gt: a dataset, a COCO document, or the path of a COCO json (any category ids). results: a COCO results json (or
    several, which are joined), its rows, or predictions of `detector(dataset)`. iou_type: bbox, or segm for masks.
    Raises DataError naming the first invalid record, or predictions of other classes than the ground truth's, and
    ConfigError for another iou_type.
    """
    if iou_type not in ("bbox", "segm"):
        raise ConfigError(f"iou_type is {iou_type!r}", remedy="use 'bbox' or 'segm'")
    truth, paths = read_truth(gt), _paths(results)
    columns = read_coco_results(paths, truth) if paths else in_columns(results, truth)
    try:
        store = match(truth, columns, iou_type)
    except DataError as error:
        raise error.at(" + ".join(map(str, paths))) if paths else error from None
    metrics = coco_ap.summarize(store)
    warnings = _oddities(truth, columns, store, metrics)
    for text in warnings:
        warn(text)
    return Evaluation(metrics, store, warnings)


def read_truth(gt: str | Path | records.Dataset | Mapping[str, Any]) -> GroundTruth:
    """A ground truth in columns. Raises DataError for an invalid record, and for what is not a ground truth."""
    if isinstance(gt, str | Path):
        return from_coco(load_json(Path(gt)), gt)
    if isinstance(gt, records.Dataset):
        return from_dataset(gt)
    if isinstance(gt, Mapping):
        return from_coco(gt)
    raise DataError(
        f"the ground truth is a {type(gt).__name__}", remedy="pass a dataset, the path of a COCO json, or its content"
    )


def _paths(results: Any) -> list[Path]:
    """The files of the results; none when they are in memory."""
    if isinstance(results, str | Path):
        return [Path(results)]
    if isinstance(results, list | tuple) and results and all(isinstance(item, str | Path) for item in results):
        return [Path(item) for item in results]
    return []


def in_columns(results: Any, truth: GroundTruth) -> Results:
    """Rows of a COCO results list, or predictions, as columns.

    Raises DataError for an invalid row, and for a prediction of other classes or of an image without an id.
    """
    if not isinstance(results, list | tuple):
        raise DataError(
            f"the results are a {type(results).__name__}",
            remedy="pass the path of a COCO results json, a list of its rows, or the list that detector(dataset) gives",
        )
    if all(isinstance(item, Mapping) for item in results):
        return from_records(results)
    parts = []
    for position, item in enumerate(results):
        detections = getattr(item, "detections", None)
        if not isinstance(detections, Detections):
            raise DataError(f"results[{position}] is a {type(item).__name__}", remedy="pass rows or predictions only")
        if item.image_id is None:
            raise DataError(
                f"results[{position}] is of an image without an id",
                remedy="predict the dataset: detector(dataset), or pass rows: prediction.to_coco(image_id)",
            )
        if (item.categories, list(range(1, len(item.categories) + 1))) != (
            truth.categories,
            truth.category_ids.tolist(),
        ):
            raise DataError(
                f"results[{position}] has the classes {', '.join(item.categories)}; those of the ground truth are "
                f"{', '.join(f'{n} {name}' for n, name in zip(truth.category_ids, truth.categories, strict=True))}",
                remedy="convert the data with the run's taxonomy.yaml, or pass rows whose category_id is the data's",
            )
        parts.append(of_image(item.image_id, detections))
    return concatenate(parts)


def _oddities(truth: GroundTruth, results: Results, store: MatchStore, metrics: coco_ap.CocoMetrics) -> list[str]:
    """What a reader of the numbers should know of the results."""
    texts = []
    if silent := len(set(truth.image_ids.tolist()) - set(results.image_id.tolist())):
        texts.append(f"{silent} of {len(truth.image_ids)} images have no detections: their objects count as missed")
    if repeated := count_repeated(results):
        texts.append(f"{repeated} detections repeat another one exactly: they count as false positives")
    if store.dropped_unlabelled:
        texts.append(
            f"{store.dropped_unlabelled} detections are of classes that their image is not labelled for: left out"
        )
    if metrics.named()["AP"] == 0 and (cause := explain_zero(truth, results)):
        texts.append(f"AP is exactly zero, probably because {cause}")
    return texts
