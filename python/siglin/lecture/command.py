"""The main job, ``python -m siglin``: its options, its exit code and its last line."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import siglin

from . import goldens, report
from .checks import Checks


def main(argv: Sequence[str] | None = None) -> int:
    """Run the lecture and return the exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Command-line arguments; None takes those of the process.

    Returns
    -------
    int
        0 where everything matched the golden values, 1 where something did not, 2 where
        pictures were asked for and cannot be drawn or written.

    Raises
    ------
    SystemExit
        After ``--help`` (code 0) and for arguments that do not make sense (code 2).
    """
    options = _parser().parse_args(argv)
    if options.plots is not None and (problem := _no_plots(options.plots)):
        print(problem, file=sys.stderr)
        return 2
    checks = Checks()
    print(
        f"siglin {siglin.__version__} on target {siglin.target()}, "
        f"NumPy {np.__version__}, float64"
    )
    example = report.worked_example_section(checks)
    descents = report.sanity_run_section(checks)
    neuron = report.iris_neuron_section(checks, options.timed_updates)
    scores = report.decision_grid_section(checks, neuron)
    report.activations_section(checks)
    report.layers_section(checks)
    report.perceptron_section(checks)
    report.regression_section(checks)
    if options.plots is not None:
        from .pictures import write_pictures  # noqa: PLC0415  matplotlib is optional

        report.heading("Pictures")
        try:
            paths = write_pictures(
                options.plots,
                example=example,
                descents=descents,
                theta=np.asarray(neuron.theta, np.float64),
                scores=scores,
            )
        except OSError as error:
            print(f"cannot write the pictures: {error}", file=sys.stderr)
            return 2
        print("\n".join(str(path) for path in paths))
    return _verdict(checks)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m siglin",
        description=(
            "Run the examples of the lecture on neurons, networks and backpropagation, "
            "print them, and compare them with the lecture's golden values. It takes "
            "some seconds, nearly all of them in the NumPy loop that the native training "
            "is timed against."
        ),
        epilog=(
            "Exit code: 0 if everything matched, 1 if something did not, 2 if the "
            "arguments are wrong or the pictures cannot be drawn."
        ),
    )
    parser.add_argument(
        "--plots",
        metavar="DIR",
        type=Path,
        help=(
            "also draw the lecture's pictures as PNG files into DIR, which is made if "
            'need be (needs matplotlib: pip install "siglin[plot]")'
        ),
    )
    parser.add_argument(
        "--timed-updates",
        metavar="N",
        type=_count,
        default=goldens.IRIS_UPDATES,
        help=(
            "time the native training and the NumPy loop over the first N updates only "
            "(default: all %(default)s)"
        ),
    )
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {count}")
    return count


def _no_plots(directory: Path) -> str | None:
    """Return why no pictures can be written there, or None; make the directory."""
    try:
        import matplotlib  # noqa: F401, PLC0415  optional
    except ModuleNotFoundError:
        return '--plots needs matplotlib: pip install "siglin[plot]"'
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"--plots cannot use the directory: {error}"
    return None


def _verdict(checks: Checks) -> int:
    print()
    for failure in checks.failures:
        print(failure)
    if checks.failures:
        print(
            f"{len(checks.failures)} of {checks.count} comparisons with the lecture's "
            "golden values failed."
        )
        return 1
    print(f"All {checks.count} comparisons with the lecture's golden values match.")
    return 0
