"""Laws of head surgery: a class moved to another head scores as before; every tensor is accounted for."""

import json

import pytest
import torch
from torchvision.models import detection

from drivetl.errors import CheckpointError, ConfigError
from drivetl.models import surgery
from drivetl.models.build import ModelSpec, build_model
from drivetl.models.precision import make_exact

COCO = detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
RELATION = {
    "tram": {"train": 1.0},
    "car": {"car": 1.0},
    "pedestrian": {"person": 1.0},
    "van": {"car": 1.0},
    "cyclist": {"person": 0.5, "bicycle": 0.5},
    "cone": {"cone": 1.0},
}
COPIED = {"tram": "train", "car": "car", "pedestrian": "person", "van": "car"}


def spec(categories, arch="fasterrcnn_mobilenet_v3_large_320_fpn"):
    return ModelSpec(arch, tuple(categories), 96, 192, 50, 50, 16, 10, 0.05, True)


@pytest.fixture(scope="module")
def source():
    """A random COCO-shaped detector, as torchvision builds it."""
    torch.manual_seed(0)
    model = detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None).eval()
    for parameter in model.roi_heads.box_predictor.parameters():
        torch.nn.init.normal_(parameter)
    return model


def test_law_rows_of_a_copied_class_are_the_sources_bit_for_bit_and_their_outputs_agree_up_to_rounding(source):
    """A matrix product rounds its last columns differently on some processors, so outputs are compared to 1e-5."""
    model = build_model(spec(RELATION)).eval()
    plan = surgery.plan(COCO, tuple(RELATION), RELATION)
    surgery.load(model, source.state_dict(), plan)
    old_head, head = source.roi_heads.box_predictor, model.roi_heads.box_predictor
    for count in (1, 7, 128, 1000):
        features = torch.randn(count, 1024)
        old_logits, old_deltas = source.roi_heads.box_predictor(features)
        logits, deltas = model.roi_heads.box_predictor(features)
        for name, parent in {"__background__": "__background__", **COPIED}.items():
            new, old = ["__background__", *RELATION].index(name), COCO.index(parent)
            box, old_box = slice(4 * new, 4 * new + 4), slice(4 * old, 4 * old + 4)
            for key in ("weight", "bias"):
                assert torch.equal(getattr(head.cls_score, key)[new], getattr(old_head.cls_score, key)[old]), name
                assert torch.equal(getattr(head.bbox_pred, key)[box], getattr(old_head.bbox_pred, key)[old_box]), name
            torch.testing.assert_close(logits[:, new], old_logits[:, old], rtol=1e-5, atol=1e-4)
            torch.testing.assert_close(deltas[:, box], old_deltas[:, old_box], rtol=1e-5, atol=1e-4)


def test_law_holds_in_the_whole_network(source):
    """The same image gives the same RoI features, so the copied logits are equal from the pixels on."""
    model = build_model(spec(RELATION)).eval()
    surgery.load(model, source.state_dict(), surgery.plan(COCO, tuple(RELATION), RELATION))
    twin = build_model(spec(COCO[1:])).eval()
    twin.load_state_dict(source.state_dict(), strict=False)
    seen = {}
    for name, net in (("new", model), ("old", twin)):
        net.roi_heads.box_predictor.register_forward_hook(lambda _m, _i, result, name=name: seen.update({name: result}))
        with torch.inference_mode():
            net([torch.rand(3, 96, 160, generator=torch.Generator().manual_seed(3))])
    for name, parent in COPIED.items():
        new, old = 1 + list(RELATION).index(name), COCO.index(parent)
        assert torch.equal(seen["new"][0][:, new], seen["old"][0][:, old])


def test_mapped_rows_are_weighted_means_and_reset_classes_start_rare(source):
    state = source.state_dict()
    plan = surgery.plan(COCO, tuple(RELATION), RELATION)
    built = surgery.apply(state, plan)
    key = "roi_heads.box_predictor.cls_score.weight"
    person, bicycle = state[key][COCO.index("person")], state[key][COCO.index("bicycle")]
    torch.testing.assert_close(built[key][5], (person + bicycle) / 2)
    assert [item.status for item in plan.classes[1:]] == ["kept"] * 4 + ["mapped", "reset"]
    assert plan.grounded == ("tram", "car", "pedestrian", "van", "cyclist")
    features = torch.randn(500, 1024)
    old = torch.exp(source.roi_heads.box_predictor(features)[0].double())
    real_classes = [number for number, name in enumerate(COCO) if number and name != "N/A"]
    bias = built["roi_heads.box_predictor.cls_score.bias"]
    new = torch.exp((features @ built[key][6] + bias[6]).double())
    assert bool((new <= old[:, real_classes].mean(dim=1) * (1 + 1e-4)).all())


def test_order_and_number_of_classes_do_not_matter(source):
    state = source.state_dict()
    names = tuple(RELATION)
    forward = surgery.apply(state, surgery.plan(COCO, names, RELATION))
    backward = surgery.apply(state, surgery.plan(COCO, names[::-1][:3], RELATION))
    for key in ("cls_score", "bbox_pred"):
        whole = forward[f"roi_heads.box_predictor.{key}.weight"].view(len(names) + 1, -1, 1024)
        part = backward[f"roi_heads.box_predictor.{key}.weight"].view(4, -1, 1024)
        assert torch.equal(part[1:], whole[1:].flip(0)[:3])


def test_mask_rows_follow_the_same_plan():
    torch.manual_seed(0)
    old = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    make_exact(old)
    plan = surgery.plan(COCO, ("pedestrian", "car"), RELATION)
    model = build_model(spec(("pedestrian", "car"), "maskrcnn_resnet50_fpn"))
    report = surgery.load(model, old.state_dict(), plan)
    assert report.counts()["mapped"] == 6 and "reset" not in report.counts()
    features = torch.randn(3, 256, 14, 14)
    before, after = old.roi_heads.mask_predictor(features), model.roi_heads.mask_predictor(features)
    assert torch.equal(after[:, 1], before[:, COCO.index("person")])
    assert torch.equal(after[:, 2], before[:, COCO.index("car")])


@pytest.mark.parametrize(
    ("source_classes", "source_relation", "relation", "expected"),
    [
        (["car", "pedestrian", "cyclist"], {}, {"pedestrian": {"person": 1}}, {"pedestrian": 1}),
        (["pedestrian", "car"], {"pedestrian": {"person": 1}}, {"person": {"person": 1}}, {"pedestrian": 1}),
        (
            ["pedestrian", "rider"],
            {"pedestrian": {"person": 1}, "rider": {"person": 0.5, "bicycle": 0.5}},
            {"cyclist": {"person": 0.5, "bicycle": 0.5}},
            {"rider": 1},
        ),
        (["truck", "bus"], {}, {"heavy": {"truck": 0.5, "bus": 0.5}}, {"truck": 0.5, "bus": 0.5}),
        (["truck"], {}, {"heavy": {"truck": 0.5, "bus": 0.5}}, {"truck": 1}),
        (["car", "truck"], {}, {"car": {"car": 0.7, "truck": 0.3}}, {"car": 0.7, "truck": 0.3}),
        (["Traffic_Light"], {}, {"light": {"traffic light": 1}}, {"Traffic_Light": 1}),
        (["N/A", "car"], {}, {"cone": {"cone": 1}}, {}),
    ],
)
def test_classes_are_related_by_name(source_classes, source_relation, relation, expected):
    (name,) = relation
    row = surgery.plan(source_classes, [name], relation, source_relation).classes[1]
    assert dict(zip(row.sources, row.weights, strict=True)) == expected
    assert row.rows == tuple(source_classes.index(parent) + 1 for parent in expected)


def test_errors_about_bad_relations_name_the_class():
    with pytest.raises(ConfigError, match=r"grows out of 'bycicle'.*did you mean 'bicycle'"):
        surgery.plan(COCO, ["cyclist"], {"cyclist": {"bycicle": 1.0}})
    with pytest.raises(ConfigError, match="no classes"):
        surgery.plan(COCO, [], {})
    with pytest.raises(CheckpointError, match="source has no classes"):
        surgery.plan(["N/A"], ["car"], {})


def test_every_tensor_is_accounted_for_and_saved(source, tmp_path, capsys):
    model = build_model(spec(RELATION))
    report = surgery.load(
        model, source.state_dict() | {"extra": torch.ones(2)}, surgery.plan(COCO, tuple(RELATION), RELATION)
    )
    keys = {line.key for line in report.tensors}
    own = {key for key in model.state_dict() if not key.endswith("num_batches_tracked")}
    assert keys == own | {"extra"}
    assert report.counts() == {"kept": len(own) - 4, "mapped": 4, "unused": 1}
    report.save(tmp_path / "surgery.json")
    saved = json.loads((tmp_path / "surgery.json").read_text())
    lines = {line["key"]: line for line in saved["tensors"]}
    assert lines["roi_heads.box_predictor.cls_score.weight"] == {
        "key": "roi_heads.box_predictor.cls_score.weight",
        "status": "mapped",
        "source_shape": [91, 1024],
        "target_shape": [7, 1024],
        "reason": "rows by class",
    }
    report.show()
    printed = capsys.readouterr().out
    assert "0.5 person + 0.5 bicycle" in printed and "extra" in printed


def test_weights_of_another_architecture_are_refused_and_change_nothing(source):
    tiny = build_model(spec(("car",), "fasterrcnn_tiny_fpn"))
    before = {key: value.clone() for key, value in tiny.state_dict().items()}
    plan = surgery.plan(COCO, ("car",), RELATION)
    with pytest.raises(
        CheckpointError, match=r"tensor backbone\.body\.0\.0\.weight: expected 24x3x3x3, found 16x3x3x3"
    ):
        surgery.load(tiny, source.state_dict(), plan)
    assert all(torch.equal(value, before[key]) for key, value in tiny.state_dict().items())


def test_a_missing_tensor_is_an_error_unless_listed(source):
    model, plan = build_model(spec(("car",))), surgery.plan(COCO, ("car",), RELATION)
    state = source.state_dict()
    del state["roi_heads.box_head.fc7.bias"]
    with pytest.raises(CheckpointError, match=r"fc7\.bias: expected 1024, found nothing"):
        surgery.load(model, state, plan)
    report = surgery.load(model, state, plan, may_differ=["roi_heads.box_head.fc7"])
    assert report.counts()["reset"] == 1


def test_head_rows_must_match_the_number_of_classes(source):
    with pytest.raises(
        CheckpointError,
        match=r"expected 3 rows for 2 classes and background, found 91.* in <weights file>\.classes\.txt",
    ):
        surgery.apply(source.state_dict(), surgery.plan(["car", "person"], ["car"], RELATION))


def test_the_error_about_a_class_agnostic_box_head_says_how_to_convert_it(source):
    state, head = source.state_dict(), "roi_heads.box_predictor.bbox_pred"
    plan = surgery.plan(COCO, ("car",), RELATION)
    one_box = state | {f"{head}.{kind}": state[f"{head}.{kind}"][:4] for kind in ("weight", "bias")}
    with pytest.raises(CheckpointError, match=r"found 4x1024, one box for all classes - repeat the 4 rows 91 times"):
        surgery.apply(one_box, plan)
    repeated = {f"{head}.weight": one_box[f"{head}.weight"].repeat(91, 1)}
    assert torch.equal(surgery.apply(repeated, plan)[f"{head}.weight"][4:], one_box[f"{head}.weight"])


def test_a_head_that_the_model_does_not_have_is_dropped_whatever_its_number_of_rows(source):
    state = source.state_dict() | {"auxiliary.box_predictor.cls_score.weight": torch.zeros(7, 3)}
    report = surgery.load(build_model(spec(("car",))), state, surgery.plan(COCO, ("car",), RELATION))
    assert [line.key for line in report.tensors if line.status == "unused"] == list(state)[-1:]


def test_a_detector_without_masks_starts_one_with_masks(capsys):
    faster = build_model(spec(("car", "person"), "fasterrcnn_mobilenet_v2_fpn"))
    masked = build_model(spec(("person",), "maskrcnn_mobilenet_v2_fpn"))
    report = surgery.load(masked, faster.state_dict(), surgery.plan(("car", "person"), ("person",), {}))
    new = {line.key for line in report.tensors if line.status == "reset"}
    assert new and all(".mask_" in key for key in new)


def test_keys_of_older_checkpoints_and_of_wrappers_are_translated():
    old = {
        "module.backbone.fpn.inner_blocks.0.weight": torch.ones(1),
        "module.rpn.head.conv.bias": torch.ones(1),
        "module.roi_heads.mask_head.mask_fcn2.weight": torch.ones(1),
        "module.backbone.body.conv1.weight": torch.ones(1),
    }
    assert set(surgery.modern_keys(old)) == {
        "backbone.fpn.inner_blocks.0.0.weight",
        "rpn.head.conv.0.0.bias",
        "roi_heads.mask_head.1.0.weight",
        "backbone.body.conv1.weight",
    }
