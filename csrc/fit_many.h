// Many fits, side by side.
#pragma once

#include <functional>
#include <vector>

#include "fit.h"

namespace siglin {

// Called on the calling thread.
struct ManyHooks {
    // About every 20 ms, with the epochs that all jobs together have done; true ends
    // all of them by Interrupted.
    std::function<bool(index_t epochs)> interrupted;
    // Of job k after each of its epochs, as FitHooks::on_epoch, with what it has done
    // so far; true stops that fit. What it throws ends all.
    std::function<bool(std::size_t k, const FitResult& result, bool last)> on_epoch;
    std::vector<bool> listens;  // whether on_epoch is for job k; empty: for none
};

// Runs all jobs, each on one thread of the team, with the bits of one fit after the
// other. results has one entry for each job, as of `fit`. No job writes what another
// one reads.
template <class T>
void fit_many(const std::vector<FitJob<T>>& jobs, const ManyHooks& hooks,
              std::vector<FitResult>& results);

}  // namespace siglin
