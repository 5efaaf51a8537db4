"""The study `select`: its frames, and its jobs on a few frames of the real data."""

import shutil
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from drivetl.coco.io import read_dataset

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "cityscapes_400"


@pytest.fixture
def study(monkeypatch):
    """The study's module."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
    import studies.select

    return studies.select


def test_law_even_steps_cover_the_pool_once(study):
    for n_frames, count in ((221, 25), (221, 50), (50, 50), (7, 1)):
        for seed in range(3):
            places = study.evenly(n_frames, count, seed)
            assert len(set(places)) == count and 0 <= min(places) <= max(places) < n_frames
            steps = {later - earlier for earlier, later in pairwise(places)}
            assert max(steps, default=1) - min(steps, default=1) <= 1


@pytest.fixture
def real(tmp_path):
    """A folder like the shared one, with a few frames of the source and of both recordings of strasbourg."""
    if not REAL.is_dir():
        pytest.skip("needs shared/data/cityscapes_400")
    names = sorted(path.stem for path in (REAL / "images").iterdir())
    few = [name for prefix in ("aachen", "strasbourg_000000", "strasbourg_000001") for name in _some(names, prefix)]
    for folder, suffix in (("images", ".jpg"), ("labels", ".txt")):
        (tmp_path / "shared" / "cityscapes_400" / folder).mkdir(parents=True)
        for name in few:
            target = tmp_path / "shared" / "cityscapes_400" / folder / f"{name}{suffix}"
            shutil.copy(REAL / folder / f"{name}{suffix}", target)
    shutil.copy(REAL / "data.yaml", tmp_path / "shared" / "cityscapes_400")
    return tmp_path


def _some(names, prefix):
    return [name for name in names if name.startswith(prefix)][:60:2]


def test_the_jobs_of_the_real_data(study, real, source, capsys, monkeypatch):
    monkeypatch.setattr(study, "COUNTS", (3, 5))
    monkeypatch.setattr(study, "MOST", 5)
    monkeypatch.setattr(study.city, "EPOCHS", {3: 1, 5: 1})
    out = real / "study"
    before = study.jobs(real / "shared", out)
    assert len(before) == 1 + 2 * 3 * 2 and "added when the source is finished" in capsys.readouterr().err
    shutil.copytree(source[1], out / "runs" / "cities")
    (out / "runs" / "cities" / "README.md").touch()
    jobs = study.jobs(real / "shared", out)
    assert len({job.name for job in jobs}) == len(jobs) == 1 + 2 * 3 * 3
    for job in jobs[1:]:
        images = read_dataset(Path(str(job.flags["data.train"]))).images
        assert len(images) == int(job.name.split("_")[1])
        assert all("strasbourg_000001" in image.file_name for image in images)
        assert any(image.annotations for image in images)
    by_name = {job.name: {i.file_name for i in read_dataset(Path(str(job.flags["data.train"]))).images} for job in jobs}
    assert by_name["select_3_select_0"] < by_name["select_5_select_0"] == by_name["select_5_select_2"]
    assert by_name["select_5_random_0"] != by_name["select_5_random_1"]
    assert study.tables(jobs, out) == []
