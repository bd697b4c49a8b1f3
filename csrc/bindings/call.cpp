#include "call.h"

#include <algorithm>

namespace siglin {

void bind_arguments(const Signature& signature, int size, PyObject* const* given,
                    Py_ssize_t count, PyObject* keywords, PyObject** bound) {
    const std::string function = std::string(signature.name) + "()";
    if (count > size) {
        throw py::type_error(function + ": takes at most " + std::to_string(size) +
                             " arguments, got " + std::to_string(count));
    }
    std::fill_n(std::copy_n(given, count, bound), size - count, nullptr);
    const Py_ssize_t named = keywords == nullptr ? 0 : PyTuple_GET_SIZE(keywords);
    for (Py_ssize_t i = 0; i < named; ++i) {
        PyObject* key = PyTuple_GET_ITEM(keywords, i);
        const char* const* const end = signature.parameters + size;
        const char* const* const found =
            std::find_if(signature.parameters, end, [key](const char* parameter) {
                return PyUnicode_CompareWithASCIIString(key, parameter) == 0;
            });
        if (found == end) {
            throw py::type_error(function + ": there is no argument " +
                                 std::string(py::str(key)));
        }
        PyObject*& place = bound[found - signature.parameters];
        if (place != nullptr) {
            throw py::type_error(function + ": " + *found + " is given twice");
        }
        place = given[count + i];
    }
    for (int i = 0; i < size; ++i) {
        if (bound[i] == nullptr) {
            if (i < signature.required) {
                throw py::type_error(function + ": " + signature.parameters[i] +
                                     " is missing");
            }
            bound[i] = signature.last_is_true && i == size - 1 ? Py_True : Py_None;
        }
    }
}

double number(const char* function, const char* name, const py::handle& value) {
    if (PyFloat_CheckExact(value.ptr())) {
        return PyFloat_AS_DOUBLE(value.ptr());
    }
    const double result = PyFloat_AsDouble(value.ptr());
    if (result == -1.0 && PyErr_Occurred() != nullptr) {
        PyErr_Clear();
        throw py::type_error(std::string(function) + "(): incompatible " + name +
                             ", must be a real number, got " +
                             Py_TYPE(value.ptr())->tp_name);
    }
    return result;
}

bool flag(const py::handle& value) {
    const int truth = PyObject_IsTrue(value.ptr());
    if (truth < 0) {
        throw py::error_already_set();
    }
    return truth != 0;
}

index_t integer_of(const char* function, const char* name, const py::handle& value) {
    const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
    const index_t result = number ? PyLong_AsSsize_t(number.ptr()) : -1;
    if (result == -1 && PyErr_Occurred() != nullptr) {
        PyErr_Clear();
        throw py::type_error(std::string(function) + "(): incompatible " + name +
                             ", must be an integer of 64 bits, got " +
                             std::string(py::repr(value)));
    }
    return result;
}

bool truth_of(const char* function, const char* name, const py::handle& value) {
    if (value.ptr() == Py_True || value.ptr() == Py_False) {
        return value.ptr() == Py_True;
    }
    if (std::string(Py_TYPE(value.ptr())->tp_name).rfind("numpy.bool", 0) != 0) {
        throw py::type_error(std::string(function) + "(): incompatible " + name +
                             ", must be True or False, got " +
                             Py_TYPE(value.ptr())->tp_name);
    }
    return flag(value);
}

void add_functions(py::module_& m, PyMethodDef* functions) {
    if (PyModule_AddFunctions(m.ptr(), functions) != 0) {
        throw py::error_already_set();
    }
}

void add_methods(const py::handle& type, PyMethodDef* methods) {
    for (PyMethodDef* method = methods; method->ml_name != nullptr; ++method) {
        PyObject* descriptor =
            PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), method);
        if (descriptor == nullptr) {
            throw py::error_already_set();
        }
        type.attr(method->ml_name) = py::reinterpret_steal<py::object>(descriptor);
    }
}

}  // namespace siglin
