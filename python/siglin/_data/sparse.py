"""Sparse rows: what a network takes of SciPy's matrices, without importing SciPy."""

from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from siglin import _core
from siglin._data.arrays import FLOAT32, FLOAT64, Array, ArrayLike, DType, plain
from siglin.errors import DTypeError, ShapeError

# So few numbers, zeros included, are as well dense: 2 MB of float64.
DENSE_ELEMENTS = 2**18


class SparseLike(Protocol):
    """One of SciPy's sparse matrices or arrays, or alike."""

    @property
    def nnz(self) -> int: ...
    def tocsr(self) -> Any: ...


RowsLike: TypeAlias = ArrayLike | SparseLike


class SparseRows(_core.CsrRows):
    """Rows in compressed sparse row form (CSR), for a network.

    Parameters
    ----------
    matrix : scipy.sparse.csr_matrix or csr_array, shape (rows, cols)
        Of float32 or float64. Its values are not copied where they are plain.
    """

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix
        self.shape: tuple[int, int] = matrix.shape
        self.values: Array = plain("siglin", "x", matrix.data, matrix.dtype)
        self.starts = np.array(matrix.indptr, np.int64)
        columns = matrix.indices
        if columns.size and not 0 <= columns.min() <= columns.max() < self.shape[1]:
            raise ValueError(f"x has a column out of range in {self.shape}")
        # Copies: whoever writes into the matrix meanwhile changes no more than numbers.
        super().__init__(
            self.values, columns.astype(np.int32), self.starts, self.shape[1]
        )

    def __getitem__(self, rows: Any) -> "SparseRows":
        return SparseRows(self.matrix[rows])

    def compact(self) -> tuple[npt.NDArray[np.intp], Array]:
        """Return the columns that are not all 0, at least one, and the rows there."""
        present = np.union1d([0], self.matrix.indices).astype(np.intp)
        rows: Array = self.matrix[:, present].toarray()
        return present, rows

    def place_of(self, index: int) -> tuple[int, int]:
        """Return the row and the column of a value."""
        row = int(np.searchsorted(self.starts, index, "right")) - 1
        return row, int(self.matrix.indices[index])


Rows: TypeAlias = Array | SparseRows


def is_sparse(value: object) -> bool:
    """Tell whether this is SparseLike."""
    return hasattr(value, "nnz") and hasattr(value, "tocsr")


def sparse_rows(function: str, value: Any, dtype: DType, cols: int) -> Rows:
    """Return a sparse matrix as rows of a network; small ones are dense.

    Raises
    ------
    ShapeError, DTypeError
        If it has another number of columns or dimensions, or is of the other float dtype
        or of no numbers.
    """
    if value.ndim != 2 or value.shape[1] != cols:
        msg = f"{function}: x must have {cols} columns, got shape {value.shape}"
        raise ShapeError(msg)
    given = np.dtype(value.dtype)
    native = given.newbyteorder("=")
    if native in (FLOAT32, FLOAT64) and native != dtype:
        msg = f"{function}: x must be {dtype} like the network, got {given}"
        raise DTypeError(msg)
    if given.kind not in "biuf" or given.itemsize > FLOAT64.itemsize:
        raise DTypeError(f"{function}: x must be float32 or float64, got {given}")
    return rows_of(value, dtype)


def rows_of(matrix: Any, dtype: npt.DTypeLike) -> Rows:
    """Return a sparse matrix as rows of a dtype; small ones are dense."""
    matrix = matrix.tocsr().astype(dtype, copy=False)
    if not matrix.has_canonical_format:  # columns that come twice, or in any order
        matrix = matrix.copy()
        matrix.sum_duplicates()
    rows, cols = matrix.shape
    if rows * cols <= DENSE_ELEMENTS:
        dense: Array = matrix.toarray()
        return dense
    return SparseRows(matrix)
