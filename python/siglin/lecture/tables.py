"""Plain-text tables."""

from collections.abc import Sequence


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the rows under their header, in columns.

    Parameters
    ----------
    header : sequence of str
        One title per column.
    rows : sequence of sequence of str
        Cells, as many to a row as there are titles.

    Returns
    -------
    str
        The first column is aligned to the left, the others to the right.

    Raises
    ------
    ValueError
        If a row has more or fewer cells than the header.

    Examples
    --------
    >>> from siglin.lecture.tables import format_table
    >>> print(format_table(["name", "value"], [["h1", "0.5"], ["total", "12.5"]]))
    name   value
    h1       0.5
    total   12.5
    """
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
