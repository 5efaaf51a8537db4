"""The laws of tests/helpers/format_laws.py for every registered footage format."""

from __future__ import annotations

from pathlib import Path

import pytest
from format_cases import CASES
from format_laws import LAWS, check_law

from drivetl.adapters.footage import FORMATS


def test_every_registered_format_has_a_case() -> None:
    assert set(CASES) == set(FORMATS), "add a FormatCase to tests/helpers/format_cases.py"


def test_exemptions_name_a_law_and_give_a_reason() -> None:
    for case in CASES.values():
        assert set(case.exempt) <= set(LAWS)
        assert all(len(reason.split()) > 3 for reason in case.exempt.values())


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("format_name", CASES)
def test_law(format_name: str, law: str, tmp_path: Path) -> None:
    check_law(law, format_name, CASES[format_name], tmp_path)
