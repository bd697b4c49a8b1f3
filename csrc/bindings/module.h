// What each binding file registers.
#pragma once

#include <pybind11/pybind11.h>

namespace siglin {

void bind_targets(pybind11::module_& m);
void bind_threads(pybind11::module_& m);
void bind_functions(pybind11::module_& m);
void bind_random(pybind11::module_& m);
void bind_inputs(pybind11::module_& m);
void bind_network(pybind11::module_& m);
void bind_perceptron(pybind11::module_& m);
void bind_parameters(pybind11::module_& m);

}  // namespace siglin
