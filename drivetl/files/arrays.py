"""Arrays from outside: compressed files (npz) whose claimed sizes are not trusted, and arguments of functions."""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from drivetl.errors import DataError
from drivetl.files.images import described

MAX_BYTES = 1 << 31
"""A file is refused when its arrays would be larger unpacked."""


def numbers(value: Any, name: str, shape: tuple[int | str, ...], *, whole: bool = False) -> npt.NDArray[Any]:
    """An argument as an array of numbers or booleans, not copied if it is one.

    shape: of each axis its length, or a letter for any length; an empty value gets the length 0 there. whole: only
    whole numbers, of any type. Raises DataError that says what the value is and what is expected.
    """
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError):  # rows of different lengths, a tensor on another device
        array = np.empty((), object)
    if array.size == 0 and array.dtype != object:
        return array.reshape([side if isinstance(side, int) else 0 for side in shape])
    fits = array.ndim == len(shape) and all(
        isinstance(side, str) or side == length for side, length in zip(shape, array.shape, strict=True)
    )
    if array.dtype.kind not in "biuf" or not fits:
        given = described(value if array.dtype == object else array)
        raise DataError(f"{name} is {given}", remedy=f"pass numbers of shape ({', '.join(map(str, shape))})")
    if whole and array.dtype.kind == "f" and not (array == np.round(array)).all():
        raise DataError(f"{name} is {described(array)}, which are not whole numbers", remedy="pass whole numbers")
    return array


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an npz file by name; no pickle is read.

    An array is only created when its bytes are there: a header may claim terabytes. Raises ValueError for a missing
    or damaged file, and for one over 2 GiB unpacked.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as packed:
            members = packed.infolist()
            if sum(member.file_size for member in members) > MAX_BYTES:
                raise ValueError("larger than any detections")
            arrays = {}
            for member in members:
                with packed.open(member) as stream:
                    arrays[member.filename.removesuffix(".npy")] = _read_array(stream)
            return arrays
    # RuntimeError: encrypted, or compressed in an unknown way
    except (OSError, EOFError, RuntimeError, MemoryError, struct.error, zlib.error, zipfile.BadZipFile) as error:
        raise ValueError(str(error)) from None


def _read_array(stream: IO[bytes]) -> npt.NDArray[Any]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(stream)
    if dtype.hasobject:
        raise ValueError("an array holds Python objects")
    data = stream.read()
    if math.prod(shape) * dtype.itemsize != len(data) or any(side < 0 for side in shape):
        raise ValueError(f"an array claims {math.prod(shape) * dtype.itemsize} bytes and has {len(data)}")
    return np.ndarray(shape, dtype, data, order="F" if fortran_order else "C").copy()
