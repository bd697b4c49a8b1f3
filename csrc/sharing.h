// Whether sharing a piece of work pays: measured, piece by piece.
//
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
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>

#include "view.h"

namespace siglin {

// So much work in pieces that are each worth sharing alone is worth waking a helper,
// who will be awake for the next pieces; where they come too seldom, 2 % are lost.
inline constexpr double kWorthWakingInPieces = 2e7;

enum Way : int { kAlone, kShared };

// The function that runs the work, its size to a quarter of an octave, the number of
// threads.
std::uint64_t kind_of(void (*run)(const void*, index_t), double multiply_adds);

// Forgets what was measured.
void forget_times();

// The pieces of work of one thread.
class Stream {
  public:
    using Clock = std::chrono::steady_clock;

    static Stream& of_this_thread() {
        constinit thread_local Stream stream;
        return stream;
    }

    // Whether the thread is inside a piece: what that calls is part of it.
    bool is_inside() const { return inside_; }

    // The window tells nothing: another thread has the team, or a body threw.
    void disturb() { disturbed_ = true; }

    // Says how the piece is to run; end() must follow.
    Way begin(std::uint64_t kind, Clock::time_point now);

    void end() {
        end_ = Clock::now();
        elapsed_ += end_ - begin_;
        inside_ = false;
    }

  private:
    void next_period();

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

    Way begin(Stream& stream, std::uint64_t kind, Stream::Clock::time_point now) {
        stream_ = &stream;
        return stream.begin(kind, now);
    }

  private:
    Stream* stream_ = nullptr;
    int exceptions_ = std::uncaught_exceptions();
};

}  // namespace siglin
