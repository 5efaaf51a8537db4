"""Files that drivetl ships next to its code: taxonomies, published splits, configs."""

from __future__ import annotations

from pathlib import Path

from drivetl.errors import ConfigError

_PACKAGE = Path(__file__).parents[1]


def shipped(name: str) -> Path:
    """The path of a shipped file or folder, such as `datasets/kitti/taxonomy.yaml`, independent of the current folder.

    In a checkout (also an editable install) it is the file of the repository, in a wheel the copy inside the
    package. Raises ConfigError when neither exists.
    """
    locations = (_PACKAGE.parent / name, _PACKAGE / "_shipped" / name)
    # A wheel is in site-packages, where `datasets` may be another package; only a checkout has pyproject.toml.
    candidates = locations if (_PACKAGE.parent / "pyproject.toml").is_file() else locations[1:]
    for path in candidates:
        if path.exists():
            return path
    raise ConfigError(f"{name} is not part of this installation", remedy="reinstall drivetl")
