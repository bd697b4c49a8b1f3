// Functions of the core that a caller reaches in tens of nanoseconds: the interpreter's
// vectorcall, without pybind11's dispatcher, which makes lists of the arguments on the
// heap and a std::string of each name. A call on a (1, 2) x (2, 3) layer is little
// else.
#pragma once

#include <pybind11/pybind11.h>

#include <utility>

#include "../float_environment.h"
#include "../view.h"
#include "errors.h"
#include "gil.h"

namespace siglin {

namespace py = pybind11;

// What a function is called with, as inspect.signature tells it.
struct Signature {
    const char* name;
    int required;  // of the parameters below, the others are None if they are left out
    const char* parameters[12];
    const char* doc;            // "name($module, x, out=None)\n--\n\n" and one line
    bool last_is_true = false;  // the last one is True if it is left out
};

// Fills `bound` by position and name; throws TypeError as Python does.
void bind_arguments(const Signature& signature, int size, PyObject* const* given,
                    Py_ssize_t count, PyObject* keywords, PyObject** bound);

// A Python float, or what has one; throws TypeError.
double number(const char* function, const char* name, const py::handle& value);

// Whether the value is true.
bool flag(const py::handle& value);

// An integer, and True or False of Python or NumPy; each throws TypeError for anything
// else.
index_t integer_of(const char* function, const char* name, const py::handle& value);
bool truth_of(const char* function, const char* name, const py::handle& value);

namespace detail {

// call(handle, handle, ...) with what the interpreter hands over for a signature of
// kSize parameters. PyObject* out of it, or null and an exception set.
template <const Signature& kSignature, std::size_t... kAt, class Call>
PyObject* call_bound(PyObject* const* given, Py_ssize_t count, PyObject* keywords,
                     std::index_sequence<kAt...>, Call call) noexcept {
    constexpr int kSize = sizeof...(kAt);
    const QuickKeepSubnormals environment;
    try {
        // An error's text and an overlap are asked of Python code, which takes the
        // lock.
        return taking_gil([&]() -> PyObject* {
            if (keywords == nullptr && count == kSize) {
                return call(py::handle(given[kAt])...).release().ptr();
            }
            PyObject* bound[kSize];
            bind_arguments(kSignature, kSize, given, count, keywords, bound);
            return call(py::handle(bound[kAt])...).release().ptr();
        });
    } catch (...) {
        set_python_error();
        return nullptr;
    }
}

template <auto kFunction>
struct Entry;

template <class R, class... Handles, R (*kFunction)(Handles...)>
struct Entry<kFunction> {
    template <const Signature& kSignature>
    static PyObject* call(PyObject*, PyObject* const* given, Py_ssize_t count,
                          PyObject* keywords) {
        return call_bound<kSignature>(given, count, keywords,
                                      std::index_sequence_for<Handles...>(), kFunction);
    }
};

// self is an instance of the class: the interpreter asks before it calls a method.
template <class Self, class R, class... Handles, R (Self::*kMethod)(Handles...) const>
struct Entry<kMethod> {
    template <const Signature& kSignature>
    static PyObject* call(PyObject* self, PyObject* const* given, Py_ssize_t count,
                          PyObject* keywords) {
        auto* instance = reinterpret_cast<py::detail::instance*>(self);
        const Self* object = instance->get_value_and_holder().value_ptr<Self>();
        return call_bound<kSignature>(
            given, count, keywords, std::index_sequence_for<Handles...>(),
            [object](Handles... handles) { return (object->*kMethod)(handles...); });
    }
};

}  // namespace detail

// The entry of a function, or of a const method of a class that pybind11 knows, which
// takes one py::handle for each parameter and returns an object.
template <auto kFunction, const Signature& kSignature>
PyMethodDef fast_function() {
    auto* entry = &detail::Entry<kFunction>::template call<kSignature>;
    return {kSignature.name,
            reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(entry)),
            METH_FASTCALL | METH_KEYWORDS, kSignature.doc};
}

// Both take a null-terminated list that lives as long as the process.
void add_functions(py::module_& m, PyMethodDef* functions);
void add_methods(const py::handle& type, PyMethodDef* methods);

// Makes `Class.__new__(Class)` a TypeError: an instance without __init__ would be used
// uninitialised. `__new__` is inherited from pybind11's base class, and the interpreter
// refuses to call it for a class whose own tp_new is another function; `Class(...)`
// calls tp_new directly.
template <class Class>
void forbid_new() {
    static newfunc base_new = nullptr;
    auto* const type = reinterpret_cast<PyTypeObject*>(py::type::of<Class>().ptr());
    base_new = type->tp_base->tp_new;
    type->tp_new = [](PyTypeObject* t, PyObject* args, PyObject* kwargs) {
        return base_new(t, args, kwargs);
    };
}

}  // namespace siglin
