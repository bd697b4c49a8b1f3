"""Cliffs: what every option costs at every door, as times of the plain step.

    python bench/checks/cliffs.py [--doors TEXT,...] [--networks TEXT,...]
                                  [--options TEXT,...] [--rounds N] [--threads N] [--check]

The plain step is gradient descent on binary cross-entropy (MLPRegressor: on the squared
error), in batches that are not shuffled. For each door and network prints the time of a
plain step, and the time with each option over it: the best of some rounds, in which plain
and options take turns. "-" is an option that this door or network does not have. The exit
code is 1 if a ratio is beyond its bar; such a figure is timed again first, and marked with
"!". A figure that has no bar, such as the shuffling of data that L2 does not hold, stands
in brackets.

With --check everything runs once, briefly, and nothing is judged.
"""

import argparse
import functools
import random
import sys
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import environment

environment.drop_openblas_overrides()

# NumPy may only be loaded from here on.
import siglin
from doors import (
    DOORS,
    ESTIMATORS,
    MANY,
    OPTIONS,
    PLAIN,
    PROBLEMS,
    Option,
    Start,
    accepts,
    bar_of,
    suits,
)

TIMING = 0.02  # seconds of one timing
MORE_ROUNDS = 2  # times as many again before a figure beyond its bar counts
MICROSECOND = 1e-6  # what a schedule or a callback may cost an epoch in any case
WIDTH = 9  # of a column
HOOKS = {one.name for one in OPTIONS if one.by_epoch}


# ---- timing --------------------------------------------------------------------------


class Timer:
    """The best seconds of every start, the rounds interleaved."""

    def __init__(self, starts: dict[str, Start], threads: int) -> None:
        # The time of the process leaves out what others took; it adds up threads.
        self.clock = process_time if threads == 1 else perf_counter
        self.starts = starts
        self.best = dict.fromkeys(starts, float("inf"))
        self.order = random.Random(0)
        self.epochs = 1
        while (taken := self._time("plain")) < TIMING / 2:
            self.epochs *= 2 if taken > TIMING / 20 else 8

    def _time(self, name: str) -> float:
        run = self.starts[name](self.epochs)
        start = self.clock()
        run()
        return self.clock() - start

    def turns(self, names: list[str], rounds: int) -> None:
        for name in names:  # once untimed: caches, and what a first call loads
            self.starts[name](1)()
        for _ in range(rounds):
            for name in self.order.sample(names, len(names)):
                self.best[name] = min(self.best[name], self._time(name) / self.epochs)

    def ratio(self, name: str) -> float:
        return self.best[name] / self.best["plain"]


def is_beyond(timer: Timer, name: str, bar: float | None) -> bool:
    if bar is None or timer.ratio(name) <= bar:
        return False
    more = timer.best[name] - timer.best["plain"]
    return name not in HOOKS or more > MICROSECOND


def measure(
    starts: dict[str, Start], bars: dict[str, float | None], rounds: int, threads: int
) -> tuple[Timer, list[str]]:
    """Time everything; return the times, and what stays beyond its bar."""
    timer = Timer(starts, threads)
    timer.turns([*starts], rounds)
    found: list[str] = []
    for _ in range(1 + MORE_ROUNDS):
        found = [name for name, bar in bars.items() if is_beyond(timer, name, bar)]
        if not found:
            break
        timer.turns(["plain", *found], rounds)
    return timer, [name for name in found if is_beyond(timer, name, bars[name])]


# ---- the command ---------------------------------------------------------------------


def chosen(everything: Any, text: str) -> list[Any]:
    """Return what holds one of the texts between commas."""
    parts = text.split(",")
    return [one for one in everything if any(part in str(one) for part in parts)]


def picked_options(text: str) -> list[Option]:
    names = chosen([one.name for one in OPTIONS], text)
    return [one for one in OPTIONS if one.name in names]


def table_row(name: str, time: str, cells: list[str]) -> str:
    return f"{name:32} {time:>10}" + "".join(f"{cell:>{WIDTH}}" for cell in cells)


def run_door(name: str, args: argparse.Namespace) -> list[str]:
    """Print the table of a door; return lines on what is beyond its bar."""
    options = picked_options(args.options)
    lines: list[str] = []
    headings = [one.name[: WIDTH - 1] for one in options]
    print(f"\n{name}\n{table_row('', 'us a step', headings)}")
    for problem in chosen(PROBLEMS, args.networks):
        make = functools.partial(DOORS[name], problem, threads=args.threads)
        plain = make(PLAIN)
        if plain is None:
            continue
        starts = {"plain": plain}
        for one in options:
            start = make(one) if suits(problem, one, name) else None
            # A name or a function that this door does not know, perhaps.
            unsure = name in ESTIMATORS or "lr" in one.settings
            if start is not None and (not unsure or accepts(start)):
                starts[one.name] = start
        if args.check:
            for start in starts.values():
                start(2)()
            cells = ["ok" if one.name in starts else "-" for one in options]
            print(table_row(str(problem), "", cells), flush=True)
            continue
        bars = {one.name: bar_of(problem, one) for one in options if one.name in starts}
        timer, beyond = measure(starts, bars, args.rounds, args.threads)
        cells = []
        for one in options:
            if one.name not in starts:
                cells.append("-")
                continue
            ratio = timer.ratio(one.name)
            bar = bars[one.name]
            if one.name in beyond:
                cells.append(f"{ratio:.2f}!")
                added = (timer.best[one.name] - timer.best["plain"]) * 1e6
                lines.append(
                    f"{name}, {problem}: {one.name} takes {ratio:.2f} times the plain "
                    f"step, more than {bar}"
                    + (f" (and {added:.1f} us an epoch)" if one.by_epoch else "")
                )
            else:
                cells.append(f"({ratio:.2f})" if bar is None else f"{ratio:.2f}")
        units = problem.steps * (MANY * args.threads if name == "fit_many" else 1)
        step = timer.best["plain"] / units * 1e6
        print(table_row(str(problem), f"{step:.2f}", cells), flush=True)
    return lines


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Time every option beside the plain step, at every door."
    )
    for name, everything in (
        ("doors", ", ".join(DOORS)),
        ("networks", "such as 4-16-3"),
        ("options", ", ".join(one.name for one in OPTIONS)),
    ):
        parser.add_argument(
            f"--{name}",
            metavar="TEXT,...",
            default="",
            help=f"only those that hold one of the texts ({everything})",
        )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--check", action="store_true", help="run everything briefly, judge nothing"
    )
    return parser.parse_args()


def main() -> int:
    args = arguments()
    environment.set_threads(args.threads)
    print(
        f"{environment.cpu_name()}, siglin {siglin.target()}, {args.threads} thread(s); "
        "times of the plain step"
    )
    lines: list[str] = []
    exact = [name for name in DOORS if name in args.doors.split(",")]
    for name in exact or chosen(DOORS, args.doors):
        try:
            lines += run_door(name, args)
        except ImportError as error:  # noqa: PERF203 - the other doors go on
            print(f"{name}: left out, {error}")
    print("", *lines, sep="\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
