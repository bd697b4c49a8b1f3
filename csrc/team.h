// The thread team behind parallel.h: helpers, what they are told, and how they wait.
#pragma once

#include <sched.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <exception>

#include "float_environment.h"
#include "parallel.h"
#include "view.h"

namespace siglin {

using Word = std::atomic<std::uint32_t>;
static_assert(sizeof(Word) == 4 && Word::is_always_lock_free);  // as a futex must be

// A thread's affinity, as many words as a cpu_set_t has.
inline constexpr std::size_t kCpuWords = sizeof(cpu_set_t) / sizeof(std::uint64_t);
using Cpus = std::array<std::uint64_t, kCpuWords>;

// Of one piece of work: a bit of Team::pending says whether the caller sleeps.
inline constexpr std::uint32_t kMostTeamBlocks = (1U << 31) - 1;

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

    alignas(
        64) Word pending;  // blocks that are not done, and whether the caller sleeps

    alignas(64) std::atomic<bool> taken;
    std::atomic<int> helpers;
    std::atomic<int> threads;
    std::atomic<double> missed;  // multiply-adds done alone because nobody was awake
    std::atomic<int> waking;     // nanoseconds that a test adds to waking a helper
    std::atomic<int> forks;      // of which this process is the child

    std::atomic<std::uint64_t> cpus[kCpuWords];  // the caller's affinity
};

extern Team team;

// Starts one; returns false where the system refuses another thread.
bool start_helper();

// Tells helpers that there is something new, and wakes so many of those asleep.
void announce(int wakes);

// Runs blocks until all are claimed, in the floating-point environment of the thread
// that announced them; returns how many of `pending` this accounts for.
std::uint32_t run_claimed();

// So many blocks of `pending` are done.
void end_blocks(std::uint32_t count);

// Inside catch (...): the first exception is the work's.
void keep_exception();

// Returns when the last block is done, whatever while_waiting throws: helpers use what
// is on the caller's stack. forks: as the work began. In a child the others are gone,
// with the blocks they had.
void wait_for_pending(const WhileWaiting* while_waiting, int forks);

}  // namespace siglin
