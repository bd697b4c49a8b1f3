#include "parallel.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <exception>
#include <stdexcept>

#include "affinity.h"
#include "float_environment.h"
#include "sharing.h"
#include "team.h"

namespace siglin {
namespace {

using Clock = std::chrono::steady_clock;

// What is worth sharing as long as nothing else is known (see Stream), in multiply-adds
// for each helper; 60 of them take a nanosecond in float32 on a 2.6 GHz Zen 4, where
// all was measured (FIFO priority, two CPUs, eight blocks). A helper that is awake
// halves 100,000 from 1.9 us to 1.1, so it is worth calling from twice that on. Waking
// it costs the caller 8 us and comes 10 us late: 1 M take 21 us instead of 17, 2 M 30
// us instead of 34.
constexpr double kWorthSharing = 2e5;
constexpr double kWorthWaking = 2e6;

// So much work is shared in any case: 0.8 ms on that CPU, for which helpers are welcome
// that come 0.1 ms late, and dear to run alone for a comparison.
constexpr double kSurelyWorth = 5e7;

struct Plan {
    int helpers = 0;  // who can be of use; 0: the caller alone
    int wakes = 0;    // of them, at most so many are worth waking
    const Cpus* cpus = nullptr;
};

// piece begins, if the work is timed.
Plan plan(index_t blocks, double multiply_adds, void (*run)(const void*, index_t),
          Piece& piece) {
    const auto worth = [multiply_adds](double cost) {
        return static_cast<int>(std::min(multiply_adds / cost, 1.0 * kMostThreads));
    };
    const int most =
        static_cast<int>(std::min(blocks, static_cast<index_t>(num_threads())) - 1);
    int helpers = std::min(most, worth(kWorthSharing));
    if (helpers < 1) {
        return {};
    }
    Stream& stream = Stream::of_this_thread();
    if (stream.is_inside()) {
        return {};
    }
    if (team.taken.load(std::memory_order_relaxed)) {
        stream.disturb();
        return {};
    }
    const auto now = Clock::now();
    const Affinity& affinity = callers_affinity(now);
    helpers = std::min(helpers, affinity.most_threads - 1);
    if (helpers < 1) {
        return {};
    }
    if (multiply_adds < kSurelyWorth &&
        piece.begin(stream, kind_of(run, multiply_adds), now) == kAlone) {
        return {};
    }
    const int awake = team.helpers.load(std::memory_order_relaxed) -
                      static_cast<int>(team.sleepers.load(std::memory_order_relaxed));
    int wakes = std::min(helpers - awake, worth(kWorthWaking));
    if (awake < 1 && wakes < 1) {
        const double missed =
            team.missed.load(std::memory_order_relaxed) + multiply_adds;
        wakes = missed < kWorthWakingInPieces ? 0 : 1;
        team.missed.store(wakes == 0 ? missed : 0, std::memory_order_relaxed);
        return {wakes, wakes, &affinity.cpus};
    }
    return {helpers, wakes, &affinity.cpus};
}

}  // namespace

int num_threads() { return team.threads.load(std::memory_order_relaxed); }

void set_num_threads(int n) {
    SIGLIN_ASSERT(n >= 1 && n <= kMostThreads);
    team.threads.store(n, std::memory_order_relaxed);
    announce(INT_MAX);  // those too many leave
}

void make_helpers_late(double seconds, double waking_seconds, bool forget) {
    team.lag.store(static_cast<int>(seconds * 1e9), std::memory_order_relaxed);
    team.waking.store(static_cast<int>(waking_seconds * 1e9),
                      std::memory_order_relaxed);
    if (forget) {
        forget_times();
    }
}

void run_blocks(index_t blocks, double multiply_adds,
                void (*run)(const void* body, index_t block), const void* body,
                const WhileWaiting* while_waiting) {
    Piece piece;
    const auto [helpers, wakes, cpus] = plan(blocks, multiply_adds, run, piece);
    const bool shared = helpers > 0 &&
                        blocks <= static_cast<index_t>(kMostTeamBlocks) &&
                        !team.taken.exchange(true, std::memory_order_acquire);
    if (!shared) {
        if (helpers > 0) {
            Stream::of_this_thread().disturb();
        }
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
    publish(*cpus);
    team.pending.store(static_cast<std::uint32_t>(blocks), std::memory_order_relaxed);
    team.unclaimed.store(static_cast<std::uint32_t>(blocks), std::memory_order_release);
    announce(wakes);
    const std::uint32_t count = run_claimed();
    if (team.forks.load() == forks) {
        end_blocks(count);
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
