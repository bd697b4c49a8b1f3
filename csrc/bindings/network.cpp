// Whole networks: check, view, release the GIL, call.
#include "../network.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <memory>
#include <optional>
#include <tuple>

#include "../float_environment.h"
#include "../learn.h"
#include "../predict.h"
#include "../random.h"
#include "../tape.h"
#include "../train.h"
#include "array.h"
#include "call.h"
#include "interrupt.h"
#include "module.h"
#include "names.h"
#include "parameters.h"

namespace siglin {
namespace {

// Runs `work` without the GIL if it is worth it; Ctrl-C becomes KeyboardInterrupt.
template <class Work>
void interruptible(double multiply_adds, Work work) {
    try {
        const ReleaseGil nogil(multiply_adds);
        InterruptPoll poll(signal_raised);
        work([&poll](double done) { poll.charge(done); });
    } catch (const Interrupted&) {
        throw py::error_already_set();
    }
}

NetworkPlan make_plan(const std::vector<index_t>& sizes,
                      const std::vector<std::string>& activations,
                      const std::vector<bool>& biases, const std::string& loss_name,
                      double loss_number) {
    const char* function = "Network";
    const Loss loss = loss_from(function, loss_name);
    if (sizes.size() < 2 || activations.size() + 1 != sizes.size() ||
        biases.size() != activations.size()) {
        throw py::value_error(
            "Network: needs at least two sizes, and an activation and a bias flag for "
            "each "
            "layer between them");
    }
    index_t total = 0;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        if (sizes[i] < 1) {
            throw py::value_error("Network: sizes[" + std::to_string(i) +
                                  "] must be >= 1, got " + std::to_string(sizes[i]));
        }
        index_t weights = 0;
        if (i > 0 && (__builtin_mul_overflow(sizes[i - 1], sizes[i], &weights) ||
                      __builtin_add_overflow(total, weights, &total) ||
                      __builtin_add_overflow(total, sizes[i], &total) ||
                      total > PTRDIFF_MAX / 64)) {
            throw py::value_error("Network: sizes give too many parameters");
        }
    }
    std::vector<Activation> list;
    for (std::size_t l = 0; l < activations.size(); ++l) {
        const bool last = l + 1 == activations.size();
        const bool softmax =
            last && loss == Loss::cross_entropy && activations[l] == "softmax";
        const bool exp = last && loss == Loss::poisson && activations[l] == "exp";
        list.push_back(softmax || exp ? Activation::identity
                                      : activation_from(function, activations[l]));
        const bool pair_ok = !last || !from_logits(loss) || softmax || exp ||
                             (loss == Loss::bce && list[l] == Activation::sigmoid);
        if (!pair_ok) {
            throw py::value_error("Network: loss \"" + loss_name +
                                  "\" does not go with output activation \"" +
                                  activations[l] + "\"");
        }
    }
    return {sizes, list, biases, {loss, loss_number}};
}

// Contiguous; as they are.
using RowNumbers = py::array_t<index_t, py::array::c_style>;

class Network {
    // (Before its use: clang 14 finds no definition in a lambda's body otherwise.)
    template <class T, class Holds>
    static bool all_of(const T* values, index_t n, Holds holds) {
        return std::all_of(values, values + n, holds);
    }

    // The targets of one row that learn_now can take as they are, else null: an array
    // of them, a number for one output, the number of a class. `few` has room for
    // `room` of them.
    template <class T>
    const T* target_row(const py::handle& t_, const Argument& params, T* few,
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

  public:
    Network(const std::vector<index_t>& sizes,
            const std::vector<std::string>& activations,
            const std::vector<bool>& biases, const std::string& loss,
            const std::string& dtype, double loss_number)
        : plan_(make_plan(sizes, activations, biases, loss, loss_number)),
          dtype_(dtype_from("Network", dtype)) {
        learns_at_once_ = descends_row_by_row(plan_);
        for (const RowLayer& layer : plan_.layers) {
            learns_at_once_ = learns_at_once_ && layer.activation != Activation::step;
        }
    }

    index_t n_params() const { return plan_.n_params; }

    py::object predict(const py::object& params_, const py::object& x_,
                       const py::object& out_) const {
        const Reading reading(params_);
        const Argument params = checked_vector("predict", "params", reading.array());
        const Argument x = checked_x("predict", x_, params);
        Result out = out_or_new("predict", out_, x, x.rows(), plan_.n_out());
        if (!out_.is_none()) {
            check_no_overlap(out, x);
            check_no_overlap(out, params);
        }
        dispatch_dtype(dtype_, [&](auto tag) {
            using T = decltype(tag);
            const T* p = vector_data<T>(params);
            const auto from = view<T>(x);
            const auto to = mutable_view<T>(out);
            interruptible(work(x.rows()), [&](const Progress& progress) {
                NetworkRunner<T>(plan_, from.rows).predict(p, from, to, progress);
            });
        });
        return std::move(out.owner);
    }

    // predict where it can be had at once, else None: for little work, on arguments
    // that need no explaining, and while nobody changes the parameters. As the GIL is
    // held to the end, nobody can begin to, and nobody has to be told of this read.
    py::object predict_now(py::handle params_, py::handle x_, py::handle out_) const {
#if defined(Py_GIL_DISABLED)
        return py::none();
#endif
        Argument x = {"predict", "x", nullptr, dtype_};
        const Parameters* const shared = parameters_of(params_);
        if (shared == nullptr || !shared->is_quiet() || !ours(x_, x) ||
            !is_matrix(x, kAny, plan_.n_in()) || work(x.rows()) >= kWorthReleasing) {
            return py::none();
        }
        Result out = {{"predict", "out", nullptr, dtype_}, py::object()};
        if (out_.is_none()) {
            out = new_matrix(x, x.rows(), plan_.n_out());
        } else {
            if (!ours(out_, out) || !is_matrix(out, x.rows(), plan_.n_out()) ||
                !is_writable(out) || extents_touch(out, x)) {
                return py::none();
            }
            out.owner = py::reinterpret_borrow<py::object>(out_);
        }
        Argument params = {"predict", "params", nullptr, dtype_};
        if (!ours(shared->quiet_vector(), params) ||
            !is_vector(params, plan_.n_params) || extents_touch(out, params)) {
            return py::none();
        }
        dispatch_dtype(dtype_, [&](auto tag) {
            using T = decltype(tag);
            const T* p = vector_data<T>(params);
            const auto from = view<T>(x);
            const auto to = mutable_view<T>(out);
            if (!predict_few<T>(plan_, p, from, to)) {
                NetworkRunner<T>(plan_, from.rows).predict(p, from, to, [](double) {});
            }
        });
        return std::move(out.owner);
    }

    // learn_one where it can be had at once, else None: as predict_now, and while no
    // other thread reads the parameters. With the GIL held to the end this is a fit
    // that nobody can see the middle of.
    py::object learn_now(py::handle params_, py::handle x_, py::handle t_,
                         py::handle lr_) const {
#if defined(Py_GIL_DISABLED)
        return py::none();
#endif
        double lr = 0;
        Argument x = {"learn_one", "x", nullptr, dtype_};
        const Parameters* const shared = parameters_of(params_);
        if (!learns_at_once_ || shared == nullptr || !shared->is_quiet() ||
            !shared->is_unread() || !plain_number(lr_, lr) || !(lr > 0) ||
            !ours(x_, x) || !is_row(x, plan_.n_in())) {
            return py::none();
        }
        Argument params = {"learn_one", "params", nullptr, dtype_};
        if (!ours(shared->quiet_vector(), params) ||
            !is_vector(params, plan_.n_params) || !is_writable(params) ||
            extents_touch(params, x)) {
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
                !learn_row<T>(plan_, mutable_vector_data<T>(params), row, t, step,
                              loss)) {
                return py::none();
            }
            return py::float_(loss);
        });
    }

    double loss(const py::object& params, const py::object& x, const py::object& t,
                const py::object& weights, bool scikit_learn) const {
        const Reading reading(params);
        return loss_of("loss", reading.array(), std::nullopt, x, t, weights,
                       {0, 0, scikit_learn});
    }

    double loss_and_grads(const py::object& params, const py::object& grads_,
                          const py::object& x, const py::object& t,
                          const py::object& weights, double l1, double l2,
                          bool scikit_learn) const {
        const Writing writing("loss_and_grads", params, Writing::What::gradients);
        const Argument grads = checked_vector("loss_and_grads", "grads", grads_);
        check_writable(grads);
        return loss_of("loss_and_grads", writing.array(), grads, x, t, weights,
                       checked_objective("loss_and_grads", l1, l2, scikit_learn));
    }

    // A hand-written loop: the outputs for x, and what `backward` needs of this pass,
    // the outputs and derivatives of each hidden layer, and z of the last.
    py::tuple forward(const py::object& params_, const py::object& x_) const {
        const Reading reading(params_);
        const Argument params = checked_vector("forward", "params", reading.array());
        const Argument x = checked_x("forward", x_, params);
        std::vector<Result> a;
        std::vector<Result> d;
        for (std::size_t l = 0; l + 1 < plan_.layers.size(); ++l) {
            a.push_back(new_matrix(x, x.rows(), plan_.layers[l].n_out));
            d.push_back(new_matrix(x, x.rows(), plan_.layers[l].n_out));
        }
        const Result z = new_matrix(x, x.rows(), plan_.n_out());
        const Result out = new_matrix(x, x.rows(), plan_.n_out());
        dispatch_dtype(dtype_, [&](auto tag) {
            using T = decltype(tag);
            const T* p = vector_data<T>(params);
            const auto from = view<T>(x);
            std::vector<TapedLayer<T>> tape;
            for (std::size_t l = 0; l < a.size(); ++l) {
                tape.push_back({mutable_view<T>(a[l]), mutable_view<T>(d[l])});
            }
            const auto logits = mutable_view<T>(z);
            const auto to = mutable_view<T>(out);
            interruptible(work(x.rows()), [&](const Progress& progress) {
                tape_forward<T>(plan_, p, from, tape, logits, to, progress);
            });
        });
        py::list hidden;
        for (std::size_t l = 0; l < a.size(); ++l) {
            hidden.append(py::make_tuple(a[l].owner, d[l].owner));
        }
        return py::make_tuple(out.owner, hidden, z.owner);
    }

    // The loss of the pass that left hidden and z, for targets t; grads gets its
    // gradient.
    double backward(const py::object& params_, const py::object& grads_,
                    const py::object& x_, const py::list& hidden, const py::object& z_,
                    const py::object& t_) const {
        const Tape tape(*this, "backward", params_, grads_, x_, hidden, z_);
        const Argument t = checked_t("backward", t_, tape.x);
        return dispatch_dtype(dtype_, [&](auto tag) {
            using T = decltype(tag);
            const auto targets = view<T>(t);
            const auto z = view<T>(tape.z);
            double loss = 0;
            tape.go_back<T>({}, [&](T* dz, const Progress& progress) {
                loss = output_loss<T>(plan_, z, targets, dz, progress);
            });
            return loss;
        });
    }

    // grads from da, the gradient by the outputs of that pass; returns that by x.
    py::object backward_from(const py::object& params_, const py::object& grads_,
                             const py::object& x_, const py::list& hidden,
                             const py::object& z_, const py::object& da_) const {
        const Tape tape(*this, "backward_from", params_, grads_, x_, hidden, z_);
        const Argument da = argument("backward_from", "da", da_, tape.z);
        check_matrix(da, tape.z.rows(), tape.z.cols());
        Result dx = new_matrix(tape.x, tape.x.rows(), tape.x.cols());
        dispatch_dtype(dtype_, [&](auto tag) {
            using T = decltype(tag);
            const auto upstream = view<T>(da);
            const auto z = view<T>(tape.z);
            tape.go_back<T>(mutable_view<T>(dx), [&](T* dz, const Progress& progress) {
                output_backward<T>(plan_, z, upstream, dz, progress);
            });
        });
        return std::move(dx.owner);
    }

    // params -= lr * grads.
    void update(const py::object& params_, const py::object& grads_, double lr) const {
        const Writing writing("update", params_, Writing::What::parameters);
        const Argument params = checked_vector("update", "params", writing.array());
        const Argument grads = checked_vector("update", "grads", grads_);
        check_finite("update", "lr", lr, dtype_);
        check_writable(params);
        check_no_overlap(params, grads);
        dispatch_dtype(dtype_, [&](auto tag) {
            using T = decltype(tag);
            const auto step = static_cast<T>(lr);
            const index_t n = plan_.n_params;
            T* const p = mutable_vector_data<T>(params);
            const T* const g = vector_data<T>(grads);
            if (step != 0) {
                const ReleaseGil nogil(static_cast<double>(n));
                gradient_descent<T>({p, 1, n, n}, {g, 1, n, n}, step);
            }
        });
    }

    py::tuple fit(const py::object& params_, const py::object& x_, const py::object& t_,
                  const py::object& state, double lr, index_t epochs,
                  index_t batch_size, bool shuffle, double tol,
                  const std::string& optimizer, const std::vector<double>& options,
                  const py::object& memory, std::int64_t step_count,
                  const py::object& on_epoch, double min_interval,
                  const py::object& on_step, index_t every, const py::object& on_end,
                  const py::object& extras_, const std::string& name) const {
        const char* function = name.c_str();
        Fitting fitting(function, params_);
        Stepping stepping(function, memory);
        const py::object moments_ = stepping.array(dtype_);
        const Argument params = checked_vector(function, "params", fitting.array());
        const Argument x = checked_x(function, x_, params);
        const FitCall fit_call = checked_fit(
            function, params, x, t_, state, std::nullopt,
            {lr, epochs, batch_size, shuffle, tol, optimizer_from(function, optimizer),
             0.0, 0.0, 0.0, stepping.step_count(step_count)},
            options, moments_);
        fitting.keep_generator(fit_call.generator);
        const Extras extras = checked_extras(extras_, x);
        if (extras.weights) {
            check_no_overlap(params, *extras.weights);
            check_no_overlap(checked(function, "moments", moments_), *extras.weights);
        }
        FitHooks hooks;
        hooks.interrupted = [](index_t) { return signal_raised(); };
        hooks.min_interval = min_interval;
        if (!on_epoch.is_none()) {
            hooks.on_epoch = [&on_epoch](index_t epoch, index_t step, double value) {
                return with_gil(
                    [&] { return call(on_epoch, epoch, step, value).cast<bool>(); });
            };
        }
        if (!on_step.is_none() && every > 0) {
            hooks.every = every;
            hooks.on_step = [&on_step](index_t epoch, index_t step, double value) {
                with_gil([&] { call(on_step, epoch, step, value); });
            };
        }
        FitResult result;
        const StepsCounted counted(stepping, result);
        dispatch_dtype(dtype_, [&](auto tag) {
            using T = decltype(tag);
            const FitJob<T> job = job_of<T>(fit_call);
            try {
                const ReleaseGil nogil;
                siglin::fit<T>(plan_, job.params, job.x, job.t, job.moments,
                               job.generator, job.options, hooks, result, job.subset,
                               extras.of<T>());
            } catch (const Interrupted&) {
                throw py::error_already_set();
            }
        });
        if (!on_end.is_none() && result.reason != StopReason::diverged) {
            const CallersFloatEnvironment environment;
            call(on_end);
        }
        return as_tuple(result);
    }

    // Tells an optimiser's memory of the steps of a fit, however that ends.
    class StepsCounted {
      public:
        StepsCounted(Stepping& stepping, const FitResult& result)
            : stepping_(stepping), result_(result) {}
        ~StepsCounted() {
            stepping_.add_steps(result_.steps);
            if (result_.reason == StopReason::diverged) {
                stepping_.forget();
            }
        }
        StepsCounted(const StepsCounted&) = delete;
        StepsCounted& operator=(const StepsCounted&) = delete;

      private:
        Stepping& stepping_;
        const FitResult& result_;
    };

    // The checked arguments of a fit.
    struct FitCall {
        Argument params;
        Argument x;
        Argument t;
        Argument moments;
        std::uint64_t* generator;
        FitOptions options;
        RowSubset subset;
    };

    // subset: the numbers of the rows to take, or none for all.
    FitCall checked_fit(const char* function, const Argument& params, const Argument& x,
                        const py::object& t_, const py::object& state,
                        const std::optional<RowNumbers>& subset, FitOptions options,
                        const std::vector<double>& values,
                        const py::object& moments_) const {
        check_writable(params);
        const Argument t = checked_t(function, t_, x);
        RowSubset rows;
        if (subset) {
            rows = checked_rows(function, *subset, x);
        }
        check_options(options, values, rows.rows == nullptr ? x.rows() : rows.count);
        const Argument moments = checked(function, "moments", moments_);
        const index_t copies = options.optimizer == Optimizer::gd     ? 0
                               : options.optimizer == Optimizer::adam ? 2
                                                                      : 1;
        check_vector(moments, copies * plan_.n_params);
        check_writable(moments);
        std::uint64_t* generator = generator_words(function, state);
        for (const Argument* input : {&x, &t}) {
            check_no_overlap(params, *input);
            check_no_overlap(moments, *input);
        }
        check_no_overlap(moments, params);
        return {params, x, t, moments, generator, options, rows};
    }

    template <class T>
    FitJob<T> job_of(const FitCall& c) const {
        return {&plan_,
                mutable_vector_data<T>(c.params),
                view<T>(c.x),
                view<T>(c.t),
                mutable_vector_data<T>(c.moments),
                c.generator,
                c.options,
                c.subset};
    }

    static py::tuple as_tuple(const FitResult& result) {
        py::array_t<double> losses(static_cast<py::ssize_t>(result.loss.size()));
        std::copy(result.loss.begin(), result.loss.end(), losses.mutable_data());
        return py::make_tuple(losses, result.epochs, result.steps, result.seconds,
                              name_of(result.reason));
    }

    Argument checked_vector(const char* function, const char* name,
                            const py::handle& value) const {
        Argument a = checked(function, name, value);
        check_vector(a, plan_.n_params);
        return a;
    }

    Argument checked_x(const char* function, const py::handle& value,
                       const Argument& params) const {
        Argument x = argument(function, "x", value, params);
        check_matrix(x, kAny, plan_.n_in(), "to enter the network");
        return x;
    }

  private:
    // What `backward` and `backward_from` are given of a forward pass, checked. The
    // gradients belong to this one call until it is gone.
    struct Tape {
        Tape(const Network& net_, const char* function, const py::object& params_,
             const py::object& grads_, const py::object& x_, const py::list& hidden_,
             const py::object& z_)
            : net(net_),
              writing(function, params_, Writing::What::gradients),
              params(net.checked_vector(function, "params", writing.array())),
              grads(net.checked_vector(function, "grads", grads_)),
              x(net.checked_x(function, x_, params)),
              z(net.checked(function, "z", z_)) {
            check_writable(grads);
            check_matrix(z, x.rows(), net.plan_.n_out());
            check_no_overlap(grads, params);
            check_no_overlap(grads, x);
            const auto count = net.plan_.layers.size() - 1;
            if (py::len(hidden_) != count) {
                throw ShapeError(std::string(function) + ": hidden must have " +
                                 std::to_string(count) + " pairs");
            }
            for (std::size_t l = 0; l < count; ++l) {
                const auto pair = hidden_[l].cast<std::pair<py::object, py::object>>();
                const index_t cols = net.plan_.layers[l].n_out;
                hidden.emplace_back(net.checked(function, "a", pair.first),
                                    net.checked(function, "derivative", pair.second));
                for (const Argument* each : {&hidden[l].first, &hidden[l].second}) {
                    check_matrix(*each, x.rows(), cols);
                    check_no_overlap(grads, *each);
                }
            }
        }

        // Fills the gradients, and dx if it has data, from fill(dz, progress) of the
        // last layer.
        template <class T, class Fill>
        void go_back(MatrixView<T> dx, const Fill& fill) const {
            std::vector<TapedLayer<T>> tape;
            for (const auto& [a, d] : hidden) {
                tape.push_back({mutable_view<T>(a), mutable_view<T>(d)});
            }
            const T* p = vector_data<T>(params);
            T* g = mutable_vector_data<T>(grads);
            const auto from = view<T>(x);
            interruptible(net.work(x.rows()), [&](const Progress& progress) {
                const Buffer<T> dz(x.rows() * net.plan_.n_out());
                fill(dz.data(), progress);
                tape_backward<T>(net.plan_, p, g, from, tape, dz.data(), dx, progress);
            });
        }

        const Network& net;
        Writing writing;
        Argument params;
        Argument grads;
        Argument x;
        Argument z;
        std::vector<std::pair<Argument, Argument>> hidden;
    };

    // Whether this is an array of the network's dtype.
    bool ours(const py::handle& value, Argument& a) const {
        return is_viewable(value, a) && a.dtype == dtype_;
    }

    // A row of so many elements: a vector, or a matrix of one row.
    static bool is_row(const Argument& a, index_t size) {
        return a.ndim() == 1 ? is_vector(a, size) : is_matrix(a, 1, size);
    }

    // Whether this is a float or an integer, of Python or NumPy, and no bool, that may
    // meet arrays of the network's dtype. To ask runs no Python code.
    bool plain_number(const py::handle& value, double& number) const {
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

    static bool is_float32(PyObject* o) {
        static PyObject* const type =
            py::object(py::module_::import("numpy").attr("float32")).release().ptr();
        return reinterpret_cast<PyObject*>(Py_TYPE(o)) == type;
    }

    static bool is_numpy_integer(PyObject* o) {
        static PyObject* const type =
            py::object(py::module_::import("numpy").attr("integer")).release().ptr();
        // A class of somebody's own may do anything.
        return !PyType_HasFeature(Py_TYPE(o), Py_TPFLAGS_HEAPTYPE) &&
               PyObject_TypeCheck(o, reinterpret_cast<PyTypeObject*>(type)) != 0;
    }

    // Throws unless these are numbers of rows of x, at least one.
    static RowSubset checked_rows(const char* function, const RowNumbers& subset,
                                  const Argument& x) {
        const std::string what = std::string(function) + ": rows ";
        if (subset.ndim() != 1 || subset.size() == 0) {
            throw ShapeError(what + "must be a vector of at least one number");
        }
        const RowSubset rows = {subset.data(), subset.size()};
        const index_t* const end = rows.rows + rows.count;
        const index_t* const wrong = std::find_if(
            rows.rows, end, [&](index_t row) { return row < 0 || row >= x.rows(); });
        if (wrong != end) {
            throw py::value_error(what + "must be numbers from 0 to " +
                                  std::to_string(x.rows() - 1) + ", got " +
                                  std::to_string(*wrong));
        }
        return rows;
    }

    // An argument of the network's dtype.
    Argument checked(const char* function, const char* name,
                     const py::handle& value) const {
        Argument a = argument(function, name, value);
        if (a.dtype != dtype_) {
            throw DTypeError(a.what() + " must be " +
                             (dtype_ == DType::f32 ? "float32" : "float64") +
                             " like the network, got " +
                             std::string(py::str(a.handle().attr("dtype"))));
        }
        return a;
    }

    Argument checked_t(const char* function, const py::handle& value,
                       const Argument& x) const {
        Argument t = argument(function, "t", value, x);
        check_matrix(t, x.rows(), plan_.n_out(), x);
        check_has_rows(x);
        return t;
    }

    // One weight for each row, unless None.
    std::optional<Argument> checked_weights(const char* function,
                                            const py::handle& value,
                                            const Argument& x) const {
        if (value.is_none()) {
            return std::nullopt;
        }
        Argument weights = checked(function, "weights", value);
        check_vector(weights, x.rows());
        return weights;
    }

    Objective checked_objective(const char* function, double l1, double l2,
                                bool scikit_learn) const {
        for (const double strength : {l1, l2}) {
            if (!(strength >= 0) || !std::isfinite(strength)) {
                throw py::value_error(std::string(function) +
                                      ": l1 and l2 must be finite and >= 0, got " +
                                      std::to_string(strength));
            }
        }
        return {l1, l2, scikit_learn};
    }

    // What the loop reads at every epoch's start: kept alive, and its data or null.
    template <class V>
    struct PlainVector {
        py::object owner;
        const V* data = nullptr;
    };

    template <class V>
    static PlainVector<V> plain_vector(const char* name, const py::object& value,
                                       index_t size) {
        if (value.is_none()) {
            return {};
        }
        using Kept = py::array_t<V, py::array::c_style>;
        if (!py::isinstance<Kept>(value)) {
            throw DTypeError(std::string("fit: ") + name +
                             " must be a contiguous array of " +
                             std::string(py::str(py::dtype::of<V>())));
        }
        auto kept = py::reinterpret_borrow<Kept>(value);
        if (kept.ndim() != 1 || kept.shape(0) != size) {
            throw ShapeError(std::string("fit: ") + name + " must have shape (" +
                             std::to_string(size) + ",)");
        }
        return {kept, kept.data()};
    }

    // What a fit may take besides, see FitExtras.
    struct Extras {
        std::optional<Argument> weights;
        PlainVector<std::int64_t> order;
        PlainVector<double> rate;
        double l1 = 0;
        double l2 = 0;
        double dropout = 0;
        double clip_norm = 0;
        bool scikit_learn = false;

        template <class T>
        FitExtras<T> of() const {
            return {weights ? vector_data<T>(*weights) : nullptr,
                    order.data,
                    rate.data,
                    {l1, l2, scikit_learn},
                    dropout,
                    clip_norm};
        }
    };

    // One dictionary, as a plain fit is not to pay for the arguments it does without:
    // each costs 0.15 us.
    Extras checked_extras(const py::object& given, const Argument& x) const {
        Extras extras;
        if (given.is_none()) {
            return extras;
        }
        for (const auto& [key, value] : given.cast<py::dict>()) {
            const auto name = key.cast<std::string>();
            const auto object = py::reinterpret_borrow<py::object>(value);
            if (name == "weights") {
                extras.weights = checked_weights("fit", object, x);
            } else if (name == "order") {
                extras.order = plain_vector<std::int64_t>("order", object, x.rows());
            } else if (name == "rate") {
                extras.rate = plain_vector<double>("rate", object, 1);
            } else if (name == "l1") {
                extras.l1 = value.cast<double>();
            } else if (name == "l2") {
                extras.l2 = value.cast<double>();
            } else if (name == "dropout") {
                extras.dropout = value.cast<double>();
            } else if (name == "clip_norm") {
                extras.clip_norm = value.cast<double>();
            } else if (name == "scikit_learn") {
                extras.scikit_learn = value.cast<bool>();
            } else {
                throw py::type_error("fit: extras has no \"" + name + "\"");
            }
        }
        checked_objective("fit", extras.l1, extras.l2, extras.scikit_learn);
        if (!(extras.dropout >= 0 && extras.dropout < 1)) {
            throw py::value_error("fit: dropout must be in [0, 1), got " +
                                  std::to_string(extras.dropout));
        }
        if (!(extras.clip_norm >= 0) || !std::isfinite(extras.clip_norm)) {
            throw py::value_error("fit: clip_norm must be finite and >= 0, got " +
                                  std::to_string(extras.clip_norm));
        }
        return extras;
    }

    // A mean over no rows is no number.
    static void check_has_rows(const Argument& a) {
        if (a.rows() == 0) {
            throw ShapeError(a.what() + " must have at least one row, got " +
                             a.shape());
        }
    }

    void check_options(FitOptions& options, const std::vector<double>& values,
                       index_t rows) const {
        const auto require = [](bool ok, const std::string& what) {
            if (!ok) {
                throw py::value_error("fit: " + what);
            }
        };
        require(std::isfinite(options.lr) && options.lr > 0,
                "lr must be a finite number > 0, got " + std::to_string(options.lr));
        check_finite("fit", "lr", options.lr, dtype_);
        require(options.epochs >= 0,
                "epochs must be >= 0, got " + std::to_string(options.epochs));
        require(options.batch_size >= 1,
                "batch_size must be >= 1, got " + std::to_string(options.batch_size));
        require(options.tol >= 0,
                "tol must be >= 0, got " + std::to_string(options.tol));
        require(options.step_count >= 0, "step_count must be >= 0");
        const bool adam = options.optimizer == Optimizer::adam;
        const bool gd = options.optimizer == Optimizer::gd;
        require(
            values.size() == (adam ? 3U
                              : gd ? 0U
                                   : 1U),
            "options must be [] for gd, [momentum], or [beta1, beta2, eps] for adam");
        for (std::size_t i = 0; i < std::min<std::size_t>(values.size(), 2); ++i) {
            // scikit-learn takes a momentum of 1.
            require(values[i] >= 0 && (values[i] < 1 || (values[i] == 1 && !adam)),
                    "optimizer options must lie in [0, 1), got " +
                        std::to_string(values[i]));
        }
        if (!gd) {
            options.beta1 = values[0];
        }
        if (adam) {
            require(std::isfinite(values[2]) && values[2] > 0, "eps must be > 0");
            options.beta2 = values[1];
            options.eps = values[2];
        }
        options.batch_size = std::min(options.batch_size, rows);
    }

    double work(index_t rows) const {
        return 3.0 * static_cast<double>(rows) * static_cast<double>(plan_.n_params);
    }

    double loss_of(const char* function, const py::object& params_,
                   std::optional<Argument> grads, const py::object& x_,
                   const py::object& t_, const py::object& weights_,
                   const Objective& objective) const {
        const Argument params = checked_vector(function, "params", params_);
        const Argument x = checked_x(function, x_, params);
        const Argument t = checked_t(function, t_, x);
        const auto weights = checked_weights(function, weights_, x);
        if (grads) {
            for (const Argument* input : {&params, &x, &t}) {
                check_no_overlap(*grads, *input);
            }
            if (weights) {
                check_no_overlap(*grads, *weights);
            }
        }
        return dispatch_dtype(dtype_, [&](auto tag) {
            using T = decltype(tag);
            const T* p = vector_data<T>(params);
            T* g = grads ? mutable_vector_data<T>(*grads) : nullptr;
            Batch<T> batch = {view<T>(x), view<T>(t), nullptr, x.rows()};
            batch.weights = weights ? vector_data<T>(*weights) : nullptr;
            double value = 0;
            interruptible(work(x.rows()), [&](const Progress& progress) {
                NetworkRunner<T> runner(plan_, batch.rows);
                value = objective_of(objective, runner, plan_, p, g, batch, progress);
            });
            return value;
        });
    }

    NetworkPlan plan_;
    DType dtype_;
    bool learns_at_once_ = false;
};

// The arguments that differ from job to job: network, params, t, rows, state, lr,
// optimizer, options, memory.
using JobArguments =
    std::tuple<const Network*, py::object, py::object, std::optional<RowNumbers>,
               py::object, double, std::string, std::vector<double>, py::object>;

// Throws ValueError where what one job writes touches what another one reads or writes.
void check_jobs_apart(const std::vector<Network::FitCall>& calls) {
    const auto by_low = [](const Extent& a, const Extent& b) { return a.low < b.low; };
    const auto words = [](const void* data, index_t count) -> Extent {
        const auto low = reinterpret_cast<std::intptr_t>(data);
        return {low, low + count * 8};
    };
    std::vector<Extent> written;
    std::vector<Extent> read;
    for (const Network::FitCall& c : calls) {
        written.push_back(extent_of(c.params));
        written.push_back(words(c.generator, 4));
        if (c.moments.size() > 0) {
            written.push_back(extent_of(c.moments));
        }
        read.push_back(extent_of(c.x));
        read.push_back(extent_of(c.t));
        read.push_back(words(c.subset.rows, c.subset.count));
    }
    std::sort(written.begin(), written.end(), by_low);
    bool apart = true;
    for (std::size_t i = 1; i < written.size(); ++i) {
        apart = apart && written[i - 1].high <= written[i].low;
    }
    // Where those are apart, their ends are in order too.
    for (const Extent& r : read) {
        const auto w = std::lower_bound(
            written.begin(), written.end(), r,
            [](const Extent& a, const Extent& b) { return a.high <= b.low; });
        apart = apart && (w == written.end() || r.high <= w->low || r.high == r.low);
    }
    if (!apart) {
        throw py::value_error("fit_many: the arrays of the jobs must not overlap");
    }
}

// Returns for each job what Network.fit returns.
py::list fit_jobs(const py::object& x_, const std::vector<JobArguments>& jobs,
                  index_t epochs, index_t batch_size, bool shuffle, double tol,
                  const py::object& on_progress) {
    const char* function = "fit_many";
    std::vector<Fitting> fittings;
    std::vector<Stepping> steppings;
    std::vector<py::object> moments;  // kept alive
    std::vector<Network::FitCall> calls;
    for (const JobArguments& job : jobs) {
        const auto& [network, params_, t, rows, state, lr, optimizer, options, memory] =
            job;
        fittings.emplace_back(function, params_);
        steppings.emplace_back(function, memory);
        const Stepping& stepping = steppings.back();
        const Argument params =
            network->checked_vector(function, "params", fittings.back().array());
        const Argument x = network->checked_x(function, x_, params);
        moments.push_back(stepping.array(x.dtype));
        calls.push_back(network->checked_fit(
            function, params, x, t, state, rows,
            {lr, epochs, batch_size, shuffle, tol, optimizer_from(function, optimizer),
             0.0, 0.0, 0.0, stepping.step_count(0)},
            options, moments.back()));
        fittings.back().keep_generator(calls.back().generator);
    }
    check_jobs_apart(calls);
    const auto interrupted = [&on_progress](index_t done) {
        return with_gil([&] {
            if (handlers_raised()) {
                return true;
            }
            try {
                if (!on_progress.is_none()) {
                    call(on_progress, done);
                }
            } catch (py::error_already_set& error) {
                error.restore();  // nothing may be thrown while others are waited for
                return true;
            }
            return false;
        });
    };
    std::vector<FitResult> results(jobs.size());
    std::vector<std::unique_ptr<Network::StepsCounted>> counted;
    for (std::size_t k = 0; k < jobs.size(); ++k) {
        counted.push_back(
            std::make_unique<Network::StepsCounted>(steppings[k], results[k]));
    }
    if (!calls.empty()) {
        dispatch_dtype(calls.front().x.dtype, [&](auto tag) {
            using T = decltype(tag);
            std::vector<FitJob<T>> native;
            for (std::size_t k = 0; k < jobs.size(); ++k) {
                native.push_back(std::get<0>(jobs[k])->job_of<T>(calls[k]));
            }
            try {
                const ReleaseGil nogil;
                siglin::fit_many<T>(native, interrupted, results);
            } catch (const Interrupted&) {
                throw py::error_already_set();
            }
        });
    }
    py::list list;
    for (const FitResult& result : results) {
        list.append(Network::as_tuple(result));
    }
    return list;
}

constexpr Signature kPredictNow = {"predict_now",
                                   3,
                                   {"params", "x", "out"},
                                   "predict_now($self, params, x, out)\n--\n\n"
                                   "What predict returns, or None: ask predict."};

constexpr Signature kLearnNow = {
    "learn_now",
    4,
    {"params", "x", "t", "lr"},
    "learn_now($self, params, x, t, lr)\n--\n\n"
    "A step on one row; its loss before, or None: ask fit."};

py::tuple perceptron_fit(const py::object& params_, const py::object& x_,
                         const py::object& t_, bool bias, index_t epochs) {
    const char* function = "perceptron_fit";
    Fitting fitting("fit", params_);
    const Argument params = argument(function, "params", fitting.array());
    const Argument x = argument(function, "x", x_, params);
    const Argument t = argument(function, "t", t_, params);
    check_matrix(x, kAny, kAny);
    check_matrix(t, x.rows(), 1, x);
    check_vector(params, x.cols() + (bias ? 1 : 0), x);
    check_writable(params);
    for (const Argument* input : {&x, &t}) {
        check_no_overlap(params, *input);
    }
    if (epochs < 0) {
        throw py::value_error("perceptron_fit: epochs must be >= 0, got " +
                              std::to_string(epochs));
    }
    std::vector<index_t> mistakes;
    dispatch_dtype(params.dtype, [&](auto tag) {
        using T = decltype(tag);
        T* w = mutable_vector_data<T>(params);
        const auto rows = view<T>(x);
        const auto targets = view<T>(t);
        try {
            const ReleaseGil nogil;
            mistakes =
                fit_perceptron<T>(w, bias ? w + rows.cols : nullptr, rows, targets.data,
                                  targets.stride, epochs, signal_raised);
        } catch (const Interrupted&) {
            throw py::error_already_set();
        }
    });
    const bool finite = dispatch_dtype(params.dtype, [&](auto tag) {
        using T = decltype(tag);
        const T* w = vector_data<T>(params);
        return std::all_of(w, w + params.extent(0),
                           [](T v) { return std::isfinite(v); });
    });
    if (!finite) {
        fitting.undo();
    }
    const bool clean = !mistakes.empty() && mistakes.back() == 0;
    return py::make_tuple(mistakes, mistakes.size(),
                          !finite ? "diverged"
                          : clean ? "no_mistakes"
                                  : "epochs");
}

}  // namespace

void bind_network(py::module_& m) {
    using py::arg;
    const auto none = py::none();
    const auto environment = py::call_guard<KeepSubnormals>();
    // Hidden layers, gradients and moments count subnormal numbers as 0: saturated
    // units and late steps would take many times as long. What predicts flushes in its
    // hidden layers alone.
    const auto flushing = py::call_guard<FlushSubnormals>();
    m.def("fused_steps", &fused_steps, environment);
    m.def("perceptron_fit", &perceptron_fit, arg("params"), arg("x"), arg("t"),
          arg("bias"), arg("epochs"), environment);
    m.def("fit_many", &fit_jobs, arg("x"), arg("jobs").noconvert(), py::kw_only(),
          arg("epochs"), arg("batch_size"), arg("shuffle"), arg("tol"),
          arg("on_progress"), flushing);
    py::class_<Network> network(m, "Network");
    network
        .def(py::init<const std::vector<index_t>&, const std::vector<std::string>&,
                      const std::vector<bool>&, const std::string&,
                      const std::string&, double>(),
             arg("sizes"), arg("activations"), arg("biases"), arg("loss"), arg("dtype"),
             arg("loss_number") = 0.0, environment)
        .def_property_readonly("n_params", &Network::n_params)
        .def("predict", &Network::predict, arg("params"), arg("x"), arg("out") = none,
             environment)
        .def("loss", &Network::loss, arg("params"), arg("x"), arg("t"), py::kw_only(),
             arg("weights") = none, arg("scikit_learn") = false, flushing)
        .def("loss_and_grads", &Network::loss_and_grads, arg("params"), arg("grads"),
             arg("x"), arg("t"), py::kw_only(), arg("weights") = none, arg("l1") = 0.0,
             arg("l2") = 0.0, arg("scikit_learn") = false, flushing)
        .def("forward", &Network::forward, arg("params"), arg("x"), environment)
        .def("backward", &Network::backward, arg("params"), arg("grads"), arg("x"),
             arg("hidden"), arg("z"), arg("t"), flushing)
        .def("backward_from", &Network::backward_from, arg("params"), arg("grads"),
             arg("x"), arg("hidden"), arg("z"), arg("da"), flushing)
        .def("update", &Network::update, arg("params"), arg("grads"), arg("lr"),
             flushing)
        .def("fit", &Network::fit, arg("params"), arg("x"), arg("t"), arg("state"),
             py::kw_only(), arg("lr"), arg("epochs"), arg("batch_size"), arg("shuffle"),
             arg("tol"), arg("optimizer"), arg("options"), arg("moments"),
             arg("step_count") = 0, arg("on_epoch"), arg("min_interval"),
             arg("on_step"), arg("every"), arg("on_end") = none, arg("extras") = none,
             arg("function") = "fit", flushing);
    static PyMethodDef methods[] = {
        fast_function<&Network::predict_now, kPredictNow>(),
        fast_function<&Network::learn_now, kLearnNow>(),
        {nullptr, nullptr, 0, nullptr},
    };
    add_methods(network, methods);
    forbid_new<Network>();
}

}  // namespace siglin
