"""Levels follow from manifests; held_out never lets a trained condition through."""

import pytest

from drivetl.conditions import CATALOG, SETS
from drivetl.data.augment import build, load_preset
from drivetl.errors import CheckpointError, ConfigError
from drivetl.robustness.held_out import choose_conditions, levels, trained_transforms


def manifest(*transforms, ancestors=()):
    return {"version": 1, "preset": "test", "transforms": list(transforms), "ancestors": list(ancestors)}


def transform(phenomenon, model, **ranges):
    return {"name": "T", "phenomenon": phenomenon, "model": model, "family": "x", "range": ranges, "p": 0.5}


FOG = transform("fog", "koschmieder_depth", visibility_m=[100, 400])


def test_every_level():
    known = levels(manifest(FOG), ["fog", "plasma_fog", "night"], [1, 2, 3, 4, 5])
    # ladder 600, 300, 150, 75, 40 m: the second and third were trained on
    assert [known.of_cell["fog", s] for s in (1, 2, 3, 4, 5)] == ["L1", "L0", "L0", "L1", "L1"]
    assert known.of_condition == {"fog": "L0", "plasma_fog": "L2", "night": "L3"}
    assert known.verified and "T" in known.why["fog"]


def test_a_range_that_is_not_told_counts_as_trained():
    assert levels(manifest(transform("fog", "koschmieder_depth")), ["fog"], [5]).of_condition["fog"] == "L0"


def test_ancestors_are_inherited():
    child = manifest(ancestors=[manifest(transform("night", "tone"), ancestors=[manifest(FOG)])])
    assert levels(child, ["fog", "night", "dusk"], [3]).of_condition == {"fog": "L0", "night": "L2", "dusk": "L2"}


@pytest.mark.parametrize("unknown", [None, manifest(ancestors=[None])])
def test_without_a_manifest_nothing_is_proven(unknown):
    known = levels(unknown, ["fog", "night"], [1, 5])
    assert not known.verified
    assert set(known.of_condition.values()) == set(known.of_cell.values()) == {"UNVERIFIED"}
    assert choose_conditions("held_out", unknown, [1]) == list(SETS["all"])


def test_held_out_is_what_was_not_trained_on_and_keeps_labels_true():
    chosen = choose_conditions("held_out", manifest(FOG), [1, 2, 3, 4, 5])
    assert "fog" not in chosen and "plasma_fog" in chosen and "night" in chosen
    assert all(CATALOG[name].label_safe for name in chosen)
    # outside the trained range it is still the trained model
    assert "fog" not in choose_conditions("held_out", manifest(FOG), [5])


def test_held_out_refuses_a_trained_condition_by_name():
    with pytest.raises(ConfigError, match=r"'fog' is not held out.*--conditions fog"):
        choose_conditions("held_out,fog", manifest(FOG), [2])
    assert choose_conditions("fog", manifest(FOG), [2]) == ["fog"]


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'night'"):
        choose_conditions("held_out,nigth", manifest(), [1])


@pytest.mark.parametrize("broken", [{"version": 1}, {"transforms": [{"name": "x"}]}, {"transforms": [3]}])
def test_a_broken_manifest_is_an_error(broken):
    with pytest.raises(CheckpointError, match="not a manifest"):
        trained_transforms(broken)


@pytest.mark.parametrize("preset", ["none", "photometric", "weather", "severe"])
def test_shipped_presets_leave_the_physical_conditions_held_out(preset):
    known = levels(build(load_preset(preset)).manifest, list(SETS["drive"]), [1, 2, 3, 4, 5])
    assert set(known.of_condition.values()) <= {"L2", "L3"}


def test_weather_training_is_recognised_by_its_phenomena():
    known = levels(build(load_preset("weather")).manifest, list(CATALOG), [1, 2, 3, 4, 5])
    for name in ("fog", "plasma_fog", "rain", "night", "snowfall", "motion_blur", "video_compression"):
        assert known.of_condition[name] == "L2", name
    for name in ("jpeg_compression", "gaussian_noise", "contrast", "gaussian_blur"):
        assert known.of_condition[name] in ("L0", "L1"), name


def test_a_catalogue_condition_trained_on_is_seen():
    seen = {
        "name": "condition:night",
        "phenomenon": "darkness",
        "model": CATALOG["night"].model,
        "family": "lighting",
        "range": {"ambient": [0.025, 0.3]},
        "p": 0.1,
    }
    known = levels(manifest(seen), ["night", "dusk"], [1, 2, 3, 4, 5])
    assert known.of_condition == {"night": "L0", "dusk": "L2"}
