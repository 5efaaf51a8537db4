"""Laws of the check that evaluated images are not trained on."""

from drivetl.coco import hashes
from drivetl.training import separate


def test_law_copies_are_found_and_a_file_is_read_only_where_the_other_side_has_its_size(tmp_path, monkeypatch):
    texts = {"a": "same", "b": "other", "copy": "same", "like": "diff", "long": "much longer", "both": "in both sides"}
    files = {name: tmp_path / name for name in texts}
    for name, text in texts.items():
        files[name].write_text(text)
    read = []
    monkeypatch.setattr(separate, "file_hash", lambda file: read.append(file.name) or hashes.file_hash(file))
    ours = dict.fromkeys(files[name] for name in ("a", "b", "both")) | {tmp_path / "missing": None}
    theirs = dict.fromkeys(files[name] for name in ("copy", "like", "long", "both"))
    assert list(separate.copies(ours, theirs)) == [files["a"], files["both"]]
    assert sorted(read) == ["a", "both", "copy", "like"]
    assert separate.copies({}, theirs) == separate.copies(ours, {}) == {}
