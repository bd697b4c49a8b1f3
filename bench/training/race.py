"""Race siglin against NumPy, PyTorch, JAX and scikit-learn: whole training loops.

    python bench/training/race.py [--quick] [--only TEXT] [--rounds N] [--threads N,N]
                         [--clock wall|cpu] [--check] [--roofline]
                         [--markdown [FILE]] [--plot [FILE]]

Each number of threads runs in a process of its own, pinned to as many CPUs. Prints one
line per row: the best time per step in microseconds of everybody, and how many times
siglin's goes into that of the best peer. The exit code is 1 when a row misses its bar, or
when a contender does not come to the same loss.
"""

import argparse
import functools
import gc
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any

# NumPy and the packages that bring a thread pool are imported in `work`, whose process
# has been given its CPUs and its environment by then.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import environment

Clock = Callable[[], float]

REPORT = Path(__file__).with_name("race.md")
PICTURE = Path(__file__).with_name("race.png")

# Seconds that a timing should take. A contender takes as many epochs as that needs, at
# least some; the time of a step does not hang on how many came before. Of siglin's fit the
# beginning is timed too, its memory and its packing, which the peers do beforehand: of a
# single step it would be 4 %.
TIMING, QUICK_TIMING = 0.1, 0.05
FEWEST_EPOCHS = 4

# Seconds before each timing: the idle threads of the one before spin for a while.
REST = 0.02

CLOCKS = {"wall": perf_counter, "cpu": process_time}

# The updates of one timing of the NumPy loop on Iris, of the 234,669 that siglin takes.
IRIS_NUMPY_UPDATES = 5_000


# ---- checking and timing, in the process of one number of threads ---------------------


def differences(found: Iterable[float], expected: Iterable[float]) -> float:
    """Return the largest relative difference; infinity if something is not finite."""
    pairs = zip(found, expected, strict=True)
    each = [abs(f - e) / abs(e) if math.isfinite(f) else math.inf for f, e in pairs]
    return max(each)


# Of Adam, scikit-learn adds eps before the bias correction: its losses differ by 1e-6.
SKLEARN_ADAM = 1e-4
# Where every contender draws its own permutations and masks, losses are alike, not equal.
BY_CHANCE = 0.1


def tolerance(row: Any, name: str) -> float:
    """Return how far a contender's losses may be from NumPy's, relative."""
    if row.is_random:
        return BY_CHANCE
    if name == "scikit-learn" and row.optimizer == "adam":
        return float(max(row.tolerance, SKLEARN_ADAM))
    return float(row.tolerance)


def run_losses(trainer: Any, epochs: int) -> Any:
    return trainer.losses(trainer.start(epochs)(), epochs)


def checked(row: Any, names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the trainers that come to the losses of NumPy's, and lines on the others.

    A row that shuffles or drops is checked without that first, to the same digits as any.
    """
    from race_peers import CONTENDERS  # noqa: PLC0415

    epochs = row.check_epochs
    problems: list[str] = []
    if row.is_random:
        able, problems = checked(row.without_chance(), names)
        names = [name for name in names if name in able]
    trainers = {}
    yardstick = CONTENDERS["NumPy"].trainer(row)
    expected = run_losses(yardstick, epochs)
    moved = differences(run_losses(yardstick, 1), (expected.last, expected.last))
    if not (row.is_random or moved > 10 * row.tolerance):
        problems.append(
            f"{row}: the loss moves by {moved:.1e} only, which checks nothing"
        )
    for name in names:
        trainer = CONTENDERS[name].trainer(row)
        if trainer is None:  # it lacks what the row asks for
            continue
        found = run_losses(trainer, epochs)
        if differences(found, expected) <= tolerance(row, name):
            trainers[name] = trainer
        else:
            problems.append(
                f"{row}: {name} comes to a mean loss of {found.mean:.9g} and a last one "
                f"of {found.last:.9g} instead of {expected.mean:.9g} and "
                f"{expected.last:.9g}; it is not timed"
            )
    return trainers, problems


def timed(run: Callable[[], object], clock: Clock) -> float:
    gc.collect()
    gc.disable()
    sleep(REST)
    start = clock()
    run()
    seconds = clock() - start
    gc.enable()
    return seconds


def epochs_for(trainer: Any, epochs: int, seconds: float, clock: Clock) -> int:
    """Return how many epochs take about so long, at least FEWEST_EPOCHS."""
    while True:
        taken = timed(trainer.start(epochs), clock)
        if taken >= seconds / 2 or taken > 1:
            return max(FEWEST_EPOCHS, round(epochs * seconds / taken))
        epochs = math.ceil(epochs * min(50.0, seconds / max(taken, 1e-7)))


def interleaved(
    starts: Mapping[str, Callable[[], Callable[[], object]]],
    units: Mapping[str, int],
    rounds: int,
    clock: Clock,
) -> dict[str, list[float]]:
    """Time everybody in turns, in an order drawn anew for each round, after a warm-up.

    Returns the seconds per unit, of each round.
    """
    for start in starts.values():
        start()()
    times: dict[str, list[float]] = {name: [] for name in starts}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample([*starts], len(starts)):
            times[name].append(timed(starts[name](), clock) / units[name])
    return times


def race(
    row: Any, names: Sequence[str], rounds: int, seconds: float, clock: Clock
) -> dict[str, Any]:
    """Check the contenders at a row, then time them."""
    trainers, problems = checked(row, names)
    epochs = {
        name: epochs_for(trainer, row.check_epochs, seconds, clock)
        for name, trainer in trainers.items()
    }
    starts = {
        name: functools.partial(trainer.start, epochs[name])
        for name, trainer in trainers.items()
    }
    units = {name: n * row.steps_per_epoch for name, n in epochs.items()}
    return {"times": interleaved(starts, units, rounds, clock), "problems": problems}


def check_iris() -> list[str]:
    """Return what is wrong with the two runs on Iris."""
    import siglin  # noqa: PLC0415
    from siglin.lecture import goldens, iris_neuron  # noqa: PLC0415

    problems = []
    whole = iris_neuron.train(siglin.Neuron(3))
    if whole.updates != goldens.IRIS_UPDATES:
        problems.append(f"Iris: siglin stops after {whole.updates} updates")
    if differences(whole.theta, goldens.IRIS_THETA) > 1e-9:
        problems.append(f"Iris: siglin comes to {whole.theta}")
    part = iris_neuron.train(siglin.Neuron(3), most_updates=IRIS_NUMPY_UPDATES)
    loop = iris_neuron.train_with_numpy(IRIS_NUMPY_UPDATES)
    if differences(loop.theta, part.theta) > 1e-9:
        problems.append(f"Iris: NumPy comes to {loop.theta}, siglin to {part.theta}")
    return problems


def race_iris(rounds: int, clock: Clock) -> dict[str, Any]:
    """Time the lecture's neuron: siglin to the stop rule, NumPy's loop for a part."""
    import siglin  # noqa: PLC0415
    from siglin.lecture import goldens, iris_neuron  # noqa: PLC0415

    def siglin_run() -> Callable[[], object]:
        neuron = siglin.Neuron(3)
        return lambda: iris_neuron.train(neuron)

    def numpy_run() -> Callable[[], object]:
        return lambda: iris_neuron.train_with_numpy(IRIS_NUMPY_UPDATES)

    problems = check_iris()
    times = interleaved(
        {"siglin": siglin_run, "NumPy": numpy_run},
        {"siglin": goldens.IRIS_UPDATES, "NumPy": IRIS_NUMPY_UPDATES},
        rounds,
        clock,
    )
    return {"times": times, "problems": problems}


def race_documents(
    names: Sequence[str], threads: int, rounds: int, clock: Clock
) -> dict[str, Any]:
    """Time the sparse row's two contenders, and compare the memory they take."""
    if "scikit-learn" not in names:
        return {"times": {}, "problems": []}
    import documents  # noqa: PLC0415
    from race_rows import DOCUMENTS  # noqa: PLC0415

    pair = ("siglin", "scikit-learn")
    problems = documents.check()
    steps = documents.EPOCHS * DOCUMENTS.steps_per_epoch
    starts = {name: documents.start(name) for name in pair}
    times = interleaved(starts, dict.fromkeys(pair, steps), rounds, clock)
    taken = documents.memory(threads)
    if taken["siglin"] > taken["scikit-learn"]:
        own, peer = (taken[name] / 1e6 for name in pair)
        problems.append(
            f"{DOCUMENTS}: siglin takes {own:.0f} MB beside its data, scikit-learn "
            f"{peer:.0f} MB"
        )
    return {"times": times, "problems": problems}


def pin(threads: int) -> str:
    """Keep this process to so many CPUs, and say to which."""
    if not hasattr(os, "sched_setaffinity"):
        return "not pinned: this system cannot"
    # The last ones: the first serves more interrupts.
    cpus = sorted(os.sched_getaffinity(0))[-threads:]
    os.sched_setaffinity(0, cpus)
    return f"pinned to CPU {', '.join(map(str, cpus))}"


def work(args: argparse.Namespace, threads: int) -> dict[str, Any]:
    """Run the race with so many threads, and return what came out."""
    pinned = pin(threads)
    dropped = environment.drop_openblas_overrides()
    import race_peers  # noqa: PLC0415
    import race_report as report  # noqa: PLC0415
    import roofline  # noqa: PLC0415
    from race_rows import DOCUMENTS, IRIS, ROWS, data  # noqa: PLC0415

    names, missing = race_peers.available()
    race_peers.configure(threads)
    environment.set_threads(threads)
    packages = ("torch", "jax", "jaxlib", "scikit-learn")
    conditions = environment.describe() | {"threads": f"{threads}, {pinned}"}
    conditions["versions"] = ", ".join(
        [
            conditions["versions"].rsplit(", ", 1)[0],
            *map(environment.installed, packages),
        ]
    )
    if dropped:
        conditions["unset, as they slow NumPy"] = ", ".join(dropped)
    conditions["date"] = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    clock = CLOCKS[args.clock]
    rounds = args.rounds or (3 if args.quick else 7)
    if not (args.check or args.roofline):
        conditions["rounds"] = f"{rounds}, by {clock.__name__}"
    for number, line in enumerate(missing, 1):
        conditions[f"missing {number}"] = line
    for key, value in conditions.items():
        print(f"{key}: {value}")
    chosen = [
        row
        for row in (*ROWS, DOCUMENTS, IRIS)
        if args.only in f"{row} {row.short_dtype}" and not (args.quick and row.large)
    ]
    problems: list[str] = []
    if args.check:
        for row in chosen:
            if row is DOCUMENTS and "scikit-learn" not in names:
                continue
            if row is IRIS:
                found = check_iris()
            elif row is DOCUMENTS:
                import documents  # noqa: PLC0415

                found = documents.check()
            else:
                found = checked(row, names)[1]
            print(
                f"{row}, {row.short_dtype}: {'wrong' if found else 'the same loss'}",
                flush=True,
            )
            problems += found
            data.cache_clear()
        return {"problems": problems}
    peak = roofline.measure(threads)
    results = []
    if not args.roofline:
        print("\nbest times, in microseconds per step\n")
        print(report.line(report.headings(names)))
    for row in chosen:
        result: dict[str, Any] = {"times": {}, "problems": []}
        if not args.roofline:
            if row is IRIS:
                result = race_iris(rounds, clock)
            elif row is DOCUMENTS:
                result = race_documents(names, threads, rounds, clock)
            else:
                seconds = QUICK_TIMING if args.quick else TIMING
                result = race(row, names, rounds, seconds, clock)
            data.cache_clear()
        result.update(report.describe(row, threads, peak))
        results.append(result)
        problems += result["problems"]
        if not args.roofline:
            print(report.line(report.cells(result, names)), flush=True)
    # Once more, in case other work slowed it down the first time.
    peak = roofline.better(peak, roofline.measure(threads))
    for row, result in zip(chosen, results, strict=True):
        result.update(report.describe(row, threads, peak))
    outcome = {
        "threads": threads,
        "names": names,
        "conditions": conditions,
        "peak": peak,
        "rows": results,
        "problems": problems,
    }
    if not args.roofline:
        print(report.summary(outcome))
    print("", *report.roofline_lines(outcome), sep="\n")
    return outcome


# ---- the process that starts those ----------------------------------------------------


def spawn(threads: int) -> dict[str, Any]:
    """Run this command again for one number of threads, and return its outcome."""
    count = str(threads)
    env = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        env[name] = count
    if threads == 1:
        # JAX takes as many threads as the process has CPUs; of one it needs no pool.
        flags = [env.get("XLA_FLAGS", ""), "--xla_cpu_multi_thread_eigen=false"]
        env["XLA_FLAGS"] = " ".join(flags).strip()
    with tempfile.TemporaryDirectory() as folder:
        outcome = Path(folder, "outcome.json")
        worker = ["--worker", count, "--outcome", str(outcome)]
        subprocess.run([sys.executable, *sys.argv, *worker], env=env, check=True)
        read: dict[str, Any] = json.loads(outcome.read_text(encoding="utf-8"))
        return read


def thread_counts(text: str) -> list[int]:
    counts = [int(part) for part in text.split(",")]
    if min(counts) < 1:
        raise ValueError
    return counts


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Race siglin against NumPy, PyTorch, JAX and scikit-learn."
    )
    parser.add_argument(
        "--quick", action="store_true", help="3 short rounds, and no large rows"
    )
    parser.add_argument(
        "--only",
        metavar="TEXT",
        default="",
        help='only rows whose "name dtype" holds it',
    )
    parser.add_argument("--rounds", type=int, help="default: 7, with --quick 3")
    parser.add_argument(
        "--threads",
        type=thread_counts,
        metavar="N,N",
        default=[1, 2] if environment.cpus() > 1 else [1],
        help="numbers of threads, one after the other (default: 1, and 2 if there are "
        "two CPUs)",
    )
    parser.add_argument(
        "--clock",
        choices=[*CLOCKS],
        default="wall",
        help="cpu leaves out what other processes take: for one thread on a busy machine",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="only see whether everybody comes to the same loss; nothing is timed",
    )
    parser.add_argument(
        "--roofline", action="store_true", help="only print what the machine can do"
    )
    parser.add_argument(
        "--markdown",
        metavar="FILE",
        type=Path,
        nargs="?",
        const=REPORT,
        help=f"write the tables to FILE as well (default: {REPORT.name} beside this)",
    )
    parser.add_argument(
        "--plot",
        metavar="FILE",
        type=Path,
        nargs="?",
        const=PICTURE,
        help=f"draw the times to FILE (default: {PICTURE.name} beside this)",
    )
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--outcome", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    args = arguments()
    if args.worker:
        outcome = work(args, args.worker)
        args.outcome.write_text(json.dumps(outcome), encoding="utf-8")
        return 0
    outcomes = []
    for threads in args.threads:
        outcomes.append(spawn(threads))
        print()
    problems = [line for outcome in outcomes for line in outcome["problems"]]
    print(*problems, sep="\n")
    if args.check or args.roofline:
        return 1 if problems else 0
    import race_report as report  # noqa: PLC0415

    if args.markdown:
        args.markdown.write_text(report.markdown(outcomes), encoding="utf-8")
    if args.plot:
        report.draw(outcomes, args.plot)
    short = any(report.verdict(row) == "short" for o in outcomes for row in o["rows"])
    return 1 if problems or short else 0


if __name__ == "__main__":
    sys.exit(main())
