#include "names.h"

#include <pybind11/pybind11.h>

namespace siglin {
namespace {

template <std::size_t kCount>
std::size_t find(const char* function, const char* argument, const std::string& name,
                 const char* const (&names)[kCount]) {
    std::string valid;
    for (std::size_t i = 0; i < kCount; ++i) {
        if (name == names[i]) {
            return i;
        }
        valid += (valid.empty() ? "\"" : ", \"") + std::string(names[i]) + "\"";
    }
    throw pybind11::value_error(std::string(function) + ": " + argument +
                                " must be one of " + valid + ", got \"" + name + "\"");
}

constexpr const char* kActivations[] = {
#define SIGLIN_ACTIVATION(name) #name,
#include "../activations.inc"
#undef SIGLIN_ACTIVATION
};
constexpr const char* kLosses[] = {"bce", "squared_error", "cross_entropy"};
constexpr const char* kOptimizers[] = {"gd", "momentum", "nesterov", "adam"};
constexpr const char* kReasons[] = {"epochs", "tol", "callback", "diverged"};

}  // namespace

std::vector<std::string> activation_names() {
    return {std::begin(kActivations), std::end(kActivations)};
}

Activation activation_from(const char* function, const std::string& name) {
    return static_cast<Activation>(find(function, "activation", name, kActivations));
}

Loss loss_from(const char* function, const std::string& name) {
    return static_cast<Loss>(find(function, "loss", name, kLosses));
}

Optimizer optimizer_from(const char* function, const std::string& name) {
    return static_cast<Optimizer>(find(function, "optimizer", name, kOptimizers));
}

const char* name_of(StopReason reason) { return kReasons[static_cast<int>(reason)]; }

}  // namespace siglin
