// The floating-point environment: how numbers are rounded, what becomes of subnormal
// ones, and whether an exception traps. It is a thread's, and whoever calls us may have
// another one than we want: a rounding mode of its own, or a flush of subnormals, which
// torch.set_flush_denormal or a library built with -ffast-math switches on. The bits of
// our results must not depend on that, so every entry of the core holds a
// FloatEnvironment, and the thread team runs a block in the environment of the thread
// that asked for it (parallel.cpp).
//
// What Python code finds that runs while an entry works:
// - where the entry reads its arguments and makes its results (__float__ of an lr, a
//   NumPy call that explains an overlap): that of the entry, which is the default one;
// - under with_gil (a signal's handler, a callback): that of whoever called the entry,
//   see CallersFloatEnvironment. What it changes there ends with it.
// pybind11 converts the arguments before a call_guard is made and the result after it
// is gone; both are exact.
//
// What keeps the work between the guard's two ends: looking at the environment and
// writing the control word are volatile and clobber memory, so no load, no store and no
// call of a function that the compiler does not see into crosses them. The work on
// arrays is done by such calls (kernels through a table of pointers, the core's
// functions in other translation units), and what a binding computes by itself comes
// from memory or from a call after the guard is made, and goes to memory or into a call
// before it ends. Only arithmetic on constants and on a function's own arguments could
// move; constants are folded as if rounded to nearest, which is what we want. There is
// no interprocedural optimisation between translation units, which would see into the
// calls.
//
// -fno-trapping-math lets the compiler compute what the program does not ask for, so
// work may raise exceptions that nobody meant; no exception traps inside a guard.
#pragma once

#include <cstdint>

namespace siglin {

#if defined(__x86_64__)

// MXCSR. (The x87 unit has a control word of its own; nothing here computes with it.)
using ControlWord = std::uint32_t;

namespace detail {
constexpr ControlWord kFlushesResults = 1U << 15;
constexpr ControlWord kFlushesArguments = 1U << 6;
constexpr ControlWord kMasksExceptions = 0x1F80;
// Those, the rounding mode (0: to nearest), and not the six flags of what has happened.
constexpr ControlWord kControl = 0xFFC0;
constexpr ControlWord kKeeps = kMasksExceptions;
constexpr ControlWord kFlushes = kMasksExceptions | kFlushesResults | kFlushesArguments;

// Whether the environment is the one that keeps subnormals. It is found by computing,
// as stmxcsr takes 10 ns on a Zen 4 and holds up all that comes after it. What this
// cannot see is whether exceptions trap; but feenableexcept and its like tell the x87
// unit too, and that one is asked. Only a caller who unmasks exceptions in MXCSR alone
// (_MM_SET_EXCEPTION_MASK) is not seen: Look::whole is for that.
inline bool keeps_subnormals() {
    constexpr std::uint16_t kMasksX87 = 0x3F;
    std::uint16_t x87;
    __asm__ volatile("fnstcw %0" : "=m"(x87) : : "memory");
    if ((x87 & kMasksX87) != kMasksX87) [[unlikely]] {
        return false;
    }
    // Twice the least subnormal number is 0 where arguments or results are flushed; 1
    // plus or minus a little is 1 where it is rounded to nearest alone. (Of volatile
    // assembly, as the compiler would know the results.)
    double subnormal = 0x1p-1074;
    double above = 1;
    double below = 1;
    __asm__ volatile(
        "addsd %0, %0\n\t"
        "addsd %3, %1\n\t"
        "subsd %3, %2"
        : "+x"(subnormal), "+x"(above), "+x"(below)
        : "x"(0x1p-60)
        : "memory");
    return (subnormal != 0) & (above == 1) & (below == 1);
}
}  // namespace detail

inline ControlWord control_word() {
    ControlWord word;
    __asm__ volatile("stmxcsr %0" : "=m"(word) : : "memory");
    return word;
}

inline void write_control_word(ControlWord word) {
    __asm__ volatile("ldmxcsr %0" : : "m"(word) : "memory");
}

#elif defined(__aarch64__)

// FPCR, whose upper half is empty. The flags of what has happened are in another
// register, FPSR.
using ControlWord = std::uint32_t;

namespace detail {
constexpr ControlWord kFlushes = 1U << 24;  // FZ: arguments and results
constexpr ControlWord kKeeps = 0;
// FZ, the rounding mode (bits 22 and 23, 0: to nearest), the traps (8 to 12 and 15),
// and what changes NaNs and the meaning of the others: DN (25), FZ16 (19), FIZ, AH and
// NEP (0 to 2).
constexpr ControlWord kControl = 0x03C8'9F07;
}  // namespace detail

inline ControlWord control_word() {
    std::uint64_t word;
    __asm__ volatile("mrs %0, fpcr" : "=r"(word) : : "memory");
    return static_cast<ControlWord>(word);
}

inline void write_control_word(ControlWord word) {
    __asm__ volatile("msr fpcr, %0" : : "r"(std::uint64_t{word}) : "memory");
}

namespace detail {
inline bool keeps_subnormals() { return (control_word() & kControl) == kKeeps; }
}  // namespace detail

#else
#error "which control word has this architecture?"
#endif

// Makes the environment of `word` this thread's. A new one stops the processor's
// pipeline, so it is written for a difference alone. Flags of what has happened make
// none.
inline void set_control_word(ControlWord word) {
    if (((control_word() ^ word) & detail::kControl) != 0) {
        write_control_word(word);
    }
}

enum class Subnormals { keep, flush };
// How the present environment is found: as it is, or quickly, in calls of a
// microsecond.
enum class Look { whole, quick };

namespace detail {
constexpr ControlWord kNoWord = ~ControlWord{0};
// As it was before the outermost guard of this thread that changed it; kNoWord where no
// guard has: then what is there is the caller's.
inline constinit thread_local ControlWord callers_word = kNoWord;
}  // namespace detail

// While it lives: rounding to nearest, no traps, and subnormal numbers kept, or counted
// as 0 wherever arithmetic reads or makes one. Afterwards all is as it was, so guards
// may be nested. All but the flags of what has happened, on x86-64: work and guards
// raise some of them, and a guard that starts to flush subnormals clears them.
template <Subnormals kSubnormals, Look kLook>
class FloatEnvironment {
  public:
    FloatEnvironment() {
        constexpr bool kFlush = kSubnormals == Subnormals::flush;
        constexpr ControlWord kWanted = kFlush ? detail::kFlushes : detail::kKeeps;
        if constexpr (kLook == Look::quick) {
            if (detail::keeps_subnormals()) [[likely]] {
                if constexpr (kFlush) {
                    before_ = detail::kKeeps;
                    change(kWanted);
                }
                return;
            }
        }
        before_ = control_word();
        if ((before_ & detail::kControl) != kWanted) {
            change((before_ & ~detail::kControl) | kWanted);
        }
    }
    ~FloatEnvironment() {
        if (changed_) [[unlikely]] {
            restore();
        }
    }
    FloatEnvironment(const FloatEnvironment&) = delete;
    FloatEnvironment& operator=(const FloatEnvironment&) = delete;

  private:
    void change(ControlWord word) {
        changed_ = true;
        if (detail::callers_word == detail::kNoWord) {
            detail::callers_word = before_;
            outermost_ = true;
        }
        write_control_word(word);
    }

    void restore() {
        write_control_word(before_);
        if (outermost_) {
            detail::callers_word = detail::kNoWord;
        }
    }

    ControlWord before_ = 0;
    bool changed_ = false;
    bool outermost_ = false;
};

using KeepSubnormals = FloatEnvironment<Subnormals::keep, Look::whole>;
using FlushSubnormals = FloatEnvironment<Subnormals::flush, Look::whole>;
using QuickKeepSubnormals = FloatEnvironment<Subnormals::keep, Look::quick>;
using QuickFlushSubnormals = FloatEnvironment<Subnormals::flush, Look::quick>;

// While it lives, inside of guards: the environment as it was outside of all of them,
// for Python code that is run in between.
class CallersFloatEnvironment {
  public:
    CallersFloatEnvironment() : ours_(control_word()), callers_(detail::callers_word) {
        if (callers_ != detail::kNoWord) [[unlikely]] {
            detail::callers_word = detail::kNoWord;
            write_control_word(callers_);
        }
    }
    ~CallersFloatEnvironment() {
        set_control_word(ours_);
        detail::callers_word = callers_;
    }
    CallersFloatEnvironment(const CallersFloatEnvironment&) = delete;
    CallersFloatEnvironment& operator=(const CallersFloatEnvironment&) = delete;

  private:
    ControlWord ours_;
    ControlWord callers_;
};

}  // namespace siglin
