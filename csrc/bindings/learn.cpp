// Learning as rows come: a step on one, or on a few.
#include "../learn.h"

#include <algorithm>
#include <cmath>

#include "../buffer.h"
#include "../dispatch.h"
#include "../fit.h"
#include "../float_environment.h"
#include "../stepper.h"
#include "call.h"
#include "fit_arguments.h"
#include "interrupt.h"
#include "network.h"
#include "parameters.h"

namespace siglin {
namespace {

template <class T, class Holds>
bool all_of(const T* values, index_t n, Holds holds) {
    return std::all_of(values, values + n, holds);
}

template <class T>
bool is_one_hot(const T* values, index_t n) {
    return std::count(values, values + n, T(1)) == 1 &&
           std::count(values, values + n, T(0)) == n - 1;
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

// The step of an optimiser by gradients, penalised in a copy of them.
template <class T>
bool step_by_gradients(const FitJob<T>& job, const T* grads) {
    const NetworkPlan& plan = *job.plan;
    const FitSettings& settings = job.settings;
    const Progress progress = [](double) {};
    Buffer<T> changed;
    if (!settings.objective.is_plain()) {
        changed = Buffer<T>(plan.n_params);
        std::copy_n(grads, plan.n_params, changed.data());
        penalised(0.0, settings.objective, plan, job.state.params, changed.data());
        grads = changed.data();
    }
    Stepper<T> stepper(job, grads);
    return !std::isnan(stepper.step(progress, false));
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
    // Of distributions over classes only one-hot ones are taken here; the slower way
    // checks the others.
    const bool unit = plan_.loss.kind == Loss::bce;
    const bool right = classes ? is_one_hot(t, n_out) : all_of(t, n_out, [unit](T v) {
        return unit ? v >= 0 && v <= 1 : std::isfinite(v);
    });
    return right ? t : nullptr;
}

// A step of plain descent on one row; returns whether it was made.
template <class T>
bool Network::learn_plainly(T* params, const T* x, const T* t, double lr,
                            double& loss) const {
    if (learns_at_once_) {
        return learn_row<T>(plan_, params, x, t, static_cast<T>(lr), loss);
    }
    FitSettings settings;
    settings.lr = lr;
    settings.epochs = settings.batch_size = 1;
    FitResult result;
    siglin::fit<T>({&plan_,
                    {{x, 1, plan_.n_in(), plan_.n_in()},
                     {t, 1, plan_.n_out(), plan_.n_out()},
                     nullptr,
                     {}},
                    {params, nullptr, 0, nullptr},
                    settings,
                    {}},
                   {}, result);
    loss = result.loss[0];
    return result.reason != StopReason::diverged;
}

// learn_one where it can be had at once, else None: as predict_now, and while no other
// thread reads the parameters. With the GIL held to the end this is a fit that nobody
// can see the middle of.
py::object Network::learn_now(py::handle params_, py::handle x_, py::handle t_,
                              py::handle lr_) const {
#if defined(Py_GIL_DISABLED)
    return py::none();
#endif
    double lr = 0;
    Argument x = {"learn_one", "x", nullptr, dtype_};
    const Parameters* const shared = parameters_of(params_);
    if (!(learns_at_once_ || learns_soon()) || shared == nullptr ||
        !shared->is_quiet() || !shared->is_unread() || !plain_number(lr_, lr) ||
        !(lr > 0) || !ours(x_, x) || !is_row(x, plan_.n_in())) {
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
        double loss = 0;
        if (t == nullptr || !std::isfinite(static_cast<T>(lr)) ||
            !all_of(row, plan_.n_in(), [](T v) { return std::isfinite(v); }) ||
            !learn_plainly<T>(mutable_vector_data<T>(params), row, t, lr, loss)) {
            return py::none();
        }
        return py::float_(loss);
    });
}

// Whether a step that holds the GIL to its end holds up nobody.
bool Network::learns_soon() const {
    return plan_.loss.kind != Loss::poisson && work(1) < kWorthReleasing &&
           std::none_of(
               plan_.layers.begin(), plan_.layers.end(),
               [](const RowLayer& layer) {
                   return layer.activation == Activation::step;
               });
}

// One step on all rows, as the first of a fit. Readers wait until it is over: they get
// no copy of the parameters.
py::object Network::learn(const py::object& params_, const py::object& x_,
                          const py::object& t_, const py::object& state,
                          const py::object& settings, const py::object& memory,
                          const std::string& name) const {
    const char* function = name.c_str();
    const Writing writing(function, params_, Writing::What::step);
    Stepping stepping(function, memory);
    const py::object moments = stepping.array(dtype_);
    const Argument params = checked_vector(function, "params", writing.array());
    const Inputs x = checked_inputs(function, x_, params);
    const FitArguments arguments =
        checked_fit(*this, function, params, x, t_, state, settings, moments,
                    stepping.step_count(0), py::none());
    FitHooks hooks;
    hooks.interrupted = [](index_t) { return signal_raised(); };
    FitResult result;
    {
        const StepsCounted counted(stepping, result);
        dispatch_dtype(dtype_, [&](auto tag) {
            using T = decltype(tag);
            const FitJob<T> job = arguments.job<T>(plan_);
            try {
                const ReleaseGil nogil(work(x.rows()));
                siglin::fit<T>(job, hooks, result);
            } catch (const Interrupted&) {
                throw py::error_already_set();
            }
        });
    }
    return as_record(result);
}

// One step by the gradients, which stay as they are; returns whether it was made.
bool Network::step(const py::object& params_, const py::object& grads_,
                   const py::object& settings_, const py::object& memory) const {
    const char* function = "update";
    const Writing writing(function, params_, Writing::What::parameters);
    Stepping stepping(function, memory);
    const py::object moments_ = stepping.array(dtype_);
    const Argument params = checked_vector(function, "params", writing.array());
    const Argument grads = checked_vector(function, "grads", grads_);
    const Argument moments = checked(function, "moments", moments_);
    const FitSettings settings = checked_step(*this, function, settings_, moments);
    check_writable(params);
    check_no_overlap(params, grads);
    check_no_overlap(params, moments);
    check_no_overlap(moments, grads);
    FitResult result;
    const StepsCounted counted(stepping, result);
    return dispatch_dtype(dtype_, [&](auto tag) {
        using T = decltype(tag);
        const FitJob<T> job = {
            &plan_,
            {},
            {mutable_vector_data<T>(params), mutable_vector_data<T>(moments),
             stepping.step_count(0), nullptr},
            settings,
            {}};
        const T* const given = vector_data<T>(grads);
        const ReleaseGil nogil(8.0 * static_cast<double>(plan_.n_params));
        const bool made = step_by_gradients<T>(job, given);
        result.steps = made ? 1 : 0;
        result.reason = made ? StopReason::epochs : StopReason::diverged;
        return made;
    });
}

namespace {

constexpr Signature kLearnNow = {
    "learn_now",
    4,
    {"params", "x", "t", "lr"},
    "learn_now($self, params, x, t, lr)\n--\n\n"
    "A step on one row; its loss before, or None: ask learn."};

}  // namespace

void bind_learn(NetworkClass& network) {
    using py::arg;
    const auto flushing = py::call_guard<FlushSubnormals>();
    network
        .def("learn", &Network::learn, arg("params"), arg("x"), arg("t"), arg("state"),
             arg("settings"), arg("moments"), arg("function"), flushing)
        .def("step", &Network::step, arg("params"), arg("grads"), arg("settings"),
             arg("moments"), flushing);
    static PyMethodDef methods[] = {
        fast_function<&Network::learn_now, kLearnNow>(),
        {nullptr, nullptr, 0, nullptr},
    };
    add_methods(network, methods);
}

}  // namespace siglin
