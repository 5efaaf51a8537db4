"""Rows and columns in pairs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def one_to_one(similar: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """(A, A) -> (A,) for every row a column of its own, with the highest sum; equal sums keep the order.

    The Hungarian method: rows join one by one, each by the shortest path of exchanges among those already paired. The
    potentials keep every cost at 0 or above and that of every pair at 0. Row and column 0 stand for none.
    """
    size = len(similar)
    cost = np.pad(-similar, ((1, 0), (1, 0)))
    row_potential, column_potential = np.zeros(size + 1), np.zeros(size + 1)
    row_of = np.zeros(size + 1, np.int64)
    for row in range(1, size + 1):
        distance, via = np.full(size + 1, np.inf), np.zeros(size + 1, np.int64)
        reached = np.zeros(size + 1, np.bool_)
        row_of[0], column = row, 0
        while row_of[column]:
            reached[column] = True
            current = row_of[column]
            through = cost[current] - row_potential[current] - column_potential
            closer = ~reached & (through < distance)
            distance[closer], via[closer] = through[closer], column
            column = int(np.where(reached, np.inf, distance).argmin())
            step = distance[column]
            row_potential[row_of[reached]] += step
            column_potential[reached] -= step
            distance[~reached] -= step
        while column:
            row_of[column] = row_of[via[column]]
            column = int(via[column])
    return np.argsort(row_of[1:])
