// A known-answer test of a kernel table, for a CPU, an emulator or a build that gets an
// instruction set wrong.
#pragma once

#include <string>

#include "kernel_table.h"

namespace siglin {

// What the table computes wrongly, as "sigmoid in float32"; empty if nothing. 64
// sigmoids, and one layer with its gradients, in both dtypes, against plain loops in
// double: 0.1 ms.
std::string first_fault(const KernelTable& table);

}  // namespace siglin
