"""Levels follow from manifests; `held_out` never includes a trained condition."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetl.conditions import CATALOG, SETS, Phenomenon
from drivetl.conditions.vocabulary import ALIASES, COVERS
from drivetl.data.augment import AugmentConfig, Choice, Step, build, load_preset
from drivetl.data.augment import manifest as augment_manifest
from drivetl.data.transforms import TRANSFORMS
from drivetl.errors import CheckpointError, ConfigError
from drivetl.models.source import published_manifest
from drivetl.robustness.held_out import HEADLINE, SEEN, Level, choose_conditions, levels, trained_transforms


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


def test_a_parameter_without_a_range_counts_as_trained():
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


def test_held_out_is_not_trained_on_and_label_safe():
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


@pytest.mark.parametrize(
    "broken",
    [
        {"version": 1},
        {"transforms": [{"name": "x"}]},
        {"transforms": [3]},
        {"transforms": ""},
        {"transforms": {}},
        {"transforms": [], "ancestors": [3]},
    ],
)
def test_a_broken_manifest_is_an_error(broken):
    with pytest.raises(CheckpointError, match="not a manifest"):
        trained_transforms(broken)


@pytest.mark.parametrize("preset", ["none", "photometric", "weather", "severe", "mixed"])
def test_shipped_presets_leave_the_physical_conditions_held_out(preset):
    known = levels(build(load_preset(preset)).manifest, list(SETS["drive"]), [1, 2, 3, 4, 5])
    assert set(known.of_condition.values()) <= {"L2", "L3"}


def test_weather_training_is_recognised_by_its_phenomena():
    known = levels(build(load_preset("weather")).manifest, list(CATALOG), [1, 2, 3, 4, 5])
    for name in ("fog", "plasma_fog", "rain", "night", "snowfall", "motion_blur", "video_compression"):
        assert known.of_condition[name] == "L2", name
    for name in ("jpeg_compression", "gaussian_noise", "contrast", "gaussian_blur"):
        assert known.of_condition[name] in ("L0", "L1"), name


def test_strong_presets_claim_little_as_never_trained():
    """Noise, blur, compression and darkness are seen; the waves of `mixed` are stripes, as lost rows are."""
    left = {}
    for preset in ("severe", "mixed"):
        known = levels(build(load_preset(preset)).manifest, list(CATALOG), [1, 2, 3, 4, 5])
        left[preset] = {CATALOG[name].phenomenon for name in CATALOG if known.of_condition[name] == "L3"}
    never = {Phenomenon.SPRAY, Phenomenon.FROST, Phenomenon.ROLLING_SHUTTER, Phenomenon.DEFORMATION}
    assert left == {"severe": never | {Phenomenon.ROW_LOSS}, "mixed": never}


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


ALL_SEVERITIES = [1, 2, 3, 4, 5]


def levels_of(*transforms):
    return levels(manifest(*transforms), list(CATALOG), ALL_SEVERITIES)


@pytest.mark.parametrize("name", list(TRANSFORMS))
def test_law_trained_or_covered_phenomena_are_never_l3(name):
    step = Step(1.0, (Choice(name, dict(TRANSFORMS[name].defaults)),))
    known = levels(augment_manifest(AugmentConfig("one", (step,))), list(CATALOG), ALL_SEVERITIES)
    trained = {trait.phenomenon for trait in TRANSFORMS[name].traits}
    covered = trained.union(*(COVERS.get(phenomenon, ()) for phenomenon in trained))
    models = {trait.model for trait in TRANSFORMS[name].traits}
    for condition in CATALOG.values():
        level = known.of_condition[condition.name]
        assert (level == Level.L3) == (condition.phenomenon not in covered), condition.name
        assert (level in SEEN) == (condition.model in models), condition.name


@pytest.mark.parametrize("word", [*Phenomenon, *ALIASES, *CATALOG])
def test_law_every_known_word_reaches_its_conditions(word):
    known = levels_of(transform(word, "foreign"))
    meant = ALIASES.get(word) or {Phenomenon(word) if word in list(Phenomenon) else CATALOG[word].phenomenon}
    for condition in CATALOG.values():
        if condition.phenomenon in meant:
            assert known.of_condition[condition.name] == Level.L2, condition.name


@settings(max_examples=50)
@given(st.text(max_size=12))
def test_law_any_phenomenon_text_is_understood_or_refused(text):
    """Any text in a manifest is either a known word or an error."""
    try:
        trained = trained_transforms(manifest(transform(text, "foreign")))
    except CheckpointError as error:
        assert "unknown phenomenon" in str(error)
    else:
        assert trained[0].phenomena


@pytest.mark.parametrize(
    ("phenomenon", "message"),
    [
        ("fogg", "transform 'T' has the unknown phenomenon 'fogg' - did you mean 'fog'"),
        ("Brightnes", "did you mean 'brightness'"),
        ("fog, raim", "'raim' - did you mean 'rain'"),
        ("", "unknown phenomenon ''"),
        (" , ", "unknown phenomenon ''"),
        (None, "unknown phenomenon 'none'"),
        (["fog"], "unknown phenomenon"),
        ("weather", "unknown phenomenon 'weather'"),
    ],
)
def test_an_unknown_phenomenon_is_refused(phenomenon, message):
    broken = manifest(FOG, ancestors=[manifest(transform(phenomenon, "foreign"))])
    for call in (
        lambda: levels(broken, ["night"], [1]),
        lambda: choose_conditions("held_out", broken, [1]),
        lambda: trained_transforms(broken),
    ):
        with pytest.raises(CheckpointError, match=message):
            call()


def test_words_of_other_tools_are_understood():
    known = levels_of(transform("Brightness/Contrast", "RandomBrightnessContrast"))
    for name in ("overexposure", "underexposure", "brightness", "contrast", "night"):
        assert known.of_condition[name] == "L2", name
    assert known.of_condition["fog"] == "L3"
    for words, names in {
        "night": ["night", "dusk"],
        "motion_blur": ["motion_blur", "ego_blur", "zoom_blur", "motion_blur_aligned"],
        "iso noise": ["gaussian_noise", "shot_noise", "iso_noise", "speckle_noise", "impulse_noise"],
        "Sensor_Noise": ["gaussian_noise", "shot_noise"],
        "image coding": ["jpeg_compression", "video_compression"],
        "blur": ["defocus_blur", "gaussian_blur", "defocus", "motion_blur", "glass_blur"],
        "spatter": ["spatter", "lens_dirt", "water_film"],
        "haze and rain": ["fog", "plasma_fog", "rain", "wet_road"],
        "saturation": ["saturate"],
        "plasma fog": ["fog", "plasma_fog"],
        "cutout": ["lens_dirt", "dead_rows"],
    }.items():
        known = levels_of(transform(words, "foreign"))
        assert {known.of_condition[name] for name in names} == {"L2"}, words


def test_a_known_model_determines_the_phenomenon():
    known = levels_of(transform("glare", "Koschmieder_Depth"))
    assert known.of_condition["fog"] == "L0" and known.of_condition["plasma_fog"] == "L2"
    plasma = levels_of(transform("shadows", "plasma_additive"))  # one generator, many names
    assert plasma.of_condition["plasma_fog"] == "L0" and plasma.of_condition["fog"] == "L2"


def test_a_run_that_started_from_published_weights_inherits_their_training():
    known = levels(manifest(ancestors=[published_manifest("imagenet")]), list(CATALOG), ALL_SEVERITIES)
    for name in ("overexposure", "brightness", "night", "saturate", "gaussian_blur", "lens_dirt", "dead_rows"):
        assert known.of_condition[name] == "L2", name
    assert known.of_condition["contrast"] == "L0"
    for name in ("fog", "rain", "snowfall", "low_sun", "iso_noise", "ego_blur", "jpeg_compression", "tunnel_exit"):
        assert known.of_condition[name] == "L3", name


def test_levels_are_ordered_and_explained():
    assert list(Level) == sorted(Level) == ["L0", "L1", "L2", "L3", "L4", "UNVERIFIED"]
    assert not set(SEEN) & set(HEADLINE) and {*SEEN, *HEADLINE, Level.L4, Level.UNVERIFIED} == set(Level)
    assert all(level.meaning for level in Level)
    assert json.dumps({"level": Level.L2, "all": [*Level]}) == (
        '{"level": "L2", "all": ["L0", "L1", "L2", "L3", "L4", "UNVERIFIED"]}'
    )


@pytest.mark.parametrize("ancestors", [None, "coco", {"transforms": []}, 0])
def test_ancestors_are_a_list(ancestors):
    with pytest.raises(CheckpointError, match="ancestors is"):
        levels({"transforms": [], "ancestors": ancestors}, ["fog"], [1])
