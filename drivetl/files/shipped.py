"""Files that drivetl ships beside its code: taxonomies, published splits, configs."""

from __future__ import annotations

from pathlib import Path

from drivetl.errors import ConfigError

_PACKAGE = Path(__file__).parents[1]


def shipped(name: str) -> Path:
    """The path of a shipped file or folder, such as `datasets/kitti/taxonomy.yaml`, whatever the current folder.

    In a checkout (also an editable install) it is the file of the repository; in a wheel the copy inside the
    package. Raises ConfigError when it is in neither.
    """
    places = (_PACKAGE.parent / name, _PACKAGE / "_shipped" / name)
    # A wheel's parent is site-packages, where `datasets` may be somebody else's package: ours has this sibling.
    candidates = places if (_PACKAGE.parent / "pyproject.toml").is_file() else places[1:]
    for path in candidates:
        if path.exists():
            return path
    raise ConfigError(f"{name} is not part of this installation", remedy="reinstall drivetl")
