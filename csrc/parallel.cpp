#include "parallel.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdint>
#include <exception>

namespace siglin {
namespace {

// The multiply-adds that are worth a helper.
constexpr double kWorthAHelper = 1e6;

// How long a helper looks for the next work, and the caller for the end of the last
// blocks, before the kernel is asked to wake them.
constexpr std::chrono::nanoseconds kSpin{5'000};

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
    std::atomic<bool> failed;

    alignas(64) Word pending;  // blocks that are not done, and kCallerSleeps

    alignas(64) std::atomic<bool> taken;
    std::atomic<int> helpers;
    std::atomic<int> threads;
};

constinit Team team = {.signal = 0,
                       .unclaimed = 0,
                       .sleepers = 0,
                       .blocks = 0,
                       .run = nullptr,
                       .body = nullptr,
                       .error = nullptr,
                       .failed = false,
                       .pending = 0,
                       .taken = false,
                       .helpers = 0,
                       .threads = 1};

// Sleeps while the word is `value`, or shorter. std::atomic::wait would spin and yield
// first for a time that nobody can set, and wakes one or all.
void sleep_while(Word& word, std::uint32_t value) {
    syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}

void wake(Word& word, int count) {
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
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

// Runs blocks until all are claimed; returns how many of `pending` this accounts for.
std::uint32_t claim_blocks() {
    std::uint32_t count = 0;
    std::uint32_t left = team.unclaimed.load(std::memory_order_relaxed);
    while (left != 0) {
        if (!team.unclaimed.compare_exchange_weak(
                left, left - 1, std::memory_order_acquire, std::memory_order_relaxed)) {
            continue;
        }
        ++count;
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

void wait_for_pending() {
    if (spin_until([] { return team.pending.load(std::memory_order_acquire) == 0; })) {
        return;
    }
    auto left =
        team.pending.fetch_or(kCallerSleeps, std::memory_order_acquire) | kCallerSleeps;
    while (left != kCallerSleeps) {
        sleep_while(team.pending, left);
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

void* helper(void*) {
    pthread_setname_np(pthread_self(), "siglin");
    // Threads inherit flags like flush-to-zero from the one that starts them.
    std::fesetenv(FE_DFL_ENV);
    for (;;) {
        // Read before looking for work: what comes after the look changes it.
        const std::uint32_t seen = team.signal.load(std::memory_order_acquire);
        if (const std::uint32_t count = claim_blocks(); count != 0) {
            settle(count);
        }
        if (leave()) {
            return nullptr;
        }
        if (!spin_until([seen] {
                return team.signal.load(std::memory_order_relaxed) != seen;
            })) {
            team.sleepers.fetch_add(1, std::memory_order_seq_cst);
            sleep_while(team.signal, seen);
            team.sleepers.fetch_sub(1, std::memory_order_relaxed);
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

void announce(int helpers) {
    // Ordered with a helper that counts itself among the sleepers and then has the
    // kernel compare the signal: one of the two sees the other.
    team.signal.fetch_add(1, std::memory_order_seq_cst);
    if (team.sleepers.load(std::memory_order_seq_cst) != 0) {
        wake(team.signal, helpers);
    }
}

// After a fork the child has the forking thread alone, and the team as it was, perhaps
// in the middle of another thread's work.
void forget_helpers() {
    team.helpers.store(0, std::memory_order_relaxed);
    team.sleepers.store(0, std::memory_order_relaxed);
    team.unclaimed.store(0, std::memory_order_relaxed);
    team.taken.store(false, std::memory_order_relaxed);
}

// When the library is loaded: later, a fork could come between.
[[maybe_unused]] const int fork_handler =
    pthread_atfork(nullptr, nullptr, forget_helpers);

// The helpers that this work can use.
int wanted_helpers(index_t blocks, double multiply_adds) {
    const auto worth = std::min(multiply_adds / kWorthAHelper, 1.0 * kMostThreads);
    return static_cast<int>(std::min<index_t>(
        {num_threads() - 1, blocks - 1, static_cast<index_t>(worth)}));
}

}  // namespace

int num_threads() { return team.threads.load(std::memory_order_relaxed); }

void set_num_threads(int n) {
    SIGLIN_ASSERT(n >= 1 && n <= kMostThreads);
    team.threads.store(n, std::memory_order_relaxed);
    announce(INT_MAX);  // those too many leave
}

void run_blocks(index_t blocks, double multiply_adds,
                void (*run)(const void* body, index_t block), const void* body) {
    const int helpers = wanted_helpers(blocks, multiply_adds);
    if (helpers < 1 || blocks > kMostBlocks ||
        team.taken.exchange(true, std::memory_order_acquire)) {
        for (index_t block = 0; block < blocks; ++block) {
            run(body, block);
        }
        return;
    }
    while (team.helpers.load(std::memory_order_relaxed) < helpers && start_helper()) {
    }
    std::exception_ptr error;
    team.blocks = blocks;
    team.run = run;
    team.body = body;
    team.error = &error;
    team.failed.store(false, std::memory_order_relaxed);
    team.pending.store(static_cast<std::uint32_t>(blocks), std::memory_order_relaxed);
    team.unclaimed.store(static_cast<std::uint32_t>(blocks), std::memory_order_release);
    announce(helpers);
    settle(claim_blocks());
    wait_for_pending();
    team.taken.store(false, std::memory_order_release);
    if (error) {
        std::rethrow_exception(error);
    }
}

}  // namespace siglin
