"""Laws of the check that evaluated images are not trained on."""

from drivetl.coco import hashes
from drivetl.training import separate


def test_law_copies_are_found_and_only_files_of_one_size_and_end_are_read(tmp_path, monkeypatch):
    texts = {"a": "same", "b": "other", "copy": "same", "like": "diff", "long": "much longer", "both": "in both sides"}
    long = "x" * separate.END
    texts |= {"big": "a" + long, "big copy": "a" + long, "big like": "b" + long}
    files = {name: tmp_path / name for name in texts}
    for name, text in texts.items():
        files[name].write_text(text)
    read = []
    monkeypatch.setattr(separate, "file_hash", lambda file: read.append(file.name) or hashes.file_hash(file))
    ours = dict.fromkeys(files[name] for name in ("a", "b", "both", "big")) | {tmp_path / "missing": None}
    theirs = dict.fromkeys(files[name] for name in ("copy", "like", "long", "both", "big copy", "big like"))
    theirs[tmp_path / "missing too"] = None
    assert separate.copies(ours, theirs) == {
        files["a"]: files["copy"],
        files["both"]: files["both"],
        files["big"]: files["big copy"],
    }
    assert sorted(read) == ["a", "big", "big copy", "big like", "copy"], "neither a file of both sides nor another end"
    assert separate.copies({}, theirs) == separate.copies(ours, {}) == {}
    assert list(separate.copies(theirs, theirs)) == list(theirs), "a missing file is that of the other side by its name"


def test_law_empty_files_and_names_do_not_matter(tmp_path):
    for name in ("one", "two", "same name"):
        (tmp_path / name).touch()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "same name").write_text("more")
    ours, theirs = dict.fromkeys([tmp_path / "one"]), dict.fromkeys([tmp_path / "two"])
    assert separate.copies(ours, theirs) == {tmp_path / "one": tmp_path / "two"}
    named = dict.fromkeys([tmp_path / "more" / "same name"])
    assert separate.copies(named, dict.fromkeys([tmp_path / "same name"])) == {}
