// The interpreter's lock, given back for a while and taken again.
//
// While the interpreter shuts down, Python before 3.14 ends a daemon thread that asks
// for the lock by pthread_exit, which unwinds the stack as an exception would: out of a
// destructor, which is std::terminate, or into pybind11, which must not go on without
// the lock. Such a thread stops here instead until the process is gone, as 3.14 does
// itself.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <exception>
#include <type_traits>
#include <utility>

#include "../float_environment.h"

namespace siglin {

// Stops the thread where pthread_exit unwinds it, which is no exception that is on its
// way. (A handler of abi::__forced_unwind would do, but UBSan objects that there is no
// object to refer to.)
class StopUnwinding {
  public:
    StopUnwinding() = default;
    ~StopUnwinding() {
        while (!returned_ && std::uncaught_exceptions() == exceptions_) {
            pause();
        }
    }
    StopUnwinding(const StopUnwinding&) = delete;
    StopUnwinding& operator=(const StopUnwinding&) = delete;

    void returned() { returned_ = true; }

  private:
    int exceptions_ = std::uncaught_exceptions();
    bool returned_ = false;
};

// run(), which takes the lock, or Python code, which takes it now and then.
template <class Run>
auto taking_gil(Run run) {
    StopUnwinding stop;
    if constexpr (std::is_void_v<decltype(run())>) {
        run();
        stop.returned();
    } else {
        auto result = run();
        stop.returned();
        return result;
    }
}

// From so many multiply-adds on, about 2 us on one core, work is worth handing the GIL
// over.
inline constexpr double kWorthReleasing = 50'000;

// Of a thread that has given the GIL back and is to take it again; else null.
// pybind11's gil_scoped_acquire would look it up, and make one where the interpreter,
// gone by then, has none: a null lock. This one may dangle, but is only compared then.
inline thread_local PyThreadState* released_state = nullptr;

inline void release_gil() { released_state = PyEval_SaveThread(); }

inline void take_gil() {
    taking_gil([] { PyEval_RestoreThread(std::exchange(released_state, nullptr)); });
}

// Releases the GIL, given the size of the work only if it is worth it: handing the lock
// over costs more than a small call.
class ReleaseGil {
  public:
    ReleaseGil() { release_gil(); }
    explicit ReleaseGil(double multiply_adds)
        : released_(multiply_adds >= kWorthReleasing) {
        if (released_) {
            release_gil();
        }
    }
    ~ReleaseGil() {
        if (released_) {
            take_gil();
        }
    }
    ReleaseGil(const ReleaseGil&) = delete;
    ReleaseGil& operator=(const ReleaseGil&) = delete;

  private:
    bool released_ = true;
};

// work() with the GIL, from the thread of a ReleaseGil. Without one the thread has it.
// It runs in the floating-point environment of whoever called the entry.
template <class Work>
auto with_gil(Work work) {
    struct TakeGil {
        bool taken = released_state != nullptr;
        TakeGil() {
            if (taken) {
                take_gil();
            }
        }
        ~TakeGil() {
            if (taken) {
                release_gil();
            }
        }
    };
    const TakeGil gil;
    const CallersFloatEnvironment environment;
    return taking_gil(work);
}

// Runs the handlers of signals that have come; returns whether one raised. Of a thread
// that holds the GIL.
inline bool handlers_raised() {
    const CallersFloatEnvironment environment;
    return taking_gil([] { return PyErr_CheckSignals(); }) != 0;
}

// f(args...), of a thread that holds the GIL. The arguments stay where it stops in f.
template <class... Args>
pybind11::object call(const pybind11::handle& f, const Args&... args) {
    const pybind11::tuple given = pybind11::make_tuple(args...);
    PyObject* result =
        taking_gil([&] { return PyObject_CallObject(f.ptr(), given.ptr()); });
    if (result == nullptr) {
        throw pybind11::error_already_set();
    }
    return pybind11::reinterpret_steal<pybind11::object>(result);
}

}  // namespace siglin
