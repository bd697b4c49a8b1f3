// The thread team: blocks of one piece of work, shared among the caller and its
// helpers. Whoever cuts work into blocks does so by shapes alone, so that results have
// the same bits for any number of threads. Kernels never include this.
#pragma once

#include <functional>

#include "view.h"

namespace siglin {

inline constexpr int kMostThreads = 1024;

// The threads that work together, the caller included; process-wide, 1 until set.
int num_threads();

// n in [1, kMostThreads]. Work under way goes on as it began.
void set_num_threads(int n);

// What the caller of a parallel_for does about every 10 ms while it waits for others.
using WhileWaiting = std::function<void()>;

// For tests: helpers wait so many seconds before they look for work, as if the CPU were
// slow to tell them, and to wake those asleep takes its caller so much longer; forget:
// what was measured before.
void make_helpers_late(double seconds, double waking_seconds, bool forget);

// parallel_for behind its template.
void run_blocks(index_t blocks, double multiply_adds,
                void (*run)(const void* body, index_t block), const void* body,
                const WhileWaiting* while_waiting);

// body(block) once for each block in [0, blocks), on this thread and on those of the
// team that come in time; returns when all are done. multiply_adds is the work of all
// blocks together: where it is too little for two, with one thread, and while the team
// is taken (by another thread, or by the body that calls this), all blocks run here, in
// order. If a body throws, blocks that nobody has begun are left out and the first
// exception arrives here. A body must not touch Python, nor fork, unless it finds
// itself on the calling thread: a child throws std::runtime_error then. What
// while_waiting throws arrives here once all blocks are done.
template <class Body>
void parallel_for(index_t blocks, double multiply_adds, const Body& body,
                  const WhileWaiting* while_waiting = nullptr) {
    if (blocks == 1) {
        body(index_t{0});
        return;
    }
    run_blocks(
        blocks, multiply_adds,
        [](const void* b, index_t block) { (*static_cast<const Body*>(b))(block); },
        &body, while_waiting);
}

}  // namespace siglin
