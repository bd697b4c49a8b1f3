"""Fisher's Iris data, as a part of the package."""

import csv
from importlib.resources import files

import numpy as np
import numpy.typing as npt

SPECIES = ("setosa", "versicolor", "virginica")


def load_iris() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the 150 flowers of Fisher's Iris data and their species.

    Returns
    -------
    x : ndarray, shape (150, 4), float64
        Sepal length, sepal width, petal length and petal width, in centimetres.
    t : ndarray, shape (150,), int64
        The species: 0 setosa, 1 versicolor, 2 virginica; 50 rows of each, in order.

    Notes
    -----
    The values are those of Fisher's table, as in scikit-learn and R. The copy of the
    UCI archive differs from them in two rows.

    References
    ----------
    E. Anderson, "The irises of the Gaspe Peninsula", Bulletin of the American Iris
    Society 59 (1935), 2-5.

    R. A. Fisher, "The use of multiple measurements in taxonomic problems", Annals of
    Eugenics 7 (1936), 179-188.

    Examples
    --------
    >>> from siglin.lecture import load_iris
    >>> x, t = load_iris()
    >>> x.shape, t.shape
    ((150, 4), (150,))
    >>> x[0].tolist(), int(t[0])
    ([5.1, 3.5, 1.4, 0.2], 0)
    """
    text = files(__package__).joinpath("iris.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    rows = list(csv.reader(lines))[1:]  # the first row names the columns
    x = np.array([[float(cell) for cell in row[:4]] for row in rows])
    t = np.array([SPECIES.index(row[4]) for row in rows], dtype=np.int64)
    return x, t
