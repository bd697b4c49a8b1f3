// Which targets are compiled in, which of them this CPU runs, and the one in use.
#pragma once

#include <string>
#include <vector>

#include "kernel_table.h"

namespace siglin {

// Best first.
const std::vector<const KernelTable*>& compiled_tables();
std::vector<const KernelTable*> supported_tables();

// The table in use: the best supported one that computes right numbers (self_check.h),
// unless use_target chose another.
const KernelTable& kernel_table();

// Chooses that table. Returns what is to be told of better ones that compute wrong
// numbers here, or nothing; throws std::runtime_error where all do.
std::string choose_target();

// Throws std::runtime_error that lists the valid names, or says what the target
// computes wrongly.
void use_target(const std::string& name);

// What the CPU lacks for the least demanding compiled target; empty if nothing.
std::string missing_features();

}  // namespace siglin
