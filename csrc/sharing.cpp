#include "sharing.h"

#include <algorithm>
#include <atomic>
#include <bit>

#include "parallel.h"
#include "team.h"

namespace siglin {
namespace {

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

}  // namespace

std::uint64_t kind_of(void (*run)(const void*, index_t), double multiply_adds) {
    constexpr int kMantissa = 52;
    const auto size = std::bit_cast<std::uint64_t>(multiply_adds) >> (kMantissa - 2);
    const auto threads = static_cast<std::uint64_t>(num_threads());
    return reinterpret_cast<std::uintptr_t>(run) ^ (size << 48) ^ (threads << 38);
}

void forget_times() { Times::forget_all(); }

Way Stream::begin(std::uint64_t kind, Clock::time_point now) {
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

void Stream::next_period() {
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

}  // namespace siglin
