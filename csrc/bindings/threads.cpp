// The number of threads, and the team as its tests see it.
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../float_environment.h"
#include "../parallel.h"
#include "array.h"
#include "module.h"

// What threadpoolctl looks for and calls; the module's only names besides its own.
extern "C" {
__attribute__((visibility("default"))) int siglin_get_num_threads(void);
__attribute__((visibility("default"))) void siglin_set_num_threads(int n);

int siglin_get_num_threads(void) { return siglin::num_threads(); }

void siglin_set_num_threads(int n) {
    siglin::set_num_threads(std::clamp(n, 1, siglin::kMostThreads));
}
}

namespace siglin {
namespace {

void set_checked(int n) {
    if (n < 1 || n > kMostThreads) {
        throw py::value_error("set_num_threads: n must be in [1, " +
                              std::to_string(kMostThreads) + "], got " +
                              std::to_string(n));
    }
    set_num_threads(n);
}

using Seconds = std::chrono::duration<double>;

void stay_busy(double seconds) {
    const auto end = std::chrono::steady_clock::now() + Seconds(seconds);
    while (std::chrono::steady_clock::now() < end) {
    }
}

// Runs a parallel_for that does what the tests ask, and returns for each block how
// often it ran and on which thread (the system's number). Each block runs `nested`
// blocks in a parallel_for of its own, is busy and asleep for so many seconds, and
// throws std::runtime_error if it is block throw_at. With throw_waiting the caller
// throws one as soon as it waits for helpers, which sleep ten times as long; it must
// not arrive before the last block is done.
py::tuple parallel_probe(index_t blocks, double multiply_adds, double busy,
                         double sleep, index_t throw_at, index_t nested,
                         bool throw_waiting) {
    if (blocks < 0 || nested < 0) {
        throw py::value_error("parallel_probe: blocks and nested must be >= 0");
    }
    py::array_t<std::int64_t> runs(blocks);
    py::array_t<std::int64_t> threads(blocks);
    std::int64_t* run_of = runs.mutable_data();
    std::int64_t* thread_of = threads.mutable_data();
    std::fill_n(run_of, blocks, 0);
    std::fill_n(thread_of, blocks, -1);
    const auto caller = std::this_thread::get_id();
    std::atomic<index_t> done = 0;
    const WhileWaiting waiting = [throw_waiting] {
        if (throw_waiting) {
            throw std::runtime_error("waiting");
        }
    };
    try {
        const ReleaseGil nogil;
        const auto body = [&](index_t block) {
            ++run_of[block];
            thread_of[block] = syscall(SYS_gettid);
            parallel_for(nested, multiply_adds, [&](index_t) {
                if (syscall(SYS_gettid) != thread_of[block]) {
                    throw std::logic_error("a nested block ran on another thread");
                }
            });
            if (busy > 0) {
                stay_busy(busy);
            }
            if (sleep > 0) {
                const bool longer =
                    throw_waiting && std::this_thread::get_id() != caller;
                std::this_thread::sleep_for(Seconds(longer ? 10 * sleep : sleep));
            }
            if (block == throw_at) {
                throw std::runtime_error("block " + std::to_string(block));
            }
            ++done;
        };
        parallel_for(blocks, multiply_adds, body, &waiting);
    } catch (...) {
        if (throw_waiting && done != blocks) {
            throw std::logic_error("an exception arrived while helpers were at work");
        }
        throw;
    }
    return py::make_tuple(runs, threads);
}

void make_late(double seconds, double waking_seconds, bool forget) {
    if (!(seconds >= 0 && seconds <= 1 && waking_seconds >= 0 && waking_seconds <= 1)) {
        throw py::value_error("make_helpers_late: seconds must be in [0, 1]");
    }
    make_helpers_late(seconds, waking_seconds, forget);
}

}  // namespace

void bind_threads(py::module_& m) {
    const auto environment = py::call_guard<KeepSubnormals>();
    m.def("get_num_threads", &num_threads, environment);
    m.def("set_num_threads", &set_checked, py::arg("n"), environment);
    m.def("parallel_probe", &parallel_probe, py::arg("blocks"),
          py::arg("multiply_adds"), py::kw_only(), py::arg("busy") = 0.0,
          py::arg("sleep") = 0.0, py::arg("throw_at") = -1, py::arg("nested") = 0,
          py::arg("throw_waiting") = false, environment);
    m.def("make_helpers_late", &make_late, py::arg("seconds"),
          py::arg("waking_seconds") = 0.0, py::kw_only(), py::arg("forget") = true,
          environment);
}

}  // namespace siglin
