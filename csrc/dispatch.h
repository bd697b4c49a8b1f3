// Which targets are compiled in, which of them this CPU runs, and the one in use.
#pragma once

#include <string>
#include <vector>

#include "kernel_table.h"

namespace siglin {

// Best first.
const std::vector<const KernelTable*>& compiled_tables();
std::vector<const KernelTable*> supported_tables();

// The table in use: the best supported one, unless use_target chose another.
const KernelTable& kernel_table();

// Throws std::runtime_error that lists the valid names.
void use_target(const std::string& name);

// What the CPU lacks for the least demanding compiled target; empty if nothing.
std::string missing_features();

}  // namespace siglin
