"""The sentences of `drivetl budget`: targets, and the reason where nothing can be predicted."""

import pytest

from drivetl.label_curve.page import sentences


def sentences_of(frames, why_not=None):
    """The sentences of one regime; frames: point, low, high of a target, of counts from 25 to 200."""
    gain = {"point": 0.01, "low": 0.002, "high": 0.02}
    step = {"frames": 100, "gain": gain, "mostly": None, "per_class": {}}
    target = {
        "value": 0.3,
        "frames": dict(zip(("point", "low", "high"), frames or (), strict=False)),
        "least": 25,
        "most": 400,
    }
    regime = {"next": None if why_not else step, "why_not": why_not, "target": target if frames else None}
    return sentences({"protocol": {"metric": "AP"}, "metrics": {"AP": {"regimes": {"transfer": regime}, "gains": []}}})


@pytest.mark.parametrize(
    "frames, words",
    [
        ((60, 40, 90), "about 60 frames (95 %: 40 to 90)"),
        ((60, 25, None), "about 60 frames (95 %: 25 or fewer to more than 400)"),
        ((25, 25, 25), "at most 25 frames (the smallest count tried)"),
        ((25, 25, 70), "at most 25 frames (the smallest count tried; 95 %: up to 70)"),
        ((None, 150, None), "more than 400 frames (95 %: from 150)"),
        ((None, None, None), "more than 400 frames"),
    ],
)
def test_a_target_never_needs_fewer_frames_than_were_tried(frames, words):
    assert sentences_of(frames)[1] == f"With transfer, AP 30.0 needs {words}."


def test_the_reason_replaces_a_prediction():
    reason = "the points do not follow a saturating curve (off by 2.4 at 200), so nothing is predicted"
    assert sentences_of(None, reason) == [f"transfer: {reason}."]
