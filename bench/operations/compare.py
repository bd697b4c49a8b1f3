"""Race siglin against NumPy and Cython, interleaved in one process.

    python bench/operations/compare.py [--quick] [--only TEXT] [--rounds N] [--threads N]
                            [--markdown [FILE]]

Prints one line per (operation, shape, dtype): the best and the median time per call (of
fit and iris: per step) in microseconds, and how many times siglin's best time goes into
the best of NumPy and into that of Cython. The exit code is 1 when a row misses its bar.
"""

import argparse
import gc
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter, process_time
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import environment

DROPPED = environment.drop_openblas_overrides()

# NumPy may only be loaded from here on.
import cython_build
from cases import OPERATIONS, Case, cases

FIGURES = Path(__file__).with_name("figures.md")

# A contender that is this slow, in seconds a timing, is not timed again: the noise is
# small beside it, and the large shapes would take an hour.
SLOW = 1.0


class Row(NamedTuple):
    """The seconds per call of each contender at one case, one for each round."""

    case: Case
    times: dict[str, list[float]]

    def best(self, *names: str) -> float | None:
        """Return the best time of these contenders; None where none took part."""
        found = [min(self.times[name]) for name in names if self.times.get(name)]
        return min(found, default=None)

    def ratio(self, *names: str) -> float | None:
        """Return how many of siglin's best times the best time of these takes."""
        rival, own = self.best(*names), self.best("siglin")
        return None if rival is None or own is None else rival / own

    @property
    def numpy_ratio(self) -> float | None:
        """NumPy is the faster one of the plain expressions and siglin.reference."""
        return self.ratio("numpy", "reference")

    @property
    def cython_ratio(self) -> float | None:
        return self.ratio("cython")

    def missed(self) -> list[str]:
        """Return the bars that this row misses, in words."""
        numpy_bar, cython_bar = bars(self.case)
        found = []
        for name, ratio, bar in (
            ("NumPy", self.numpy_ratio, numpy_bar),
            ("Cython", self.cython_ratio, cython_bar),
        ):
            if bar is not None and ratio is not None and ratio < bar:
                found.append(f"{ratio:.3f} < {bar:g} x {name}")
        return found


def bars(case: Case) -> tuple[float | None, float | None]:
    """Return the ratios to NumPy and to Cython that a case has to reach.

    Large products are near the hardware's limit for everybody, and OpenBLAS is there.
    The others are shown without a bar: they are parts of a fit step.
    """
    if case.op == "iris":
        return 20.0, None
    barred = {
        *("forward", "forward_out", "dense_forward", "backward"),
        *("predict", "predict_out", "fit", "fit_softmax", "fit_adam", "fit_batches"),
    }
    if case.op not in barred:
        return None, None
    return (0.8, None) if case.size == "large" else (1.0, 1.0)


def race(
    case: Case, names: Sequence[str], rounds: int, clock: Callable[[], float]
) -> Row:
    """Check the contenders at a case, then time them in turns.

    Every timing starts from fresh arguments, after one call that is not timed. The order
    is drawn anew for every round, so that none always runs in the wake of the same one.
    """
    for name in names:
        case.check(name)
    times: dict[str, list[float]] = {name: [] for name in names}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(names, len(names)):
            if times[name] and times[name][0] * case.calls > SLOW:
                continue
            case.bind(name, 1)()
            run = case.bind(name, case.calls)
            gc.disable()
            start = clock()
            run()
            seconds = clock() - start
            gc.enable()
            times[name].append(seconds / case.calls)
    return Row(case, times)


HEADINGS = (
    *("operation", "shape", "dtype"),
    *("siglin us", "NumPy us", "reference us", "Cython us"),
    *("NumPy / siglin", "Cython / siglin", "bar"),
)


def cells(row: Row) -> tuple[str, ...]:
    def us(seconds: float) -> str:
        return f"{seconds * 1e6:.0f}" if seconds >= 1e-4 else f"{seconds * 1e6:.3g}"

    def time(name: str) -> str:
        values = row.times.get(name)
        return f"{us(min(values))} ({us(statistics.median(values))})" if values else "-"

    def ratio(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    verdict = "" if bars(row.case) == (None, None) else "ok"
    return (
        *(row.case.op, str(row.case.shape), row.case.dtype),
        *(time("siglin"), time("numpy"), time("reference"), time("cython")),
        *(ratio(row.numpy_ratio), ratio(row.cython_ratio)),
        "MISSED: " + ", ".join(row.missed()) if row.missed() else verdict,
    )


# Of the columns on the terminal, whose lines are printed as they come.
WIDTHS = (15, 27, 7, 15, 15, 17, 17, 14, 15, 0)
NUMBERS = range(3, 9)  # the columns set flush right


def aligned(texts: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        text.rjust(width) if column in NUMBERS else text.ljust(width)
        for column, (text, width) in enumerate(zip(texts, widths, strict=True))
    ]


def line(texts: Sequence[str]) -> str:
    return "  ".join(aligned(texts, WIDTHS)).rstrip()


def markdown(rows: Sequence[Row], conditions: dict[str, str]) -> str:
    """Return the whole report as Markdown."""
    lines = [
        "# Latest figures",
        "",
        "Written by `python bench/operations/compare.py --markdown`.",
    ]
    lines += ["How to read them: [README.md](../README.md).", ""]
    lines += [f"- {key}: {value}" for key, value in conditions.items()]
    table = [HEADINGS, *map(cells, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    dashes = [
        "-" * (width - 1) + (":" if column in NUMBERS else "-")
        for column, width in enumerate(widths)
    ]
    padded = [aligned(texts, widths) for texts in table]
    lines += [
        "",
        *(f"| {' | '.join(row)} |" for row in [padded[0], dashes, *padded[1:]]),
    ]
    return "\n".join([*lines, "", summary(rows), ""])


def summary(rows: Sequence[Row]) -> str:
    barred = [row for row in rows if bars(row.case) != (None, None)]
    missed = [row for row in barred if row.missed()]
    return f"{len(barred) - len(missed)} of {len(barred)} rows with a bar reach it."


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Race siglin against NumPy and Cython, interleaved in one process."
    )
    parser.add_argument(
        "--quick", action="store_true", help="3 rounds, and no large shapes"
    )
    parser.add_argument(
        "--only",
        metavar="TEXT",
        default="",
        help='only cases whose "size operation shape dtype" holds TEXT',
    )
    parser.add_argument("--rounds", type=int, help="default: 7, with --quick 3")
    parser.add_argument(
        "--threads", type=int, default=1, help="of siglin and of BLAS (default: 1)"
    )
    parser.add_argument(
        "--markdown",
        metavar="FILE",
        type=Path,
        nargs="?",
        const=FIGURES,
        help=f"write the table to FILE as well (default: {FIGURES.name} beside this)",
    )
    return parser.parse_args()


def main() -> int:
    args = arguments()
    environment.set_threads(args.threads)
    # On one thread the processor time is the time of an idle machine: it leaves out what
    # other processes took.
    clock = process_time if args.threads == 1 else perf_counter
    rounds = args.rounds or (3 if args.quick else 7)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    conditions = environment.describe() | {"date": now, "rounds": str(rounds)}
    conditions["clock"] = clock.__name__
    if DROPPED:
        conditions["unset, as they slow NumPy"] = ", ".join(DROPPED)
    left_out = set()
    try:
        cython_build.load()
    except cython_build.KernelsMissingError as error:
        left_out.add("cython")
        conditions["left out"] = str(error)
    for key, value in conditions.items():
        print(f"{key}: {value}")
    print(
        "times: best (median) of the rounds, per call, in microseconds",
        line(HEADINGS),
        sep="\n\n",
    )
    rows = []
    for case in [case for op in OPERATIONS for case in cases(op)]:
        if args.quick and case.size == "large":
            continue
        if args.only not in case.key:
            continue
        names = [name for name in case.contenders if name not in left_out]
        rows.append(race(case, names, rounds, clock))
        print(line(cells(rows[-1])), flush=True)
    print(summary(rows))
    if args.markdown:
        args.markdown.write_text(markdown(rows, conditions), encoding="utf-8")
    return 1 if any(row.missed() for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
