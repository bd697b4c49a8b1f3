// Mistakes of a caller, as siglin.errors' exceptions. Messages: "function: argument
// ...".
#pragma once

#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

namespace siglin {

struct ShapeError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct DTypeError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Registers the translation of the two above; imports siglin.errors.
void bind_errors(pybind11::module_& m);

// Inside catch (...): makes the exception Python's, where no pybind11 function does.
void set_python_error();

}  // namespace siglin
