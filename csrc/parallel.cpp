#include "parallel.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <exception>
#include <stdexcept>

#include "buffer.h"
#include "float_environment.h"

namespace siglin {
namespace {

// The cost model, in multiply-adds for each helper; 60 of them take a nanosecond in
// float32 on a 2.6 GHz Zen 4, where all was measured (FIFO priority, two CPUs, eight
// blocks). A helper that is awake halves 100,000 from 1.9 us to 1.1, so it is worth
// calling from twice that on. Waking it costs the caller 8 us and comes 10 us late: 1 M
// take 21 us instead of 17, 2 M 30 us instead of 34.
constexpr double kWorthSharing = 2e5;
constexpr double kWorthWaking = 2e6;

// So much work in pieces that are each worth sharing alone is worth waking a helper,
// who will be awake for the next pieces; where they come too seldom, 2 % are lost.
constexpr double kWorthWakingInPieces = 2e7;

// How long a helper looks for the next work, and the caller for the end of the last
// blocks, before the kernel is asked to wake them: as long as waking costs. In the gaps
// of a fit helpers stay awake: with 10 us between pieces of 1 M the piece takes 10 us,
// after 2 us of looking 21.
constexpr std::chrono::nanoseconds kSpin{20'000};

// Kernels need a few kilobytes of stack; the usual 8 MB count as memory where that is
// limited.
constexpr std::size_t kStackBytes = 1024 * 1024;

using Word = std::atomic<std::uint32_t>;
static_assert(sizeof(Word) == 4 && Word::is_always_lock_free);  // as a futex must be

// Set in Team::pending while the caller sleeps.
constexpr std::uint32_t kCallerSleeps = 1U << 31;
constexpr index_t kMostBlocks = kCallerSleeps - 1;

// One for the process, of static storage and never destroyed: helpers are detached and
// may look at it until the last instruction of the process.
//
// The protocol. A caller that takes the team fills in the work, then sets `unclaimed`.
// Whoever can decrement it has claimed a block, and only then reads what the work is:
// the work can't end, nor be replaced, before that block is subtracted from `pending`.
// So a helper that comes late finds `unclaimed` 0, or the next work, and the caller
// waits for claimed blocks alone.
struct Team {
    // What a helper touches first, in one cache line.
    alignas(64) Word signal;  // changes with every work and every set_num_threads
    Word unclaimed;           // blocks that nobody has begun
    Word sleepers;            // helpers in the kernel, or on the way
    index_t blocks;
    void (*run)(const void*, index_t);
    const void* body;
    std::exception_ptr* error;
    ControlWord environment;  // the caller's, for the work's blocks
    std::atomic<bool> failed;
    std::atomic<int> cpu;       // of the caller, when it announced the work
    std::atomic<bool> crowded;  // a helper has claimed blocks on that CPU

    alignas(64) Word pending;  // blocks that are not done, and kCallerSleeps

    alignas(64) std::atomic<bool> taken;
    std::atomic<int> helpers;
    std::atomic<int> threads;
    std::atomic<double> missed;  // multiply-adds done alone because nobody was awake
    std::atomic<int> forks;      // of which this process is the child
};

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
                       .crowded = false,
                       .pending = 0,
                       .taken = false,
                       .helpers = 0,
                       .threads = 1,
                       .missed = 0,
                       .forks = 0};

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
    const auto end = std::chrono::steady_clock::now() + kSpin;
    do {
        for (int i = 0; i < kLooksPerClock; ++i) {
            if (ready()) {
                return true;
            }
            pause();
        }
    } while (std::chrono::steady_clock::now() < end);
    return false;
}

// Runs blocks until all are claimed, in the floating-point environment of the thread
// that announced them; returns how many of `pending` this accounts for.
std::uint32_t claim_blocks() {
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
        try {
            team.run(team.body, team.blocks - static_cast<index_t>(left));
        } catch (...) {
            if (!team.failed.exchange(true, std::memory_order_relaxed)) {
                *team.error = std::current_exception();
            }
            count += team.unclaimed.exchange(0, std::memory_order_relaxed);
        }
        left = team.unclaimed.load(std::memory_order_relaxed);
    }
    return count;
}

void settle(std::uint32_t count) {
    if (team.pending.fetch_sub(count, std::memory_order_acq_rel) ==
        (count | kCallerSleeps)) {
        wake(team.pending, 1);
    }
}

// forks: as the work began. In a child the others are gone, with the blocks they had.
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
            (*while_waiting)();
        } else {
            sleep_while(team.pending, left);
        }
        left = team.pending.load(std::memory_order_acquire);
    }
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

// Makes every CPU but this one the helper's. On a busy machine the scheduler wakes a
// helper on the CPU of whoever woke it, where the two can only take turns, and leaves
// it there: a piece of 400,000 took 11 us instead of 7 alone, and takes 7.
void keep_off(int cpu) {
    cpu_set_t cpus;
    if (sched_getaffinity(getpid(), sizeof(cpus), &cpus) == 0) {
        CPU_CLR(static_cast<unsigned>(cpu), &cpus);
        if (CPU_COUNT(&cpus) != 0) {
            sched_setaffinity(0, sizeof(cpus), &cpus);
        }
    }
}

bool on_callers_cpu() {
    return sched_getcpu() == team.cpu.load(std::memory_order_relaxed);
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

void help() {
    if (team.unclaimed.load(std::memory_order_acquire) == 0 || !has_workspace()) {
        return;
    }
    if (on_callers_cpu()) {
        keep_off(sched_getcpu());
        if (on_callers_cpu()) {
            team.crowded.store(true, std::memory_order_relaxed);
        }
    }
    if (const std::uint32_t count = claim_blocks(); count != 0) {
        settle(count);
    }
}

void* helper(void*) {
    pthread_setname_np(pthread_self(), "siglin");
    for (;;) {
        // Read before looking for work: what comes after the look changes it.
        const std::uint32_t seen = team.signal.load(std::memory_order_acquire);
        const auto changed = [seen] {
            return team.signal.load(std::memory_order_relaxed) != seen;
        };
        help();
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

// Returns false where the system refuses another thread. pthread_create: std::thread
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

// Tells helpers that there is something new, and wakes so many of those asleep.
void announce(int wakes) {
    // Ordered with a helper that counts itself among the sleepers and then has the
    // kernel compare the signal: one of the two sees the other.
    team.signal.fetch_add(1, std::memory_order_seq_cst);
    if (wakes > 0 && team.sleepers.load(std::memory_order_seq_cst) != 0) {
        // Those who are awake but wait for a CPU must not cost another call of the
        // kernel: 250 ns.
        team.sleepers.fetch_sub(wake(team.signal, wakes), std::memory_order_relaxed);
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

struct Plan {
    int helpers;  // who can be of use; 0: the caller alone
    int wakes;    // of them, at most so many are worth waking
};

Plan plan(index_t blocks, double multiply_adds) {
    const auto worth = [multiply_adds](double cost) {
        return static_cast<int>(std::min(multiply_adds / cost, 1.0 * kMostThreads));
    };
    const int most =
        static_cast<int>(std::min(blocks, static_cast<index_t>(num_threads())) - 1);
    const int helpers = std::min(most, worth(kWorthSharing));
    if (helpers < 1) {
        return {0, 0};
    }
    const int awake = team.helpers.load(std::memory_order_relaxed) -
                      static_cast<int>(team.sleepers.load(std::memory_order_relaxed));
    int wakes = std::min(helpers - awake, worth(kWorthWaking));
    if (awake < 1 && wakes < 1) {
        const double missed =
            team.missed.load(std::memory_order_relaxed) + multiply_adds;
        wakes = missed < kWorthWakingInPieces ? 0 : 1;
        team.missed.store(wakes == 0 ? missed : 0, std::memory_order_relaxed);
        return {wakes, wakes};
    }
    return {helpers, wakes};
}

}  // namespace

int num_threads() { return team.threads.load(std::memory_order_relaxed); }

void set_num_threads(int n) {
    SIGLIN_ASSERT(n >= 1 && n <= kMostThreads);
    team.threads.store(n, std::memory_order_relaxed);
    announce(INT_MAX);  // those too many leave
}

void run_blocks(index_t blocks, double multiply_adds,
                void (*run)(const void* body, index_t block), const void* body,
                const WhileWaiting* while_waiting) {
    const auto [helpers, wakes] = plan(blocks, multiply_adds);
    if (helpers < 1 || blocks > kMostBlocks ||
        team.taken.exchange(true, std::memory_order_acquire)) {
        for (index_t block = 0; block < blocks; ++block) {
            run(body, block);
        }
        return;
    }
    for (int starts = wakes; starts > 0; --starts) {
        if (team.helpers.load(std::memory_order_relaxed) >= helpers ||
            !start_helper()) {
            break;
        }
    }
    std::exception_ptr error;
    const int forks = team.forks.load();
    team.blocks = blocks;
    team.run = run;
    team.body = body;
    team.error = &error;
    team.environment = control_word();
    team.failed.store(false, std::memory_order_relaxed);
    team.cpu.store(sched_getcpu(), std::memory_order_relaxed);
    team.crowded.store(false, std::memory_order_relaxed);
    team.pending.store(static_cast<std::uint32_t>(blocks), std::memory_order_relaxed);
    team.unclaimed.store(static_cast<std::uint32_t>(blocks), std::memory_order_release);
    announce(wakes);
    const std::uint32_t count = claim_blocks();
    if (team.forks.load() == forks) {
        settle(count);
        wait_for_pending(while_waiting, forks);
    }
    if (team.forks.load() != forks) {
        throw std::runtime_error("a forked child cannot end work that threads share");
    }
    team.taken.store(false, std::memory_order_release);
    if (error) {
        std::rethrow_exception(error);
    }
}

}  // namespace siglin
