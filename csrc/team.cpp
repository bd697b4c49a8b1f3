#include "team.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <csignal>
#include <ctime>
#include <new>

#include "buffer.h"

namespace siglin {
namespace {

using Clock = std::chrono::steady_clock;

// How long a helper looks for the next work, and the caller for the end of the last
// blocks, before the kernel is asked to wake them: as long as waking costs. In the gaps
// of a fit helpers stay awake: with 10 us between pieces of 1 M the piece takes 10 us,
// after 2 us of looking 21.
constexpr std::chrono::nanoseconds kSpin{20'000};

// Kernels need a few kilobytes of stack; the usual 8 MB count as memory where that is
// limited.
constexpr std::size_t kStackBytes = 1024 * 1024;

// Set in Team::pending while the caller sleeps.
constexpr std::uint32_t kCallerSleeps = kMostTeamBlocks + 1;

}  // namespace

constinit Team team = {.signal = 0,
                       .unclaimed = 0,
                       .sleepers = 0,
                       .blocks = 0,
                       .run = nullptr,
                       .body = nullptr,
                       .error = nullptr,
                       .environment = 0,
                       .failed = false,
                       .cpu = -1,
                       .placement = 0,
                       .lag = 0,
                       .pending = 0,
                       .taken = false,
                       .helpers = 0,
                       .threads = 1,
                       .missed = 0,
                       .waking = 0,
                       .forks = 0,
                       .cpus = {}};

namespace {

// Sleeps while the word is `value`, or shorter, at most so long if a time is given.
// std::atomic::wait would spin and yield first for a time that nobody can set, and
// wakes one or all. Returns whether `wake` ended it.
bool sleep_while(Word& word, std::uint32_t value, const timespec* most = nullptr) {
    return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, most, nullptr, 0) == 0;
}

// Returns how many slept and do no longer.
std::uint32_t wake(Word& word, int count) {
    const auto woken =
        syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
    return static_cast<std::uint32_t>(std::max(woken, 0L));
}

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}

// Whether `ready()` within kSpin.
template <class Ready>
bool spin_until(Ready ready) {
    constexpr int kLooksPerClock = 16;  // reading the clock costs as much as some looks
    const auto end = Clock::now() + kSpin;
    do {
        for (int i = 0; i < kLooksPerClock; ++i) {
            if (ready()) {
                return true;
            }
            pause();
        }
    } while (Clock::now() < end);
    return false;
}

// run_claimed. claimed(): after each claim, while the work that it is of can't be
// replaced.
template <class Claimed>
std::uint32_t claim_blocks(Claimed claimed) {
    std::uint32_t count = 0;
    std::uint32_t left = team.unclaimed.load(std::memory_order_relaxed);
    while (left != 0) {
        if (!team.unclaimed.compare_exchange_weak(
                left, left - 1, std::memory_order_acquire, std::memory_order_relaxed)) {
            continue;
        }
        if (count++ == 0) {
            set_control_word(team.environment);
        }
        claimed();
        try {
            team.run(team.body, team.blocks - static_cast<index_t>(left));
        } catch (...) {
            keep_exception();
            count += team.unclaimed.exchange(0, std::memory_order_relaxed);
        }
        left = team.unclaimed.load(std::memory_order_relaxed);
    }
    return count;
}

// Whether one helper too many is there, which is then no longer counted.
bool leave() {
    int helpers = team.helpers.load(std::memory_order_relaxed);
    while (helpers > team.threads.load(std::memory_order_relaxed) - 1) {
        if (team.helpers.compare_exchange_weak(helpers, helpers - 1,
                                               std::memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

bool on_callers_cpu() {
    return sched_getcpu() == team.cpu.load(std::memory_order_relaxed);
}

// Where a helper runs: on the CPUs of the caller that it works for.
class Place {
  public:
    // Takes the caller's affinity, if it differs from that of the last one.
    void follow() {
        if (const auto now = team.placement.load(std::memory_order_acquire);
            now != placement_) {
            placement_ = now;
            take(-1);
        }
    }

    // Leaves the caller's CPU. On a busy machine the scheduler wakes a helper on the
    // CPU of whoever woke it, where the two can only take turns, and leaves it there: a
    // piece of 400,000 took 11 us instead of 7 alone, and takes 7.
    void keep_off_caller() {
        if (on_callers_cpu()) {
            take(sched_getcpu());
        }
    }

  private:
    static void take(int without) {
        Cpus words;
        for (std::size_t i = 0; i < kCpuWords; ++i) {
            words[i] = team.cpus[i].load(std::memory_order_relaxed);
        }
        auto cpus = std::bit_cast<cpu_set_t>(words);
        if (without >= 0) {
            CPU_CLR(static_cast<unsigned>(without), &cpus);
        }
        if (CPU_COUNT(&cpus) != 0) {
            sched_setaffinity(0, sizeof(cpus), &cpus);
        }
    }

    std::uint32_t placement_ = 0;
};

void stay_busy(int nanoseconds) {
    const auto end = Clock::now() + std::chrono::nanoseconds(nanoseconds);
    while (Clock::now() < end) {
        pause();
    }
}

// A block may be part of a step that changes parameters in place, so a helper has the
// memory for products before it claims one; without it does not help.
bool has_workspace() {
    try {
        return thread_workspace<std::byte>() != nullptr;
    } catch (const std::bad_alloc&) {
        return false;
    }
}

void help(Place& place) {
    if (const int lag = team.lag.load(std::memory_order_relaxed); lag != 0) {
        stay_busy(lag);
    }
    if (team.unclaimed.load(std::memory_order_acquire) == 0 || !has_workspace()) {
        return;
    }
    place.follow();
    place.keep_off_caller();
    // Again, once it is certain whose work it is.
    if (const std::uint32_t count = claim_blocks([&place] { place.follow(); });
        count != 0) {
        end_blocks(count);
    }
}

void* helper(void*) {
    pthread_setname_np(pthread_self(), "siglin");
    Place place;
    for (;;) {
        // Read before looking for work: what comes after the look changes it.
        const std::uint32_t seen = team.signal.load(std::memory_order_acquire);
        const auto changed = [seen] {
            return team.signal.load(std::memory_order_relaxed) != seen;
        };
        help(place);
        if (leave()) {
            return nullptr;
        }
        if (on_callers_cpu() || !spin_until(changed)) {
            team.sleepers.fetch_add(1, std::memory_order_seq_cst);
            if (!sleep_while(team.signal, seen)) {
                team.sleepers.fetch_sub(1, std::memory_order_relaxed);
            }
        }
    }
}

// After a fork the child has the forking thread alone, and the team as it was, perhaps
// in the middle of another thread's work.
void forget_helpers() {
    team.helpers.store(0, std::memory_order_relaxed);
    team.sleepers.store(0, std::memory_order_relaxed);
    team.unclaimed.store(0, std::memory_order_relaxed);
    team.taken.store(false, std::memory_order_relaxed);
    team.forks.fetch_add(1);
}

// When the library is loaded: later, a fork could come between.
[[maybe_unused]] const int fork_handler =
    pthread_atfork(nullptr, nullptr, forget_helpers);

}  // namespace

void keep_exception() {
    if (!team.failed.exchange(true, std::memory_order_relaxed)) {
        *team.error = std::current_exception();
    }
}

std::uint32_t run_claimed() {
    return claim_blocks([] {});
}

void end_blocks(std::uint32_t count) {
    if (team.pending.fetch_sub(count, std::memory_order_acq_rel) ==
        (count | kCallerSleeps)) {
        wake(team.pending, 1);
    }
}

void wait_for_pending(const WhileWaiting* while_waiting, int forks) {
    constexpr timespec kBetween = {.tv_sec = 0, .tv_nsec = 10'000'000};
    if (spin_until([] { return team.pending.load(std::memory_order_acquire) == 0; })) {
        return;
    }
    auto left =
        team.pending.fetch_or(kCallerSleeps, std::memory_order_acquire) | kCallerSleeps;
    while (left != kCallerSleeps && team.forks.load() == forks) {
        if (while_waiting != nullptr) {
            sleep_while(team.pending, left, &kBetween);
            try {
                (*while_waiting)();
            } catch (...) {
                keep_exception();
                while_waiting = nullptr;
            }
        } else {
            sleep_while(team.pending, left);
        }
        left = team.pending.load(std::memory_order_acquire);
    }
}

// pthread_create: std::thread
// has neither a stack size nor an answer other than an exception.
bool start_helper() {
    // A signal meant for the process must reach a thread that knows Python; those of a
    // fault are the helper's own.
    sigset_t blocked;
    sigset_t before;
    sigfillset(&blocked);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS}) {
        sigdelset(&blocked, fault);
    }
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) {
        return false;
    }
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, kStackBytes);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    team.helpers.fetch_add(1, std::memory_order_relaxed);
    pthread_t thread;
    const bool started = pthread_create(&thread, &attributes, helper, nullptr) == 0;
    if (!started) {
        team.helpers.fetch_sub(1, std::memory_order_relaxed);
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    pthread_attr_destroy(&attributes);
    return started;
}

void announce(int wakes) {
    // Ordered with a helper that counts itself among the sleepers and then has the
    // kernel compare the signal: one of the two sees the other.
    team.signal.fetch_add(1, std::memory_order_seq_cst);
    if (wakes > 0 && team.sleepers.load(std::memory_order_seq_cst) != 0) {
        if (const int waking = team.waking.load(std::memory_order_relaxed);
            waking != 0) {
            stay_busy(waking);
        }
        // Those who are awake but wait for a CPU must not cost another call of the
        // kernel: 250 ns.
        team.sleepers.fetch_sub(wake(team.signal, wakes), std::memory_order_relaxed);
    }
}

}  // namespace siglin
