// The CPUs of a thread that has work to share.
#pragma once

#include <chrono>

#include "team.h"

namespace siglin {

// The affinity of a calling thread, and how many threads it may share work among.
struct Affinity {
    Cpus cpus;
    int most_threads;
    std::chrono::steady_clock::time_point looked_up;
};

const Affinity& callers_affinity(std::chrono::steady_clock::time_point now);

// Tells helpers where the work that is prepared may run.
void publish(const Cpus& cpus);

}  // namespace siglin
