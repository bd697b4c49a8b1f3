// Names of activations, losses and optimisers, as Python spells them.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "../fit.h"
#include "../runner.h"

namespace siglin {

std::vector<std::string> activation_names();
std::vector<std::string> loss_names();

// Each throws ValueError that lists the valid names.
Activation activation_from(const char* function, const std::string& name);
// Also throws TypeError for anything but a str.
Activation activation_from(const char* function, const pybind11::handle& name);
Loss loss_from(const char* function, const std::string& name);
// Also throws TypeError for anything but a str.
Optimizer optimizer_from(const char* function, const pybind11::handle& name);

const char* name_of(StopReason reason);

}  // namespace siglin
