"""What a detector that is not a run was trained on: manifests by hand, albumentations' files, the template."""

import json
import os

import pytest
import yaml

from drivetl.cli import main
from drivetl.conditions import CATALOG, SETS
from drivetl.conditions.manifest_template import template
from drivetl.conditions.training import RECIPES
from drivetl.data import augment
from drivetl.data.albumentations_manifest import ROWS, albumentations_manifest
from drivetl.data.transforms import TRANSFORMS
from drivetl.errors import DrivetlError
from drivetl.models.source import published_manifest
from drivetl.robustness.augmentation import read_augmentation
from drivetl.robustness.held_out import HEADLINE, SEEN, Level, choose_conditions, levels, missing_manifest

SEVERITIES = (1, 2, 3, 4, 5)
EVERY = list(CATALOG)


def library():
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations

    return albumentations


def levels_of(manifest):
    known = levels(manifest, EVERY, SEVERITIES)
    return known.verified, known.of_cell


def save(path, *transforms):
    library().save(
        library().Compose(list(transforms)), str(path), data_format="yaml" if path.suffix == ".yaml" else "json"
    )
    return path


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
@pytest.mark.parametrize("preset", augment.PRESETS)
def test_law_a_preset_written_by_hand_has_the_levels_of_the_preset(tmp_path, preset, suffix):
    own = augment.manifest(augment.load_preset(preset))
    rows = [{key: row[key] for key in ("name", "phenomenon", "model", "range")} for row in own["transforms"]]
    path = tmp_path / f"mine{suffix}"
    document = {"transforms": rows}
    path.write_text(json.dumps(document) if suffix == ".json" else yaml.safe_dump(document))
    assert levels_of(read_augmentation([path])) == levels_of(own)


def test_law_a_manifest_of_the_project_is_read(tmp_path):
    """The ancestors of our runs too: no model of theirs is taken for a misspelt one."""
    path = tmp_path / "augmentation.json"
    every = augment.AugmentConfig("every", tuple(augment.Step(0.5, (augment.Choice(name, {}),)) for name in TRANSFORMS))
    document = augment.manifest(every) | {"ancestors": [published_manifest("coco")]}
    path.write_text(json.dumps(document))
    assert read_augmentation([path]) == document


OURS = {
    "flip": lambda a: a.HorizontalFlip(p=0.5),
    "brightness_contrast": lambda a: a.RandomBrightnessContrast((-0.2, 0.2), (-0.25, 0.25), p=0.5),
    "gamma": lambda a: a.RandomGamma((70, 150), p=0.5),
    "gaussian_noise": lambda a: a.GaussNoise((0.005, 0.04), p=0.5),
    "gaussian_blur": lambda a: a.GaussianBlur(0, (0.3, 0.9), p=0.5),
    "line_blur": lambda a: a.MotionBlur((3, 7), allow_shifted=False, p=0.5),
    "jpeg": lambda a: a.ImageCompression("jpeg", (50, 95), p=0.5),
    "downscale": lambda a: a.Downscale((0.6, 0.95), {"downscale": 3, "upscale": 1}, p=0.5),
    "white_balance": lambda a: a.PlanckianJitter("blackbody", (4000, 12000), p=0.5),
    "colour": lambda a: a.ColorJitter((1, 1), (1, 1), (0.6, 1.4), (-0.03, 0.03), p=0.5),
    "grey": lambda a: a.ToGray(p=0.5),
}


@pytest.mark.parametrize("name", sorted(OURS))
def test_law_albumentations_and_our_transform_of_the_same_name_are_the_same_training(tmp_path, name):
    """Those of our transforms that albumentations computes: model and range are the same."""
    path = save(tmp_path / "a.json", OURS[name](library()))
    config = augment.AugmentConfig("one", (augment.Step(0.5, (augment.Choice(name, {}),)),))
    theirs = {(row["phenomenon"], row["model"]): row["range"] for row in read_augmentation([path])["transforms"]}
    for row in augment.manifest(config)["transforms"]:
        ranges = theirs[row["phenomenon"], row["model"]]
        assert ranges.keys() == row["range"].keys()
        for key, pair in row["range"].items():
            assert ranges[key] == pytest.approx(pair)


def test_every_transform_of_albumentations_is_listed_or_unknown():
    a = library()
    classes = {
        name for name, item in vars(a).items() if isinstance(item, type) and issubclass(item, a.BasicTransform)
    } - {"BasicTransform", "DualTransform", "ImageOnlyTransform", "Transform3D"}
    volumes_and_sound = {name for name in classes if name.endswith("3D") or name == "CubicSymmetry"} | {"TimeReverse"}
    other_images = {"FDA", "HistogramMatching", "PixelDistributionAdaptation", "Lambda"}
    unlisted = {
        name
        for name in classes
        if (rows := albumentations_manifest({"transform": {"__class_fullname__": name}}, "x")["transforms"])
        and rows[0]["phenomenon"] == "unknown"
    }
    assert unlisted == volumes_and_sound | other_images


def test_rows_are_in_the_vocabulary():
    trained = {trait.model for transform in TRANSFORMS.values() for trait in transform.traits}
    known = trained | {condition.model for condition in CATALOG.values()}
    for rows in ROWS.values():
        for _, model, _ in rows:
            assert not model or model in known, model


def test_a_saved_pipeline_is_read_through_its_choices(tmp_path):
    a = library()
    pipeline = (
        a.OneOf([a.RandomFog(p=1), a.Sequential([a.GlassBlur(p=0.5), a.NoOp()], p=1)], p=0.4),
        a.RandomRain(p=0),
        a.Normalize(),
    )
    by_json, by_yaml = (read_augmentation([save(tmp_path / f"mine{s}", *pipeline)]) for s in (".json", ".yaml"))
    assert by_json == by_yaml
    assert [(row["name"], row["phenomenon"], row["p"]) for row in by_json["transforms"]] == [
        ("RandomFog", "fog", 0.4),
        ("GlassBlur", "frosted glass", 0.2),
    ]
    known = levels(by_json, EVERY, SEVERITIES)
    assert known.verified and known.of_condition["fog"] == known.of_condition["plasma_fog"] == Level.L2
    assert known.of_condition["glass_blur"] == Level.L0, "the published corruption is the same model"
    assert known.of_condition["rain"] == Level.L3, "rain of probability 0 is never seen"


def test_law_nothing_is_held_out_from_an_unknown_transform(tmp_path):
    path = save(tmp_path / "mine.json", library().GaussNoise((0.01, 0.5), p=0.5))
    document = json.loads(path.read_text())
    plain = levels(read_augmentation([path]), EVERY, SEVERITIES)
    document["transform"]["transforms"].append({"__class_fullname__": "my_package.Sandstorm", "p": 0.1})
    path.write_text(json.dumps(document))
    manifest = read_augmentation([path])
    known = levels(manifest, EVERY, SEVERITIES)
    assert not known.verified and not set(known.of_condition.values()) & set(HEADLINE)
    for name in EVERY:
        seen = plain.of_condition[name] in SEEN
        assert known.of_condition[name] == (plain.of_condition[name] if seen else Level.UNVERIFIED), name
    assert known.of_condition["gaussian_noise"] == Level.L0
    assert missing_manifest(None, manifest) == "it is unknown what Sandstorm of its training changed"
    assert "gaussian_noise" not in choose_conditions("held_out", manifest, SEVERITIES)


def by_hand(tmp_path, **changes):
    path = tmp_path / "manifest.yaml"
    row = {"name": "mine", "phenomenon": "fog", "model": "unknown"} | changes
    path.write_text(yaml.safe_dump({"transforms": [row]}))
    return path


def test_law_an_unknown_model_leaves_its_phenomenon_unverified(tmp_path):
    known = levels(read_augmentation([by_hand(tmp_path)]), EVERY, SEVERITIES)
    assert known.verified
    unverified = {name for name in EVERY if known.of_condition[name] == Level.UNVERIFIED}
    assert unverified == {name for name in EVERY if CATALOG[name].phenomenon in ("fog", "low contrast")}
    assert {known.of_condition[name] for name in EVERY if name not in unverified} == {Level.L3}
    own = levels(read_augmentation([by_hand(tmp_path, model="studio smoke")]), EVERY, SEVERITIES)
    assert own.of_condition["fog"] == own.of_condition["contrast"] == Level.L2


def test_several_files_are_all_counted(tmp_path):
    pipeline = save(tmp_path / "a.json", library().RandomRain(p=0.5))
    manifest = by_hand(tmp_path, phenomenon="motion blur", model="half_gaussian_line")
    both = levels(read_augmentation([pipeline, manifest]), EVERY, SEVERITIES)
    assert both.of_condition["rain"] == Level.L2 and both.of_condition["motion_blur"] == Level.L0
    assert read_augmentation([]) is None


def test_the_template_says_nothing_until_it_is_filled_in(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    assert main(["conditions", "--augmentation-template", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    known = levels(read_augmentation([path]), SETS["all"], SEVERITIES)
    assert not known.verified and set(known.of_condition.values()) == {Level.UNVERIFIED}
    before = path.read_bytes()
    assert main(["conditions", "--augmentation-template", str(path)]) == 2 and path.read_bytes() == before
    assert main(["conditions", "--augmentation-template", str(tmp_path / "b.yaml"), "--list"]) == 2
    assert "is written alone" in capsys.readouterr().err and not (tmp_path / "b.yaml").exists()


def test_every_row_of_the_template_can_be_used(tmp_path):
    path = tmp_path / "all.yaml"
    text = template().replace("#  - {", "  - {").replace("ancestors: [null]", "ancestors: []")
    path.write_text(text)
    known = levels(read_augmentation([path]), EVERY, SEVERITIES)
    assert known.verified and set(known.of_condition.values()) == {Level.UNVERIFIED}, "all phenomena, models unknown"
    for condition in CATALOG.values():
        assert condition.model in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "not an augmentation manifest"),
        ("preset: x", "it has no transforms - write it like"),
        ("transforms: 3", "not a manifest"),
        (
            "transforms: [{name: a, phenomenom: fog, model: b}]",
            "not a manifest (KeyError('phenomenon')) - write it like",
        ),
        ("transforms: [{name: a, phenomenon: fogg, model: b}]", "did you mean 'fog'?"),
        ("transforms: [{name: a, phenomenon: fog, model: koschmieder-depth}]", "write 'koschmieder_depth' if it is"),
        ("transform: {p: 1}", "a transform without __class_fullname__"),
        ("transform: {__class_fullname__: Compose, transforms: [3]}", "a transform without __class_fullname__"),
        ("transforms: !!python/tuple [1]", ":1:"),
        ("transforms: []\nancestors: 3", "ancestors is 3"),
    ],
)
def test_other_files_are_refused_with_their_name(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    path.write_text(content + "\n")
    with pytest.raises(DrivetlError) as caught:
        read_augmentation([path])
    assert str(caught.value).startswith(str(path)) and message in str(caught.value)


def test_recipes_have_models_of_their_own():
    """Weather that we train on is another model than the weather that is evaluated."""
    assert not {recipe.model for recipe in RECIPES.values()} & {condition.model for condition in CATALOG.values()}
