"""Objects below the taxonomy's min_height_px become ignore regions."""

from collections import Counter
from pathlib import Path

import pytest

from drivetl.coco.records import SourceImage, SourceObject
from drivetl.coco.taxonomy import parse_taxonomy
from drivetl.convert.build import Account, build_dataset
from drivetl.errors import DataError

CLASSES = {"car": {"labels": ["Car"]}, "tram": {"labels": ["Tram"]}}


def convert(**extra):
    taxonomy = parse_taxonomy({"name": "t", "classes": CLASSES, **extra})
    objects = [SourceObject("Car", (0.0, 0.0, 50.0, height)) for height in (9.0, 10.0, 30.0)]
    account = Account()
    dataset = build_dataset([SourceImage("a.png", 100, 100, objects)], taxonomy, Path(), source="t", account=account)
    return taxonomy, dataset.images[0], account


def test_small_objects_are_ignored_for_their_class_only_and_are_counted():
    taxonomy, image, account = convert(min_height_px=10)
    assert [item.bbox_xywh[3] for item in image.annotations] == [10.0, 30.0]
    assert [(region.bbox_xywh[3], region.category_ids) for region in image.ignore_regions] == [(9.0, (1,))]
    assert account.ignored == Counter({"Car lower than 10 px": 1}) and account.balanced()
    assert parse_taxonomy(taxonomy.as_dict()) == taxonomy


def test_without_a_limit_the_taxonomy_and_its_hash_are_unchanged():
    taxonomy, image, _ = convert()
    assert len(image.annotations) == 3 and "min_height_px" not in taxonomy.as_dict()
    assert taxonomy.digest == parse_taxonomy({"name": "t", "classes": CLASSES, "min_height_px": 0}).digest


@pytest.mark.parametrize("value", [-1, "tall", float("nan"), True, None])
def test_an_invalid_limit_is_refused(value):
    with pytest.raises(DataError, match="min_height_px"):
        convert(min_height_px=value)
