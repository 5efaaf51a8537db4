"""Everything about the package stands in pyproject.toml; this only puts datasets/ and configs/ into the wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent


class BuildWithShippedFiles(build_py):
    """Copies the taxonomies and configs beside the modules, where `drivetl.files.shipped` looks for them."""

    def run(self) -> None:
        super().run()
        if getattr(self, "editable_mode", False):
            return
        for folder in ("datasets", "configs"):
            target = Path(self.build_lib) / "drivetl" / "_shipped" / folder
            shutil.copytree(HERE / folder, target, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithShippedFiles})
