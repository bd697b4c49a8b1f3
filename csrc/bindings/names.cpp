#include "names.h"

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
#define SIGLIN_ACTIVATION(name, largest, steepest) #name,
#include "../activations.inc"
};
constexpr const char* kLosses[] = {
#define SIGLIN_LOSS(name, from_logits) #name,
#include "../losses.inc"
};
constexpr const char* kOptimizers[] = {
#define SIGLIN_OPTIMIZER(name, vectors, ...) #name,
#include "../optimizers.inc"
};
constexpr const char* kReasons[] = {"epochs", "tol", "patience", "callback",
                                    "diverged"};

// find, for a Python object.
template <const auto& kNames>
std::size_t find_object(const char* function, const char* argument,
                        const pybind11::handle& name) {
    static constexpr std::size_t kCount = std::size(kNames);
    // A name written in a program is one object with the name here.
    static PyObject* const* const interned = [] {
        static PyObject* names[kCount];
        for (std::size_t i = 0; i < kCount; ++i) {
            names[i] = PyUnicode_InternFromString(kNames[i]);
        }
        return names;
    }();
    for (std::size_t i = 0; i < kCount; ++i) {
        if (name.ptr() == interned[i]) {
            return i;
        }
    }
    if (PyUnicode_Check(name.ptr()) == 0) {
        throw pybind11::type_error(std::string(function) + "(): incompatible " +
                                   argument + ", must be a str, got " +
                                   Py_TYPE(name.ptr())->tp_name);
    }
    Py_ssize_t size = 0;
    const char* text = PyUnicode_AsUTF8AndSize(name.ptr(), &size);
    if (text == nullptr) {
        throw pybind11::error_already_set();
    }
    return find(function, argument, std::string(text, static_cast<std::size_t>(size)),
                kNames);
}

}  // namespace

std::vector<std::string> activation_names() {
    return {std::begin(kActivations), std::end(kActivations)};
}

std::vector<std::string> loss_names() {
    return {std::begin(kLosses), std::end(kLosses)};
}

Activation activation_from(const char* function, const std::string& name) {
    return static_cast<Activation>(find(function, "activation", name, kActivations));
}

Activation activation_from(const char* function, const pybind11::handle& name) {
    return static_cast<Activation>(
        find_object<kActivations>(function, "activation", name));
}

Loss loss_from(const char* function, const std::string& name) {
    return static_cast<Loss>(find(function, "loss", name, kLosses));
}

Optimizer optimizer_from(const char* function, const pybind11::handle& name) {
    return static_cast<Optimizer>(
        find_object<kOptimizers>(function, "optimizer", name));
}

const char* name_of(StopReason reason) { return kReasons[static_cast<int>(reason)]; }

}  // namespace siglin
