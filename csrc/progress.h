// How long work tells that it goes on: what is called between its pieces, and how often
// somebody looks at the clock, or for Ctrl-C.
#pragma once

#include <chrono>
#include <functional>
#include <utility>

namespace siglin {

// Called between pieces of work, each of some 10 ms of a thread, with the work done
// since in multiply-adds; may throw to stop.
using Progress = std::function<void(double)>;

// Thrown by an `interrupted` hook's request; the parameters are those of a whole step.
struct Interrupted {};

// Says when an interval has passed, without a look at the clock for every small step
// (one costs as much): only after enough multiply-adds, 10 us to 1 ms of them.
class Pacer {
  public:
    explicit Pacer(double seconds) : seconds_(seconds), last_(Clock::now()) {}

    bool due(double multiply_adds) {
        work_ += multiply_adds;
        return work_ > kWorkBetweenLooks && look();
    }

  private:
    using Clock = std::chrono::steady_clock;
    static constexpr double kWorkBetweenLooks = 2e5;

    bool look() {
        work_ = 0;
        const auto now = Clock::now();
        if (std::chrono::duration<double>(now - last_).count() < seconds_) {
            return false;
        }
        last_ = now;
        return true;
    }

    double seconds_;
    Clock::time_point last_;
    double work_ = 0;
};

// Calls `interrupted` about every 20 ms of work; throws Interrupted where it says so.
class InterruptPoll {
  public:
    explicit InterruptPoll(std::function<bool()> interrupted)
        : interrupted_(std::move(interrupted)), pacer_(0.02) {}

    void charge(double multiply_adds) {
        if (pacer_.due(multiply_adds) && interrupted_ && interrupted_()) {
            throw Interrupted{};
        }
    }

  private:
    std::function<bool()> interrupted_;
    Pacer pacer_;
};

}  // namespace siglin
