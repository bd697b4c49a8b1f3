// Many fits, side by side.
#pragma once

#include <functional>
#include <vector>

#include "fit.h"

namespace siglin {

// Runs all jobs, each on one thread of the team, with the bits of one fit after the
// other. results has one entry for each job, as of `fit`. No job writes what another
// one reads. interrupted: asked about every 20 ms on the calling thread, with the
// epochs that all jobs together have done; true ends all of them by Interrupted.
template <class T>
void fit_many(const std::vector<FitJob<T>>& jobs,
              const std::function<bool(index_t epochs)>& interrupted,
              std::vector<FitResult>& results);

}  // namespace siglin
