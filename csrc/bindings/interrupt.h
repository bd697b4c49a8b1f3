// Ctrl-C, and whatever else a signal's handler raises, in work that has no GIL.
//
// Python only notes a signal; its handler runs where the interpreter, or
// PyErr_CheckSignals, finds the time. So long work asks every 20 ms (InterruptPoll),
// and is cut into pieces that are shorter than that. Handlers run on Python's main
// thread alone: another thread asks once which it is, and then never takes the GIL.
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include "../progress.h"
#include "gil.h"

namespace siglin {

// Whether signal handlers run on this thread, which has the GIL. Where Python was
// started by another thread than the process, threading knows; as it may have been
// replaced, a doubt counts as yes.
inline bool handles_signals() {
    namespace py = pybind11;
    if (syscall(SYS_gettid) == getpid()) {
        return true;
    }
    try {
        const py::object main = py::module_::import("threading").attr("main_thread")();
        return main.attr("ident").cast<unsigned long>() == PyThread_get_thread_ident();
    } catch (py::error_already_set&) {
        return true;
    } catch (const py::cast_error&) {
        return true;
    }
}

// Whether a signal's handler raised; called without the GIL.
inline bool signal_raised() {
    // The answer is the thread's, until a fork makes it another process's main thread.
    thread_local pid_t asked_in = 0;
    thread_local bool handles = true;
    const pid_t process = getpid();
    if (asked_in == process && !handles) {
        return false;
    }
    return with_gil([&] {
        if (asked_in != process) {
            handles = handles_signals();
            asked_in = process;
        }
        return PyErr_CheckSignals() != 0;
    });
}

// (Not inline, so that short work has a short way.)
template <class Work>
[[gnu::noinline]] void run_asking(const Work& work) {
    try {
        const ReleaseGil nogil;
        InterruptPoll poll(signal_raised);
        const Progress progress = [&poll](double done) { poll.charge(done); };
        work(&progress);
    } catch (const Interrupted&) {
        throw pybind11::error_already_set();
    }
}

// work(progress) without the GIL if it is worth it; what a signal's handler raises
// meanwhile comes out of it as error_already_set. progress is null where the work ends
// soon anyway. multiply_adds: with the elements of memory that it touches.
template <class Work>
void run_interruptibly(double multiply_adds, const Work& work) {
    constexpr double kWorthAsking =
        2e7;  // half a millisecond, and more of slow targets
    if (multiply_adds < kWorthAsking) {
        const ReleaseGil nogil(multiply_adds);
        work(nullptr);
        return;
    }
    run_asking(work);
}

// The same for work that always asks.
template <class Work>
void interruptible(double multiply_adds, Work work) {
    try {
        const ReleaseGil nogil(multiply_adds);
        InterruptPoll poll(signal_raised);
        work([&poll](double done) { poll.charge(done); });
    } catch (const Interrupted&) {
        throw pybind11::error_already_set();
    }
}

}  // namespace siglin
