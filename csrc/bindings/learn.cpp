// Learning from one row.
#include "../learn.h"

#include <algorithm>
#include <cmath>

#include "../float_environment.h"
#include "call.h"
#include "network.h"
#include "parameters.h"

namespace siglin {
namespace {

template <class T, class Holds>
bool all_of(const T* values, index_t n, Holds holds) {
    return std::all_of(values, values + n, holds);
}

// A row of so many elements: a vector, or a matrix of one row.
bool is_row(const Argument& a, index_t size) {
    return a.ndim() == 1 ? is_vector(a, size) : is_matrix(a, 1, size);
}

bool is_float32(PyObject* o) {
    static PyObject* const type =
        py::object(py::module_::import("numpy").attr("float32")).release().ptr();
    return reinterpret_cast<PyObject*>(Py_TYPE(o)) == type;
}

bool is_numpy_integer(PyObject* o) {
    static PyObject* const type =
        py::object(py::module_::import("numpy").attr("integer")).release().ptr();
    // A class of somebody's own may do anything.
    return !PyType_HasFeature(Py_TYPE(o), Py_TPFLAGS_HEAPTYPE) &&
           PyObject_TypeCheck(o, reinterpret_cast<PyTypeObject*>(type)) != 0;
}

}  // namespace

// Whether this is a float or an integer, of Python or NumPy, and no bool, that may
// meet arrays of the network's dtype. To ask runs no Python code.
bool Network::plain_number(const py::handle& value, double& number) const {
    PyObject* const o = value.ptr();
    if (PyFloat_CheckExact(o) || (PyFloat_Check(o) && dtype_ == DType::f64)) {
        number = PyFloat_AS_DOUBLE(o);
        return true;
    }
    if (PyLong_CheckExact(o)) {
        number = PyLong_AsDouble(o);
    } else if (is_numpy_integer(o) || (is_float32(o) && dtype_ == DType::f32)) {
        number = PyFloat_AsDouble(o);
    } else {
        return false;
    }
    if (number == -1.0 && PyErr_Occurred() != nullptr) {
        PyErr_Clear();
        return false;
    }
    return true;
}

// The targets of one row that learn_now can take as they are, else null: an array
// of them, a number for one output, the number of a class. `few` has room for
// `room` of them.
template <class T>
const T* Network::target_row(const py::handle& t_, const Argument& params, T* few,
                             index_t room) const {
    const index_t n_out = plan_.n_out();
    const bool classes = plan_.loss.kind == Loss::cross_entropy;
    Argument array = {"learn_one", "t", nullptr, dtype_};
    const T* t = few;
    double value = 0;
    if (plain_number(t_, value)) {
        if (classes && n_out <= room) {
            if (!(value >= 0 && value < static_cast<double>(n_out)) ||
                value != std::floor(value)) {
                return nullptr;
            }
            std::fill_n(few, n_out, T(0));
            few[static_cast<index_t>(value)] = T(1);
            return few;
        }
        if (n_out != 1) {
            return nullptr;
        }
        few[0] = static_cast<T>(value);
    } else if (ours(t_, array) && is_row(array, n_out) &&
               !extents_touch(params, array)) {
        t = vector_data<T>(array);
    } else {
        return nullptr;
    }
    // A distribution over classes is looked at by those who explain what is wrong.
    const bool unit = plan_.loss.kind == Loss::bce;
    const bool right = !classes && all_of(t, n_out, [unit](T v) {
        return unit ? v >= 0 && v <= 1 : std::isfinite(v);
    });
    return right ? t : nullptr;
}

// learn_one where it can be had at once, else None: as predict_now, and while no
// other thread reads the parameters. With the GIL held to the end this is a fit
// that nobody can see the middle of.
py::object Network::learn_now(py::handle params_, py::handle x_, py::handle t_,
                              py::handle lr_) const {
#if defined(Py_GIL_DISABLED)
    return py::none();
#endif
    double lr = 0;
    Argument x = {"learn_one", "x", nullptr, dtype_};
    const Parameters* const shared = parameters_of(params_);
    if (!learns_at_once_ || shared == nullptr || !shared->is_quiet() ||
        !shared->is_unread() || !plain_number(lr_, lr) || !(lr > 0) || !ours(x_, x) ||
        !is_row(x, plan_.n_in())) {
        return py::none();
    }
    Argument params = {"learn_one", "params", nullptr, dtype_};
    if (!ours(shared->quiet_vector(), params) || !is_vector(params, plan_.n_params) ||
        !is_writable(params) || extents_touch(params, x)) {
        return py::none();
    }
    const QuickFlushSubnormals environment;
    return dispatch_dtype(dtype_, [&](auto tag) -> py::object {
        using T = decltype(tag);
        constexpr index_t kFew = 64;
        T few[kFew];
        const T* t = target_row<T>(t_, params, few, kFew);
        const T* row = vector_data<T>(x);
        const auto step = static_cast<T>(lr);
        double loss = 0;
        if (t == nullptr || !std::isfinite(step) ||
            !all_of(row, plan_.n_in(), [](T v) { return std::isfinite(v); }) ||
            !learn_row<T>(plan_, mutable_vector_data<T>(params), row, t, step, loss)) {
            return py::none();
        }
        return py::float_(loss);
    });
}

namespace {

constexpr Signature kLearnNow = {
    "learn_now",
    4,
    {"params", "x", "t", "lr"},
    "learn_now($self, params, x, t, lr)\n--\n\n"
    "A step on one row; its loss before, or None: ask fit."};

}  // namespace

void bind_learn(NetworkClass& network) {
    static PyMethodDef methods[] = {
        fast_function<&Network::learn_now, kLearnNow>(),
        {nullptr, nullptr, 0, nullptr},
    };
    add_methods(network, methods);
}

}  // namespace siglin
