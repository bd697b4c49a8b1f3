#include "module.h"

#include "../dispatch.h"
#include "errors.h"

namespace py = pybind11;

PYBIND11_MODULE(_core, m) {
    m.doc() =
        "The compiled core of siglin: strict, checked, unforgiving. See _core.pyi.";
    if (siglin::supported_tables().empty()) {
        throw py::import_error("siglin needs a CPU with " + siglin::missing_features());
    }
    siglin::bind_errors(m);
    siglin::bind_targets(m);
    siglin::bind_threads(m);
    siglin::bind_functions(m);
    siglin::bind_random(m);
    siglin::bind_parameters(m);
    siglin::bind_inputs(m);
    siglin::bind_network(m);
    siglin::bind_perceptron(m);
}

namespace siglin {

namespace {

// The classes live in Python, where users catch them; kept for the process's life.
PyObject* shape_error = nullptr;
PyObject* dtype_error = nullptr;

}  // namespace

void bind_errors(py::module_&) {
    const py::module_ errors = py::module_::import("siglin.errors");
    shape_error = py::object(errors.attr("ShapeError")).release().ptr();
    dtype_error = py::object(errors.attr("DTypeError")).release().ptr();
    py::register_local_exception_translator([](std::exception_ptr p) {
        try {
            if (p) {
                std::rethrow_exception(p);
            }
        } catch (const ShapeError& e) {
            PyErr_SetString(shape_error, e.what());
        } catch (const DTypeError& e) {
            PyErr_SetString(dtype_error, e.what());
        }
    });
}

void set_python_error() {
    try {
        throw;
    } catch (py::error_already_set& e) {
        e.restore();
    } catch (const ShapeError& e) {
        PyErr_SetString(shape_error, e.what());
    } catch (const DTypeError& e) {
        PyErr_SetString(dtype_error, e.what());
    } catch (const py::builtin_exception& e) {
        e.set_error();
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    } catch (const std::invalid_argument& e) {
        PyErr_SetString(PyExc_ValueError, e.what());
    } catch (const std::exception& e) {
        PyErr_SetString(PyExc_RuntimeError, e.what());
    } catch (...) {
        PyErr_SetString(PyExc_RuntimeError, "an unknown exception");
    }
}

}  // namespace siglin
