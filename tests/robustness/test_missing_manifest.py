"""UNVERIFIED names the model that lacks an augmentation manifest."""

import yaml

from drivetl.robustness.held_out import missing_manifest

KNOWN = {"version": 1, "preset": "none", "transforms": [], "ancestors": []}


def test_law_the_ancestor_without_a_manifest_is_named(tmp_path):
    run, source = tmp_path / "run", tmp_path / "source"
    for folder, start in ((run, str(source)), (source, "weights/old.pth")):
        folder.mkdir()
        (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"start": start}}))
    assert missing_manifest(run, KNOWN) == ""
    assert missing_manifest(run, None) == "the run has no augmentation manifest"
    parent = KNOWN | {"ancestors": [None]}
    assert missing_manifest(source, parent) == "the run's start weights weights/old.pth have no augmentation manifest"
    assert "weights/old.pth" in missing_manifest(run, KNOWN | {"ancestors": [parent]})
    assert missing_manifest(None, parent) == "the detector's start weights have no augmentation manifest"
    assert missing_manifest(None, None) == "the detector has no augmentation manifest"
    assert "an ancestor of the detector" in missing_manifest(None, KNOWN | {"ancestors": [parent]})
