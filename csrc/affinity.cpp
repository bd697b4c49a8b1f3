#include "affinity.h"

#include <sched.h>

#include <algorithm>
#include <bit>

namespace siglin {
namespace {

// The affinity of a calling thread is looked up so often, which costs 100 ns.
constexpr std::chrono::milliseconds kBetweenLookUps{1};

Cpus affinity_now() {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    sched_getaffinity(0, sizeof(cpus),
                      &cpus);  // fails beyond 1,024 CPUs: none is known
    return std::bit_cast<Cpus>(cpus);
}

// When the library is loaded, which is when the usual number of threads is chosen.
const Cpus affinity_at_load = affinity_now();

}  // namespace

const Affinity& callers_affinity(std::chrono::steady_clock::time_point now) {
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

}  // namespace siglin
