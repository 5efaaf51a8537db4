"""npz files: what was written comes back; a damaged file, or one that claims more than it has, is a ValueError."""

import contextlib
import io
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from drivetl.files.arrays import read_npz

DTYPES = (np.int64, np.int32, np.float32, np.float64, np.dtype("U7"), np.dtype("S3"))


def packed(**columns):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns)
    return buffer.getvalue()


def header(shape):
    """An npz file with one array of this claimed shape and 16 bytes of content."""
    column, buffer = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(column, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("scores.npy", column.getvalue() + bytes(16))
    return buffer.getvalue()


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=5))
    )
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_written_comes_back(tmp_path, array):
    path = tmp_path / "a.npz"
    path.write_bytes(packed(first=array, second=np.asfortranarray(array)))
    read = read_npz(path)
    for name in ("first", "second"):
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
        assert read[name].flags.writeable


@pytest.mark.parametrize("shape", [(10**12,), (2**62, 2**62), (3,), (-2,), (-1, -2)])
def test_an_array_that_claims_more_than_it_has_is_not_created(tmp_path, shape):
    path = tmp_path / "a.npz"
    path.write_bytes(header(shape))
    with pytest.raises(ValueError, match="claims"):
        read_npz(path)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 10_000))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_bytes_are_a_value_error_or_other_arrays(tmp_path, changes, end):
    data = bytearray(packed(keys=np.array(["a", "b"]), boxes=np.zeros((2, 4), np.float32)))
    for position, value in changes:
        data[position % len(data)] = value
    path = tmp_path / "a.npz"
    path.write_bytes(data[: end % (2 * len(data))])
    with contextlib.suppress(ValueError):
        assert isinstance(read_npz(path), dict)
