"""The number of threads, the team that has it, and that results do not depend on it."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import siglin
from helpers import assert_same_bits
from siglin import _core, _cpus

COUNTS = [1, 2, 3, 4, 7]
PLENTY = 1e12  # multiply-adds: worth any number of helpers
NUMBERS = ("SIGLIN_NUM_THREADS", "OMP_NUM_THREADS")
NAP = (
    0.002  # seconds in which a helper that was woken gets a CPU, even of a busy machine
)


@pytest.fixture(autouse=True)
def number_of_threads() -> Iterator[None]:
    """Leave the number as it was."""
    before = siglin.get_num_threads()
    yield
    siglin.set_num_threads(before)


def run(program: str, timeout: float = 60, status: int = 0, **environment: str) -> str:
    """Return what a Python program prints; it must exit so, and without complaint."""
    env = {k: v for k, v in os.environ.items() if k not in NUMBERS}
    result = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(program)],
        env={**env, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert (result.returncode, result.stderr) == (status, "")
    return result.stdout.strip()


# The number.


def test_number_is_at_first_that_of_the_usable_cpus() -> None:
    program = "import siglin; print(siglin.get_num_threads())"
    assert run(program) == str(_cpus.usable_cpus())
    assert run(program, SIGLIN_NUM_THREADS=" ") == str(_cpus.usable_cpus())


def test_number_follows_the_affinity() -> None:
    program = """
        import os
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        import siglin
        print(siglin.get_num_threads())
    """
    assert run(program) == "1"


@pytest.mark.parametrize("text", ["1", "3", " 7 ", "1024"])
def test_environment_sets_the_number(text: str) -> None:
    program = "import siglin; print(siglin.get_num_threads())"
    assert run(program, SIGLIN_NUM_THREADS=text) == text.strip()


@pytest.mark.parametrize("text", ["0", "-1", "2.0", "1025", "two", "2 3"])
def test_bad_environment_is_a_warning(text: str) -> None:
    program = """
        import warnings
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            import siglin
        print(*[f"{w.category.__name__}: {w.message}" for w in caught])
        print(siglin.get_num_threads())
    """
    cpus = _cpus.usable_cpus()
    message = f"SIGLIN_NUM_THREADS must be an int from 1 to 1024, got {text!r}; using"
    assert run(program, SIGLIN_NUM_THREADS=text).splitlines() == [
        f"RuntimeWarning: {message} {cpus}",
        str(cpus),
    ]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("1", 1),
        (" 3 ", 3),
        ("007", 7),
        ("4,2", 4),
        (" 2 , 1,1", 2),
        ("1024", 1024),
        ("5000", 1024),
        ("9" * 5000, 1024),
    ],
)
def test_number_is_openmp_s_where_there_is_no_other(text: str, want: int) -> None:
    program = "import siglin; print(siglin.get_num_threads())"
    assert run(program, OMP_NUM_THREADS=text) == str(want)


def test_siglin_s_number_is_asked_before_openmp_s() -> None:
    program = "import siglin; print(siglin.get_num_threads())"
    assert run(program, OMP_NUM_THREADS="2", SIGLIN_NUM_THREADS="6") == "6"


@pytest.mark.parametrize("text", ["", "0", "-2", "2.0", "two", "4,", ",2", "4,x", "²"])
def test_openmp_s_number_is_ignored_where_it_is_none(text: str) -> None:
    program = "import siglin; print(siglin.get_num_threads())"
    assert run(program, OMP_NUM_THREADS=text) == str(_cpus.usable_cpus())


def test_bad_environment_leaves_openmp_s_number() -> None:
    program = """
        import warnings
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            import siglin
        print(len(caught), str(caught[0].message).endswith("using 3"))
        print(siglin.get_num_threads())
    """
    environment = {"SIGLIN_NUM_THREADS": "9" * 5000, "OMP_NUM_THREADS": "3"}
    assert run(program, **environment).splitlines() == ["1 True", "3"]


def test_workers_of_joblib_do_not_oversubscribe(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    script = tmp_path / "script.py"
    program = """
        import os, joblib

        def work(_):
            import numpy as np, siglin
            before = len(os.listdir("/proc/self/task"))
            net = siglin.Network([50, 200, 1], dtype="float32", seed=0)
            net.fit(np.ones((2000, 50), np.float32), np.ones(2000, np.float32), epochs=3)
            after = len(os.listdir("/proc/self/task"))
            return os.getpid(), siglin.get_num_threads(), after - before

        if __name__ == "__main__":
            with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
                for pid, threads, more in joblib.Parallel()(
                    joblib.delayed(work)(i) for i in range(4)
                ):
                    print(pid != os.getpid(), threads, more)
    """
    script.write_text(textwrap.dedent(program))
    env = {k: v for k, v in os.environ.items() if k not in NUMBERS}
    result = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=env,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == ["True 1 0"] * 4


@pytest.mark.parametrize("n", [1, 2, 5])
def test_process_has_no_more_threads_than_that(n: int) -> None:
    program = """
        import os
        import numpy as np, siglin
        from siglin import _core
        before = len(os.listdir("/proc/self/task"))
        for _ in range(20):
            _core.parallel_probe(50, 1e12, sleep=0.001)
            siglin.sigmoid(np.ones(10**6))
        print(len(os.listdir("/proc/self/task")) - before < siglin.get_num_threads())
    """
    assert run(program, OMP_NUM_THREADS=str(n)) == "True"


@pytest.mark.parametrize("n", [1, 5, 1024, np.int8(3)])
def test_number_is_what_was_set(n: int) -> None:
    siglin.set_num_threads(n)
    assert siglin.get_num_threads() == n


@pytest.mark.parametrize(
    ("n", "error"),
    [(0, ValueError), (-1, ValueError), (1025, ValueError), (1 << 70, ValueError)]
    + [(bad, TypeError) for bad in (True, 2.0, "2", None, [2], np.array(2))],
)
def test_bad_number_is_refused(n: Any, error: type[Exception]) -> None:
    before = siglin.get_num_threads()
    with pytest.raises(error, match=r"^set_num_threads: n must be "):
        siglin.set_num_threads(n)
    with (
        pytest.raises(error, match=r"^set_num_threads: n must be "),
        siglin.num_threads(n),
    ):
        pytest.fail("the block ran")
    assert siglin.get_num_threads() == before


def test_core_refuses_what_it_cannot_do() -> None:
    for n in (0, -3, 1025):
        with pytest.raises(ValueError, match=r"must be in \[1, 1024\], got"):
            _core.set_num_threads(n)


def test_block_has_its_own_number() -> None:
    siglin.set_num_threads(3)
    with siglin.num_threads(2):
        assert siglin.get_num_threads() == 2
        with contextlib.suppress(KeyError), siglin.num_threads(5):
            assert siglin.get_num_threads() == 5
            raise KeyError
        assert siglin.get_num_threads() == 2
    assert siglin.get_num_threads() == 3

    @siglin.num_threads(4)
    def number() -> int:
        return siglin.get_num_threads()

    assert number() == 4
    assert siglin.get_num_threads() == 3


def test_number_is_the_same_for_all_threads() -> None:
    thread = threading.Thread(target=siglin.set_num_threads, args=(6,))
    thread.start()
    thread.join()
    assert siglin.get_num_threads() == 6


# The quota of control groups, in trees of files made for it.

MOUNT2 = "30 20 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
MOUNT1 = "33 31 0:30 {top} /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpuacct,cpu\n"
OTHER = "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
NO_CGROUP = "20 1 8:1 / / rw - ext4 /dev/root rw\n"


def usable(folder: Path, own: str, mounts: str, files: dict[str, str]) -> int:
    """Return usable_cpus() where /proc/self and the groups' files hold this."""
    for name, text in {
        "proc/self/cgroup": own,
        "proc/self/mountinfo": NO_CGROUP + mounts,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return _cpus.usable_cpus(str(folder))


@pytest.fixture
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the affinity be eight CPUs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize(
    ("own", "mounts", "files", "want"),
    [
        ("0::/\n", "", {}, 8),
        ("0::/\n", MOUNT2, {}, 8),
        ("0::/\n", MOUNT2, {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", MOUNT2, {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", MOUNT2, {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", MOUNT2, {"cpu.max": "1000 100000\n"}, 1),
        ("0::/\n", MOUNT2, {"cpu.max": "6400000 100000\n"}, 8),
        ("0::/\n", MOUNT2, {"cpu.max": "nonsense\n"}, 8),
        ("0::/a/b\n", MOUNT2, {"a/b/cpu.max": "max 100000", "a/cpu.max": "3 1"}, 3),
        ("0::/a/b\n", MOUNT2, {"a/b/cpu.max": "4 1", "a/cpu.max": "max 1"}, 4),
        ("0::/out/of/sight\n", MOUNT2, {"cpu.max": "5 1"}, 5),
        (
            "3:cpuset:/\n2:cpu,cpuacct:/\n",
            OTHER + MOUNT1.format(top="/"),
            {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            3,
        ),
        (
            "2:cpu,cpuacct:/\n",
            MOUNT1.format(top="/"),
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            8,
        ),
        (  # a container that sees its own group as the root, but the name from outside
            "2:cpu,cpuacct:/docker/1\n",
            MOUNT1.format(top="/docker/1"),
            {"cpu/cpu.cfs_quota_us": "2\n", "cpu/cpu.cfs_period_us": "1\n"},
            2,
        ),
    ],
)
def test_quota_limits_the_cpus(
    tmp_path: Path, own: str, mounts: str, files: dict[str, str], want: int
) -> None:
    assert usable(tmp_path, own, mounts, files) == want


@pytest.mark.usefixtures("eight_cpus")
def test_without_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert _cpus.usable_cpus(str(tmp_path)) == 8


# The team.


def probe(blocks: int, work: float = PLENTY, **options: Any) -> list[int]:
    """Run blocks; return which thread each ran on. Each must run once."""
    runs, threads = _core.parallel_probe(blocks, work, **options)
    assert runs.tolist() == [1] * blocks
    return threads.tolist()


def tasks(name: str) -> list[int]:
    """Return the threads of this process that have this name."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            if (task / "comm").read_text().strip() == name:
                found.append(int(task.name))
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Return when the condition holds; fail when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("n", COUNTS)
def test_every_block_runs_once(n: int) -> None:
    siglin.set_num_threads(n)
    for blocks in (0, 1, 2, 3, n, 64, 1000):
        for _ in range(20):
            probe(blocks)


def share_among(n: int) -> list[int]:
    """Run blocks until they ran on n threads: on a busy machine some come late."""
    threads: list[int] = []

    def shared() -> bool:
        threads[:] = probe(20 * n, sleep=NAP)
        return len(set(threads)) == n

    wait_until(shared)
    return threads


@pytest.mark.parametrize("n", COUNTS)
def test_blocks_run_on_that_many_threads(n: int) -> None:
    siglin.set_num_threads(n)
    assert threading.get_native_id() in share_among(n)
    for _ in range(10):
        assert len(set(probe(20 * n, sleep=NAP))) <= n


def test_one_thread_runs_all_blocks_in_order() -> None:
    siglin.set_num_threads(1)
    assert set(probe(50, sleep=NAP / 10)) == {threading.get_native_id()}
    with pytest.raises(RuntimeError, match="block 7"):
        _core.parallel_probe(20, PLENTY, throw_at=7)


def test_small_work_stays_on_the_caller() -> None:
    siglin.set_num_threads(4)
    share_among(4)
    assert set(probe(50, work=1e5, sleep=NAP / 10)) == {threading.get_native_id()}


def test_small_pieces_are_shared_once_there_are_many() -> None:
    program = """
        import siglin
        from siglin import _core
        siglin.set_num_threads(2)

        def shared():
            _, threads = _core.parallel_probe(8, 5e5, sleep=0.001)
            return len(set(threads.tolist())) == 2

        # A helper is woken for one in forty, and on a busy machine may come too late.
        print(shared(), any(shared() for _ in range(1000)))
    """
    assert run(program) == "False True"


def test_threads_start_when_needed_and_leave_when_not() -> None:
    program = """
        import time, siglin
        from pathlib import Path
        from siglin import _core

        def count():
            return len(list(Path("/proc/self/task").iterdir()))

        def settle(want):
            end = time.monotonic() + 10
            while count() != want and time.monotonic() < end:
                time.sleep(0.001)
            return count() - before

        before = count()
        siglin.set_num_threads(6)
        print(count() - before)
        _core.parallel_probe(2, 1e12, sleep=0.01)
        print(count() - before)
        _core.parallel_probe(50, 1e12, sleep=0.01)
        print(count() - before)
        siglin.set_num_threads(3)
        print(settle(before + 2))
        _core.parallel_probe(50, 1e12, sleep=0.001)
        print(count() - before)
        siglin.set_num_threads(1)
        print(settle(before))
    """
    assert run(program).split() == ["0", "1", "5", "2", "2", "0"]


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("block", [0, 1, 29])
def test_exception_of_a_block_arrives(n: int, block: int) -> None:
    siglin.set_num_threads(n)
    for _ in range(50):
        with pytest.raises(RuntimeError, match=rf"^block {block}$"):
            _core.parallel_probe(30, PLENTY, throw_at=block, busy=1e-5)
        probe(30, busy=1e-5)


def test_exception_of_a_helper_arrives() -> None:
    siglin.set_num_threads(2)
    for _ in range(20):
        share_among(2)
        # While the caller sleeps in block 0, the helper takes block 1.
        with pytest.raises(RuntimeError, match=r"^block 1$"):
            _core.parallel_probe(2, PLENTY, throw_at=1, sleep=NAP)


def test_blocks_after_an_exception_are_left_out() -> None:
    for n in (1, 3):
        siglin.set_num_threads(n)
        start = time.monotonic()
        with pytest.raises(RuntimeError):
            _core.parallel_probe(10_000, PLENTY, throw_at=0, sleep=0.01)
        assert time.monotonic() - start < 10  # all of them would sleep 33 s or more


def test_exception_while_waiting_arrives_when_all_blocks_are_done() -> None:
    siglin.set_num_threads(2)
    errors = set()

    def waited() -> bool:
        try:
            _core.parallel_probe(2, PLENTY, sleep=0.01, throw_waiting=True)
        except RuntimeError as error:
            errors.add(str(error))
            return True
        return False  # the caller had both blocks

    for _ in range(5):
        wait_until(waited)
        assert errors == {"waiting"}  # else helpers were still at work
        probe(30, busy=1e-5)


# Whether work is shared.


@pytest.fixture
def late() -> Iterator[Callable[..., None]]:
    """Return what makes helpers late; they are not, after the test."""
    siglin.set_num_threads(1)
    wait_until(lambda: tasks("siglin") == [])
    siglin.set_num_threads(2)
    _core.make_helpers_late(0.0)
    yield _core.make_helpers_late
    _core.make_helpers_late(0.0)


def spell(calls: int, **options: float) -> tuple[float, int]:
    """Return the mean seconds of calls of one kind, and how many of them were shared."""
    seconds, shared = 0.0, 0
    for _ in range(calls):
        start = time.perf_counter()
        shared += len(set(probe(8, 5e6, **options))) == 2
        seconds += time.perf_counter() - start
        time.sleep(2e-4)  # the helper falls asleep
    return seconds / calls, shared


@pytest.mark.timing
def test_work_is_not_shared_where_that_takes_longer(
    late: Callable[..., None],
) -> None:
    late(0.0, 5e-3)  # 5 ms to wake a helper for 0.2 ms of work
    wait_until(lambda: spell(100, busy=2e-5)[0] < 2e-3, seconds=60)


@pytest.mark.timing
def test_work_is_shared_where_that_takes_less_time(late: Callable[..., None]) -> None:
    late(0.0)
    wait_until(lambda: spell(50, sleep=1e-3)[1] >= 40, seconds=60)


@pytest.mark.timing
def test_what_was_measured_is_measured_again(late: Callable[..., None]) -> None:
    late(0.0, 2e-2)
    wait_until(lambda: spell(20, sleep=1e-3)[1] <= 2, seconds=60)
    late(0.0, forget=False)
    wait_until(lambda: spell(5, sleep=1e-3)[1] >= 4, seconds=60)


@pytest.mark.timing
@pytest.mark.parametrize("lag", [5, 20, 50, 100])
def test_late_helpers_make_no_fit_slower(late: Callable[..., None], lag: int) -> None:
    x = np.random.default_rng(1).normal(size=(1280, 10)).astype(np.float32)
    t = (x > 0).astype(np.float32)
    net = siglin.Network([10, 128, 128, 10], dtype="float32", seed=0)
    best = {1: np.inf, 2: np.inf}

    def at_most(bar: float) -> bool:
        for n, seconds in best.items():
            siglin.set_num_threads(n)
            start = time.perf_counter()
            net.fit(x, t, epochs=10, batch_size=128, shuffle=False)
            best[n] = min(seconds, time.perf_counter() - start)
        return best[2] <= bar * best[1]

    late(lag * 1e-6, lag * 1e-6)
    for _ in range(5):
        at_most(1.1)
    wait_until(lambda: at_most(1.1), seconds=30)  # on a busy machine not at once


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_work_stays_on_the_cpus_of_its_caller() -> None:
    program = """
        import os, threading, time
        import siglin
        from siglin import _core
        siglin.set_num_threads(2)
        first, second = sorted(os.sched_getaffinity(0))[:2]

        def threads():
            time.sleep(0.01)
            return set(_core.parallel_probe(20, 1e12, sleep=0.002)[1].tolist())

        def helper():
            end = time.monotonic() + 10
            while time.monotonic() < end and len(found := threads()) != 2:
                pass
            (other,) = found - {threading.get_native_id()}
            return other

        def cpus(other):
            return os.sched_getaffinity(other)

        def work():
            os.sched_setaffinity(0, {first})
            print(len(threads()))  # alone
            os.sched_setaffinity(0, {first, second})
            print(cpus(helper()) <= {first, second})

        print(cpus(helper()) <= os.sched_getaffinity(0))
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    """
    assert run(program).split() == ["True", "1", "True"]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_helpers_follow_a_caller_to_other_cpus() -> None:
    program = """
        import os, threading, time
        first, second = sorted(os.sched_getaffinity(0))[:2]
        os.sched_setaffinity(0, {first})
        import siglin
        from siglin import _core
        siglin.set_num_threads(2)  # on one CPU, as asked for

        def helper():
            time.sleep(0.01)
            end = time.monotonic() + 10
            while time.monotonic() < end:
                found = set(_core.parallel_probe(20, 1e12, sleep=0.002)[1].tolist())
                if len(found) == 2:
                    (other,) = found - {threading.get_native_id()}
                    return other

        def work():
            os.sched_setaffinity(0, {first, second})
            end = time.monotonic() + 10
            while second not in os.sched_getaffinity(helper()):
                assert time.monotonic() < end

        print(os.sched_getaffinity(helper()) == {first})
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        print("done")
    """
    assert run(program).split() == ["True", "done"]


# More of the team.


def test_work_inside_work_stays_on_its_thread() -> None:
    siglin.set_num_threads(4)
    for _ in range(20):  # a nested block on another thread would be an exception
        probe(64, nested=5, busy=1e-5)


def test_second_caller_does_not_wait() -> None:
    siglin.set_num_threads(2)
    share_among(2)
    begun = threading.Event()
    first: list[int] = []

    def work() -> None:
        begun.set()
        first.extend(probe(8, sleep=0.5))

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    time.sleep(0.3)  # of the two seconds or more that it has the team
    for _ in range(5):
        assert set(probe(20, busy=1e-4)) == {threading.get_native_id()}
    assert thread.is_alive()
    thread.join()
    assert threading.get_native_id() not in first
    assert len(set(first)) == 2
    share_among(2)


def test_many_callers_at_once() -> None:
    siglin.set_num_threads(3)
    z = np.linspace(-9, 9, 300_000)
    want = siglin.sigmoid(z)
    failures = []

    def work(number: int) -> None:
        try:
            for i in range(40):
                probe(number + i, busy=1e-5)
                assert_same_bits(siglin.sigmoid(z), want)
                if i % 10 == number % 10:
                    siglin.set_num_threads(1 + i % 4)
        except BaseException as error:  # noqa: BLE001  of any kind, on another thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_helpers_leave_signals_to_python() -> None:
    siglin.set_num_threads(3)
    share_among(3)
    wait_until(lambda: len(tasks("siglin")) == 2)  # others of earlier tests leave
    helpers = tasks("siglin")
    for task in helpers:
        status = Path(f"/proc/self/task/{task}/status").read_text()
        (line,) = [row for row in status.splitlines() if row.startswith("SigBlk:")]
        blocked = int(line.split()[1], 16)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD):
            assert blocked >> (number - 1) & 1
        for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE):
            assert not blocked >> (number - 1) & 1


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "fesetround"), reason="no libm")
def test_helpers_round_as_usual() -> None:
    program = """
        import ctypes, numpy as np, siglin
        from siglin import _core
        z = np.linspace(-9, 9, 500_000)
        siglin.set_num_threads(1)
        want = siglin.sigmoid(z)
        libm = ctypes.CDLL(None)
        usual = libm.fegetround()
        siglin.set_num_threads(3)
        libm.fesetround(0xC00 if {x86} else 0xC00000)  # towards zero
        for _ in range(20):
            _core.parallel_probe(60, 1e12, sleep=0.002)  # the helpers start
        libm.fesetround(usual)
        print(all((siglin.sigmoid(z) == want).all() for _ in range(20)))
    """
    x86 = os.uname().machine == "x86_64"
    assert run(program.replace("{x86}", str(x86))) == "True"


# Processes.

FORK = """
    import os, sys, threading, time, warnings
    import numpy as np, siglin
    from siglin import _core
    warnings.simplefilter("ignore", DeprecationWarning)  # a fork of a process with threads

    siglin.set_num_threads(3)
    z = np.linspace(-9, 9, 200_000)
    want = siglin.sigmoid(z)

    def shared():
        runs, threads = _core.parallel_probe(30, 1e12, sleep=0.001)
        assert (runs == 1).all()
        return len(set(threads.tolist())) == 3

    def child():
        right = any(shared() for _ in range(100))  # some come late on a busy machine
        right = right and (siglin.sigmoid(z) == want).all()
        if len(sys.argv) > 2 and (pid := os.fork()) == 0:
            os._exit(0 if (siglin.sigmoid(z) == want).all() else 2)
        elif len(sys.argv) > 2:
            right = right and os.waitpid(pid, 0)[1] == 0
        os._exit(0 if right and siglin.get_num_threads() == 3 else 1)

    def fork_and_wait(children):
        slowest = 0
        for _ in range(children):
            start = time.monotonic()
            pid = os.fork()
            if pid == 0:
                child()
            while (status := os.waitpid(pid, os.WNOHANG))[0] == 0:
                assert time.monotonic() - start < 20, "a child hangs"
                time.sleep(0.0005)
            assert status[1] == 0, status
            slowest = max(slowest, time.monotonic() - start)
        return slowest
"""

AFTER = """
    assert any(shared() for _ in range(100))
    fork_and_wait(CHILDREN)
    assert (siglin.sigmoid(z) == want).all()
    print("done")
"""

DURING = """
    stop = False

    def work():
        while not stop:
            _core.parallel_probe(50, 1e12, busy=1e-5)
            siglin.sigmoid(z)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        fork_and_wait(CHILDREN)
    finally:
        stop = True
        for thread in threads:
            thread.join()
    print("done")
"""


def fork(when: str, children: int, *, grandchildren: bool = False) -> str:
    """Run a program that forks; return what it prints."""
    program = textwrap.dedent(FORK) + textwrap.dedent(when)
    program = program.replace("CHILDREN", str(children))
    return run(program.replace("len(sys.argv) > 2", str(grandchildren)), timeout=900)


@pytest.mark.parametrize("when", [AFTER, DURING], ids=["after", "during"])
def test_forked_child_has_a_team_of_its_own(when: str) -> None:
    assert fork(when, 20) == "done"


def test_forked_child_can_fork() -> None:
    assert fork(AFTER, 5, grandchildren=True) == "done"


@pytest.mark.slow
@pytest.mark.parametrize("when", [AFTER, DURING], ids=["after", "during"])
def test_a_thousand_forked_children(when: str) -> None:
    assert fork(when, 1000) == "done"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(tmp_path: Path, method: str) -> None:
    script = tmp_path / "script.py"
    program = f"""
        import multiprocessing, warnings
        import numpy as np, siglin
        warnings.simplefilter("ignore", DeprecationWarning)

        def work(seed):
            z = np.random.default_rng(seed).normal(size=100_000)
            return siglin.sigmoid(z).tobytes()

        if __name__ == "__main__":
            siglin.set_num_threads(2)
            want = [work(seed) for seed in range(4)]
            with multiprocessing.get_context("{method}").Pool(2) as pool:
                assert pool.map(work, range(4)) == want
            print("done")
    """
    script.write_text(textwrap.dedent(program))
    result = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


ENDS = {
    "plain": "",
    "of daemon threads": """
        import threading, time
        def work():
            while True:
                _core.parallel_probe(50, 1e12, busy=1e-4)
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.02)
    """,
    "of daemon threads that fit": """
        import threading, time
        import numpy as np
        def work():
            net = siglin.Network([30, 20, 1], seed=0)
            net.fit(np.ones((500, 30)), np.ones(500), epochs=10**9)
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.1)
    """,
    "of the main thread first": """
        import threading
        threading.Thread(target=_core.parallel_probe, args=(50, 1e12), kwargs={"sleep": 1e-3}).start()
    """,
    "at once": "import os; os._exit(0)",
    "at exit": """
        import atexit
        atexit.register(_core.parallel_probe, 50, 1e12)
        atexit.register(siglin.set_num_threads, 2)
    """,
    "of a thread that imported it": "",
}


def end(kind: str) -> None:
    """Use the team in a process of its own and end it in that way."""
    begin = "import siglin\nfrom siglin import _core\nsiglin.set_num_threads(4)\n"
    begin += "_core.parallel_probe(50, 1e12, sleep=1e-3)\n"
    program = begin + textwrap.dedent(ENDS[kind])
    if kind == "of a thread that imported it":
        program = "import threading\n" + (
            f"threading.Thread(target=exec, args=({program!r}, {{}})).start()"
        )
    assert run(program) == ""


@pytest.mark.parametrize("kind", ENDS)
def test_process_ends_well(kind: str) -> None:
    end(kind)


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "on_exit") or not hasattr(os, "SCHED_IDLE"),
    reason="needs glibc's on_exit and a Linux scheduler",
)
@pytest.mark.parametrize("call", ["net.fit(x, t, epochs=10**9)", "step()"])
def test_process_ends_well_before_a_daemon_thread(call: str) -> None:
    # The thread asks for the lock when the interpreter is gone, not while it goes: it
    # has no processor until the process sleeps, for as many seconds as its status says.
    program = """
        import ctypes, os, sys, threading, time
        import numpy as np
        import siglin
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        x, t = np.ones((500, 30)), np.ones(500)
        net = siglin.Network([30, 20, 1], seed=0)
        def step():
            while True:
                siglin.forward(x, np.ones((30, 200)), np.ones(200))
        def work():
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            {call}
        threading.Thread(target=work, daemon=True).start()
        time.sleep(0.1)
        libc = ctypes.CDLL(None)
        libc.on_exit(libc.sleep, None)
        sys.exit(1)
    """
    assert run(program.replace("{call}", call), status=1) == ""


@pytest.mark.slow
def test_a_thousand_processes_end_well() -> None:
    for i in range(1000):
        end(list(ENDS)[i % len(ENDS)])


# The same bits for any number of threads.


def assert_same_for_all_counts(compute: Callable[[], Any]) -> None:
    """Assert that compute() gives the same arrays with any number of threads."""
    results = []
    for n in COUNTS:
        with siglin.num_threads(n):
            results += [compute() for _ in range(3)]
    for result in results[1:]:
        for got, want in zip(result, results[0], strict=True):
            assert_same_bits(got, want)


@pytest.mark.parametrize("n", [8191, 8192, 8193, 24_577, 200_000])
@pytest.mark.parametrize("activation", _core.activations())
def test_activation_has_the_same_bits(
    target: str, dtype: npt.DTypeLike, activation: str, n: int, rng: np.random.Generator
) -> None:
    z = rng.normal(scale=8, size=n).astype(dtype)

    def compute() -> list[Any]:
        in_place = z.copy()
        _core.activate(in_place, activation, in_place)
        return [_core.activate(z, activation), in_place]

    assert_same_for_all_counts(compute)


SHAPES = [(1, 7, 3), (256, 784, 64), (1000, 33, 17), (37, 300, 301), (5000, 16, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_layer_has_the_same_bits(
    target: str,
    dtype: npt.DTypeLike,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> None:
    batch, n_in, n_out = shape
    x = rng.normal(size=(batch, n_in)).astype(dtype)
    w = rng.normal(size=(n_in, n_out)).astype(dtype)
    b = rng.normal(size=n_out).astype(dtype)
    da = rng.normal(size=(batch, n_out)).astype(dtype)

    def compute() -> list[Any]:
        a = siglin.forward(x, w, b)
        updated, bias = w.copy(), b.copy()
        dx = siglin.backward_update(x, updated, bias, a, da, 0.1)
        return [a, *siglin.backward(x, w, a, da), updated, bias, dx]

    assert_same_for_all_counts(compute)


NETWORKS = [
    ([2, 3, 1], 100, None),
    ([64, 32, 10], 500, 64),
    ([20, 256, 256, 3], 400, 100),
    ([32, 1], 20_000, None),
    ([784, 30, 10], 300, 10),
]


@pytest.mark.parametrize(("sizes", "rows", "batch_size"), NETWORKS)
def test_network_has_the_same_bits(
    target: str,
    dtype: npt.DTypeLike,
    sizes: list[int],
    rows: int,
    batch_size: int | None,
    rng: np.random.Generator,
) -> None:
    x = rng.normal(size=(rows, sizes[0])).astype(dtype)
    t = rng.uniform(size=(rows, sizes[-1])).astype(dtype)

    def compute() -> list[Any]:
        net = siglin.Network(sizes, dtype=dtype, seed=3)
        history = net.fit(x, t, epochs=3, batch_size=batch_size)
        loss, grads = net.loss_and_grads(x, t)
        losses = np.array([*history.loss, loss, net.loss(x, t)])
        return [net.params, grads.copy(), net.predict(x), losses]

    assert_same_for_all_counts(compute)


# threadpoolctl.


def test_threadpoolctl_sees_and_limits_the_threads() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    siglin.threads.register_threadpoolctl()
    siglin.threads.register_threadpoolctl()
    siglin.set_num_threads(3)
    ours = [i for i in threadpoolctl.threadpool_info() if i["user_api"] == "siglin"]
    assert [(i["internal_api"], i["num_threads"], i["version"]) for i in ours] == [
        ("siglin", 3, siglin.__version__)
    ]
    assert Path(ours[0]["filepath"]).samefile(_core.__file__)
    with threadpoolctl.threadpool_limits(1):
        assert siglin.get_num_threads() == 1
    assert siglin.get_num_threads() == 3
    with threadpoolctl.threadpool_limits(limits=2, user_api="siglin"):
        assert siglin.get_num_threads() == 2
    with threadpoolctl.threadpool_limits(limits=1, user_api="blas"):
        assert siglin.get_num_threads() == 3
    with threadpoolctl.threadpool_limits(limits={"siglin": 5000}):
        assert siglin.get_num_threads() == 1024


def test_another_package_s_core_is_not_taken_for_ours(tmp_path: Path) -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    siglin.threads.register_threadpoolctl()
    other = tmp_path / "_core_of_another.so"
    other.write_bytes(Path(np.random.bit_generator.__file__).read_bytes())
    library = ctypes.CDLL(str(other))
    assert not hasattr(library, "siglin_get_num_threads")
    paths = [i["filepath"] for i in threadpoolctl.threadpool_info()]
    assert str(other) not in paths
    assert any(Path(path).samefile(_core.__file__) for path in paths)


@pytest.mark.parametrize(
    ("imports", "want"),
    [
        ("threadpoolctl, siglin", "1"),
        ("siglin, threadpoolctl", "0"),
        ("siglin, threadpoolctl; siglin.threads.register_threadpoolctl()", "1"),
    ],
)
def test_who_registers_with_threadpoolctl(imports: str, want: str) -> None:
    pytest.importorskip("threadpoolctl")
    program = f"import {imports}\n" + (
        "apis = [i['user_api'] for i in threadpoolctl.threadpool_info()]\n"
        "print(apis.count('siglin'))"
    )
    assert run(program) == want


def test_registering_needs_threadpoolctl() -> None:
    program = """
        import sys, siglin
        sys.modules["threadpoolctl"] = None
        try:
            siglin.threads.register_threadpoolctl()
        except ImportError as error:
            print("threadpoolctl" in str(error))
        sys.modules["threadpoolctl"] = sys  # as a version from before `register`
        try:
            siglin.threads.register_threadpoolctl()
        except ImportError as error:
            print(error)
    """
    assert run(program).splitlines() == [
        "True",
        "register_threadpoolctl: needs threadpoolctl 3.5 or newer",
    ]


def test_signal_handler_may_predict_while_a_product_is_shared() -> None:
    """The handler runs between blocks of a product and packs weights of its own."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2112, 1024)).astype(np.float32)
    net = siglin.Network([1024, 1024, 1024], dtype="float32", seed=1)
    other = siglin.Network([1024, 1024, 1024], dtype="float32", seed=2)
    runs = []

    def handler(*_: object) -> None:
        runs.append(other.predict(x[:400]))

    with siglin.num_threads(1):
        expected = net.predict(x)
        previous = signal.signal(signal.SIGALRM, handler)
        try:
            for i in range(6):
                signal.setitimer(signal.ITIMER_REAL, 0.015 + 0.004 * i)
                assert np.array_equal(net.predict(x), expected)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
    assert runs
