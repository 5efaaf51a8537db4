import subprocess
import sys

import numpy as np
import pytest
from published_robustness import PRINTED, cells_of

from drivetl.metrics.aggregates import mpc_draws, summarize

NAN = float("nan")


@pytest.mark.parametrize("name", PRINTED)
def test_published_rows_come_out_as_printed(name):
    text, clean, printed = PRINTED[name]
    summary = summarize(cells_of(text), clean / 100)
    assert summary.complete and summary.n_cells == 75
    assert tuple(round(100 * value, 1) for value in (summary.clean, summary.mpc, summary.rpc)) == printed


def test_the_contract_is_importable_without_torch():
    code = "import sys; from drivetl.robustness import summarize; assert 'torch' not in sys.modules; "
    code += "row = summarize({'fog': {1: 0.25}}, 0.5); assert (row.mpc, row.rpc) == (0.25, 0.5)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ratio_of_means_and_the_worst():
    summary = summarize({"fog": {1: 0.4, 2: 0.2}, "rain": {1: 0.5, 2: 0.5}}, clean=0.8)
    assert summary.mpc == pytest.approx(0.4)
    assert summary.rpc == pytest.approx(0.5)
    assert (summary.worst_condition, summary.worst) == ("fog", pytest.approx(0.3))
    assert summary.cvar20 == pytest.approx(0.2)
    assert summary.rce["rain"] == pytest.approx(0.375)
    assert summary.auc["fog"] == pytest.approx((0.6 + 0.3) / 2)
    assert summary.label == "mPC"


def test_cells_that_were_not_run_do_not_count_as_zero():
    summary = summarize({"fog": {1: 0.4, 2: NAN}, "rain": {1: 0.6}}, clean=0.8)
    assert summary.label == "mPC over 2 of 4 cells"
    assert summary.mpc == pytest.approx(0.5)
    nothing = summarize({}, clean=0.8)
    assert np.isnan([nothing.mpc, nothing.rpc, nothing.worst, nothing.cvar20]).all()
    assert np.isnan(summarize({"fog": {1: 0.4}}, clean=0.0).rpc)


def test_severity_zero_is_clean_and_not_a_cell():
    with_clean = summarize({"fog": {0: 0.8, 1: 0.4}}, clean=0.8)
    assert with_clean.mpc == summarize({"fog": {1: 0.4}}, clean=0.8).mpc


def test_draws_aggregate_like_points():
    draws = {"fog": {1: np.array([0.4, 0.2]), 2: np.array([0.2, 0.2])}, "rain": {1: np.array([0.5, 0.6])}}
    np.testing.assert_allclose(mpc_draws(draws), [0.4, 0.4])
