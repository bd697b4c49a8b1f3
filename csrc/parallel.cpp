#include "parallel.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
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

// What is worth sharing as long as nothing else is known (see Stream), in multiply-adds
// for each helper; 60 of them take a nanosecond in float32 on a 2.6 GHz Zen 4, where
// all was measured (FIFO priority, two CPUs, eight blocks). A helper that is awake
// halves 100,000 from 1.9 us to 1.1, so it is worth calling from twice that on. Waking
// it costs the caller 8 us and comes 10 us late: 1 M take 21 us instead of 17, 2 M 30
// us instead of 34.
constexpr double kWorthSharing = 2e5;
constexpr double kWorthWaking = 2e6;

// So much work in pieces that are each worth sharing alone is worth waking a helper,
// who will be awake for the next pieces; where they come too seldom, 2 % are lost.
constexpr double kWorthWakingInPieces = 2e7;

// So much work is shared in any case: 0.8 ms on that CPU, for which helpers are welcome
// that come 0.1 ms late, and dear to run alone for a comparison.
constexpr double kSurelyWorth = 5e7;

// The affinity of a calling thread is looked up so often, which costs 100 ns.
constexpr std::chrono::milliseconds kBetweenLookUps{1};

// How long a helper looks for the next work, and the caller for the end of the last
// blocks, before the kernel is asked to wake them: as long as waking costs. In the gaps
// of a fit helpers stay awake: with 10 us between pieces of 1 M the piece takes 10 us,
// after 2 us of looking 21.
constexpr std::chrono::nanoseconds kSpin{20'000};

// Kernels need a few kilobytes of stack; the usual 8 MB count as memory where that is
// limited.
constexpr std::size_t kStackBytes = 1024 * 1024;

using Clock = std::chrono::steady_clock;
using Word = std::atomic<std::uint32_t>;
static_assert(sizeof(Word) == 4 && Word::is_always_lock_free);  // as a futex must be

// A thread's affinity, as many words as a cpu_set_t has.
constexpr std::size_t kCpuWords = sizeof(cpu_set_t) / sizeof(std::uint64_t);
using Cpus = std::array<std::uint64_t, kCpuWords>;

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
    std::atomic<int> cpu;  // of the caller, when it announced the work
    Word placement;        // changes with `cpus`, after them
    std::atomic<int>
        lag;  // nanoseconds that a test makes helpers wait before they look

    alignas(64) Word pending;  // blocks that are not done, and kCallerSleeps

    alignas(64) std::atomic<bool> taken;
    std::atomic<int> helpers;
    std::atomic<int> threads;
    std::atomic<double> missed;  // multiply-adds done alone because nobody was awake
    std::atomic<int> waking;     // nanoseconds that a test adds to waking a helper
    std::atomic<int> forks;      // of which this process is the child

    std::atomic<std::uint64_t> cpus[kCpuWords];  // the caller's affinity
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

// Inside catch (...): the first exception is the work's.
void keep_exception() {
    if (!team.failed.exchange(true, std::memory_order_relaxed)) {
        *team.error = std::current_exception();
    }
}

// Runs blocks until all are claimed, in the floating-point environment of the thread
// that announced them; returns how many of `pending` this accounts for.
// claimed(): after each claim, while the work that it is of can't be replaced.
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

void settle(std::uint32_t count) {
    if (team.pending.fetch_sub(count, std::memory_order_acq_rel) ==
        (count | kCallerSleeps)) {
        wake(team.pending, 1);
    }
}

// Returns when the last block is done, whatever while_waiting throws: helpers use what
// is on the caller's stack. forks: as the work began. In a child the others are gone,
// with the blocks they had.
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
        settle(count);
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
        if (const int waking = team.waking.load(std::memory_order_relaxed);
            waking != 0) {
            stay_busy(waking);
        }
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

// The affinity of a calling thread, and how many threads it may share work among.
struct Affinity {
    Cpus cpus;
    int most_threads;
    Clock::time_point looked_up;
};

Cpus affinity_now() {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    sched_getaffinity(0, sizeof(cpus),
                      &cpus);  // fails beyond 1,024 CPUs: none is known
    return std::bit_cast<Cpus>(cpus);
}

// When the library is loaded, which is when the usual number of threads is chosen.
const Cpus affinity_at_load = affinity_now();

const Affinity& callers_affinity(Clock::time_point now) {
    constinit thread_local Affinity affinity{};
    if (now - affinity.looked_up > kBetweenLookUps) {
        affinity.looked_up = now;
        affinity.cpus = affinity_now();
        // More threads than CPUs are the user's choice, but a thread that was given
        // other CPUs since then has chosen nothing: it gets one for each.
        const auto cpus = std::bit_cast<cpu_set_t>(affinity.cpus);
        affinity.most_threads = affinity.cpus == affinity_at_load
                                    ? kMostThreads
                                    : std::max(CPU_COUNT(&cpus), 1);
    }
    return affinity;
}

// Tells helpers where the work that is prepared may run.
void publish(const Cpus& cpus) {
    bool changed = false;
    for (std::size_t i = 0; i < kCpuWords; ++i) {
        changed |= team.cpus[i].load(std::memory_order_relaxed) != cpus[i];
    }
    if (changed) {
        for (std::size_t i = 0; i < kCpuWords; ++i) {
            team.cpus[i].store(cpus[i], std::memory_order_relaxed);
        }
        team.placement.fetch_add(1, std::memory_order_release);
    }
}

// Whether sharing pays depends on the CPU: how fast it computes, how long a helper
// takes to hear of work, whether two threads share a core, and what it costs to fetch
// from one core what another has written, in this piece of work or in what comes after
// it. No constant has all of that, and no single piece shows it. So the pieces of a
// thread are timed as a stream: one kind of them is its leader (kind_of), and from
// leader to leader is a period, such as a step of a fit. For about kWindow all pieces
// run alone, or all worth sharing are shared, and the time of a period is learned for
// that way; the way that takes less is kept. What comes between two pieces counts, up
// to kLongestGap.
//
// A way is tried kFirst times. Then its time is an average of about the last eight,
// which a busy moment raises at most threefold; a way that lost seems the better the
// longer it was not tried, by all of its time in kForget windows, and is tried again
// when it seems best: at 1.2 times the other's time that costs 0.5 %, at any time 2 %.
// All of this decides who computes, and never what.
enum Way : int { kAlone, kShared };

constexpr std::chrono::nanoseconds kWindow{500'000};
constexpr std::chrono::nanoseconds kLongestGap{50'000};
constexpr int kWarmUp = 2;  // periods after a change of the way, in the first of which
                            // data still lie as the other way left them
constexpr int kFirst = 2;
constexpr float kForget = 256;
constexpr float kLead = 1.03F;  // sharing must gain more than it takes from other work

// What is known of the streams that pieces of one kind lead. Threads may use it at
// once: what one of them writes may be lost, and is learned again.
class Times {
  public:
    Way best() const {
        return kLead * expected(kShared) <= expected(kAlone) ? kShared : kAlone;
    }

    void learn(Way way, float nanoseconds) {
        Time& time = times_[way];
        const auto window = windows_.fetch_add(1, std::memory_order_relaxed) + 1;
        const auto ago = window - time.window.load(std::memory_order_relaxed);
        const int count = time.count.load(std::memory_order_relaxed);
        float average = time.average.load(std::memory_order_relaxed);
        if (count < kFirst) {
            average = count == 0 ? nanoseconds : std::min(average, nanoseconds);
            time.count.store(count + 1, std::memory_order_relaxed);
        } else {
            const float weight = ago == 1 ? 1.0F / 8 : 1.0F / 2;
            average += weight * (std::min(nanoseconds, 4 * average) - average);
        }
        time.average.store(average, std::memory_order_relaxed);
        time.window.store(window, std::memory_order_relaxed);
    }

    static Times& of(std::uint64_t kind) {
        Times& times = table_[(kind * 0x9e3779b97f4a7c15U) >> (64 - kTableBits)];
        if (times.kind_.load(std::memory_order_relaxed) != kind) {
            times.forget();
            times.kind_.store(kind, std::memory_order_relaxed);
        }
        return times;
    }

    static void forget_all() {
        for (Times& times : table_) {
            times.forget();
        }
    }

  private:
    struct Time {
        std::atomic<float> average;  // nanoseconds of a period
        std::atomic<int> count;      // up to kFirst
        Word window;                 // the last
    };

    // 0 if it is to be tried.
    float expected(Way way) const {
        const Time& time = times_[way];
        if (time.count.load(std::memory_order_relaxed) < kFirst) {
            return 0;
        }
        const auto ago =
            static_cast<float>(windows_.load(std::memory_order_relaxed) -
                               time.window.load(std::memory_order_relaxed));
        return time.average.load(std::memory_order_relaxed) *
               std::max(1 - ago / kForget, 0.0F);
    }

    void forget() {
        for (Time& time : times_) {
            time.count.store(0, std::memory_order_relaxed);
        }
    }

    static constexpr int kTableBits = 8;
    static Times table_[1 << kTableBits];

    std::atomic<std::uint64_t> kind_;
    Word windows_;
    Time times_[2];
};

constinit Times Times::table_[1 << kTableBits] = {};

// The function that runs the work, its size to a quarter of an octave, the number of
// threads.
std::uint64_t kind_of(void (*run)(const void*, index_t), double multiply_adds) {
    constexpr int kMantissa = 52;
    const auto size = std::bit_cast<std::uint64_t>(multiply_adds) >> (kMantissa - 2);
    const auto threads = static_cast<std::uint64_t>(num_threads());
    return reinterpret_cast<std::uintptr_t>(run) ^ (size << 48) ^ (threads << 38);
}

// The pieces of work of one thread.
class Stream {
  public:
    static Stream& of_this_thread() {
        constinit thread_local Stream stream;
        return stream;
    }

    // Whether the thread is inside a piece: what that calls is part of it.
    bool is_inside() const { return inside_; }

    // The window tells nothing: another thread has the team, or a body threw.
    void disturb() { disturbed_ = true; }

    // Says how the piece is to run; end() must follow.
    Way begin(std::uint64_t kind, Clock::time_point now) {
        constexpr int kMostPieces = 64;  // of a period
        constexpr std::chrono::milliseconds kPause{1};
        const auto gap = now - end_;
        elapsed_ += std::min(gap, std::chrono::nanoseconds(kLongestGap));
        if (kind == leader_) {
            pieces_ = 0;
            next_period();
        } else if (++pieces_ > kMostPieces || gap > kPause) {
            leader_ = kind;
            pieces_ = 0;
            start(Times::of(kind).best(), 0);
        }
        inside_ = true;
        begin_ = now;
        return way_;
    }

    void end() {
        end_ = Clock::now();
        elapsed_ += end_ - begin_;
        inside_ = false;
    }

  private:
    void next_period() {
        ++periods_;
        if (periods_ == 1 && way_ == kShared) {
            // It has come to stay: the next piece is worth waking a helper for.
            team.missed.store(kWorthWakingInPieces, std::memory_order_relaxed);
        }
        if (periods_ == kWarmUp) {
            start(way_, kWarmUp);
        } else if (periods_ > kWarmUp && elapsed_ >= kWindow) {
            Times& times = Times::of(leader_);
            if (!disturbed_) {
                times.learn(way_, static_cast<float>(elapsed_.count()) /
                                      static_cast<float>(periods_ - kWarmUp));
            }
            const Way best = times.best();
            start(best, best == way_ ? kWarmUp : 0);
        }
    }

    void start(Way way, int periods) {
        way_ = way;
        periods_ = periods;
        elapsed_ = {};
        disturbed_ = false;
    }

    std::uint64_t leader_ = 0;
    Way way_ = kShared;
    int periods_ = 0;  // since the way changed
    int pieces_ = 0;   // since the leader
    bool disturbed_ = false;
    bool inside_ = false;
    std::chrono::nanoseconds elapsed_{};  // of the window
    Clock::time_point begin_;
    Clock::time_point end_;
};

// Ends the piece of a stream, if there is one.
class Piece {
  public:
    Piece() = default;
    ~Piece() {
        if (stream_ != nullptr) {
            if (std::uncaught_exceptions() != exceptions_) {
                stream_->disturb();
            }
            stream_->end();
        }
    }
    Piece(const Piece&) = delete;
    Piece& operator=(const Piece&) = delete;

    Way begin(Stream& stream, std::uint64_t kind, Clock::time_point now) {
        stream_ = &stream;
        return stream.begin(kind, now);
    }

  private:
    Stream* stream_ = nullptr;
    int exceptions_ = std::uncaught_exceptions();
};

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
        Times::forget_all();
    }
}

void run_blocks(index_t blocks, double multiply_adds,
                void (*run)(const void* body, index_t block), const void* body,
                const WhileWaiting* while_waiting) {
    Piece piece;
    const auto [helpers, wakes, cpus] = plan(blocks, multiply_adds, run, piece);
    const bool shared = helpers > 0 && blocks <= kMostBlocks &&
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
    const std::uint32_t count = claim_blocks([] {});
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
