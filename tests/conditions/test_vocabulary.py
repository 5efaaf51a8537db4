"""One vocabulary: every table uses its words, every word is used, and the sets of a protocol version are fixed."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

import drivetl
from drivetl.conditions import CATALOG, CLEAN, PROTOCOL_VERSION, SETS, Family, Phenomenon, parse_severities, select
from drivetl.conditions import vocabulary as words
from drivetl.conditions.training import RECIPES
from drivetl.data.transforms import TRANSFORMS
from drivetl.errors import ConfigError
from drivetl.models.source import published_manifest
from drivetl.robustness import held_out
from drivetl.robustness.clean_slice import CONDITION_OF_WORD, PHENOMENON_OF_WORD

MEASURED = {condition.phenomenon for condition in CATALOG.values()}
PUBLISHED = [row for start in ("coco", "imagenet") for row in published_manifest(start)["transforms"]]
TRAINABLE = {trait.phenomenon for transform in TRANSFORMS.values() for trait in transform.traits} | {
    Phenomenon(row["phenomenon"]) for row in PUBLISHED
}

PINNED_SETS = {4: "3a16aa6f3507c6b2", 5: "3a16aa6f3507c6b2"}
"""Protocol version -> digest of its sets. A published version never changes."""


def test_every_phenomenon_and_family_in_a_table_is_a_member() -> None:
    named = [*CATALOG.values(), *RECIPES.values(), *(trait for item in TRANSFORMS.values() for trait in item.traits)]
    assert all(type(item.phenomenon) is Phenomenon and type(item.family) is Family for item in named)
    assert all(row["phenomenon"] in list(Phenomenon) and row["family"] in list(Family) for row in PUBLISHED)
    assert all(type(row["phenomenon"]) is str for row in PUBLISHED), "manifests hold plain strings"


def test_every_phenomenon_is_measured_or_trained_and_every_family_used() -> None:
    assert set(Phenomenon) == MEASURED | TRAINABLE
    families = {item.family for item in (*CATALOG.values(), *RECIPES.values())}
    assert set(Family) == families | {trait.family for item in TRANSFORMS.values() for trait in item.traits}


def test_every_cover_rule_can_apply() -> None:
    for trained, covered in words.COVERS.items():
        assert trained in TRAINABLE, f"nothing trains on {trained}"
        assert covered and covered <= MEASURED and trained not in covered, trained


def test_aliases_are_other_words_for_members() -> None:
    for word, meant in words.ALIASES.items():
        assert word == word.lower() and "_" not in word and word not in list(Phenomenon)
        assert meant and all(type(phenomenon) is Phenomenon for phenomenon in meant)


def test_slices_stand_for_what_the_catalogue_has() -> None:
    assert all(type(phenomenon) is Phenomenon for phenomenon in PHENOMENON_OF_WORD.values())
    assert set(PHENOMENON_OF_WORD.values()) <= MEASURED and set(CONDITION_OF_WORD.values()) <= set(CATALOG)
    assert not set(PHENOMENON_OF_WORD) & set(CONDITION_OF_WORD)


def test_a_condition_with_a_word_of_its_own_cannot_be_made() -> None:
    with pytest.raises(AssertionError):
        replace(CATALOG["fog"], phenomenon="fogg")  # type: ignore[arg-type]


def test_cells_and_severities_are_defined_once() -> None:
    assert CLEAN == ("clean", 0) and words.cell_name(CLEAN) == "clean/0"
    assert CLEAN[0] not in CATALOG
    sources = {path: path.read_text() for path in Path(drivetl.__file__).parent.rglob("*.py")}
    for pattern in (r'\("clean", 0\)', r"^Cell = tuple\[str, int\]$", r"^class (Phenomenon|Family|Level)\("):
        holders = [path.name for path, text in sources.items() for _ in re.finditer(pattern, text, re.MULTILINE)]
        assert len(holders) in (1, 3) and set(holders) <= {"vocabulary.py", "held_out.py"}, (pattern, holders)
    assert parse_severities("5,1, 1") == [1, 5]
    for text in ("", "0", "6", "1.5", "one"):
        with pytest.raises(ConfigError, match="--severities"):
            parse_severities(text)


def digest_of_sets() -> str:
    text = "\n".join(f"{name}: {' '.join(members)}" for name, members in SETS.items())
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def test_the_sets_of_a_protocol_version_never_change() -> None:
    assert PINNED_SETS.get(PROTOCOL_VERSION) == digest_of_sets(), (
        f"the sets are not those of protocol version {PROTOCOL_VERSION}: `all` and the headline would silently become "
        "about other conditions. Leave a new condition out of catalog._COUNTED, or raise PROTOCOL_VERSION and pin the "
        f"digest {digest_of_sets()} for it here."
    )


def test_a_new_condition_changes_no_set_and_no_headline(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: select(name) for name in SETS} | {"held_out": held_out.choose_conditions("held_out", None, [1])}
    grown = MappingProxyType(dict(CATALOG) | {"sleet": replace(CATALOG["snowfall"], name="sleet")})
    for module in ("drivetl.conditions", "drivetl.conditions.catalog", "drivetl.robustness.held_out"):
        monkeypatch.setattr(f"{module}.CATALOG", grown)
    after = {name: select(name) for name in SETS} | {"held_out": held_out.choose_conditions("held_out", None, [1])}
    assert before == after
    assert select("sleet") == held_out.choose_conditions("sleet", None, [1]) == ["sleet"]
    assert held_out.choose_conditions("held_out,sleet", None, [1]) == [*before["held_out"], "sleet"]


def test_the_counted_conditions_keep_labels_true() -> None:
    assert all(CATALOG[name].label_safe for name in SETS["all"])
    assert len(set(SETS["all"])) == len(SETS["all"])
