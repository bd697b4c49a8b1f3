// Layer functions: check, view, release the GIL, call.
#include <pybind11/stl.h>

#include <limits>
#include <optional>

#include "../buffer.h"
#include "../elements.h"
#include "../layer.h"
#include "../packed_operand.h"
#include "array.h"
#include "call.h"
#include "interrupt.h"
#include "module.h"
#include "names.h"

namespace siglin {
namespace {

double size_of(const Argument& a) { return static_cast<double>(a.size()); }

// The work of x @ w, with that of reading and writing.
double multiply_adds(const Argument& x, const Argument& w) {
    return static_cast<double>(x.rows()) * static_cast<double>(w.cols()) *
               (static_cast<double>(x.cols()) + 16.0) +
           size_of(x) + size_of(w);
}

// x (batch, n_in), w (n_in, n_out), b (n_out,) or None, of one dtype.
struct LayerArguments {
    Argument x;
    Argument w;
    std::optional<Argument> b;

    LayerArguments(const char* function, const py::handle& x_, const py::handle& w_,
                   const py::handle& b_)
        : x(argument(function, "x", x_)), w(argument(function, "w", w_, x)) {
        check_matrix(x, kAny, kAny);
        check_matrix(w, x.cols(), kAny, x);
        if (!b_.is_none()) {
            b = argument(function, "b", b_, x);
            check_vector(*b, w.cols(), w);
        }
    }

    template <class T>
    const T* bias() const {
        return b ? vector_data<T>(*b) : nullptr;
    }
};

constexpr Signature kActivate = {
    "activate",
    2,
    {"z", "activation", "out"},
    "activate($module, z, activation, out=None)\n--\n\na = f(z), elementwise."};

py::object activate(py::handle z_, py::handle activation, py::handle out_) {
    const Activation f = activation_from("activate", activation);
    const Argument z = argument("activate", "z", z_);
    if (!z.c_ordered()) {
        throw ShapeError(
            "activate: z has a layout the core does not view: not C-contiguous");
    }
    Result out;
    if (out_.is_none()) {
        out = new_array(z, z.ndim(), z.array->dimensions);
    } else if (out_.is(z_)) {
        out = {z, py::reinterpret_borrow<py::object>(z_)};
        check_writable(out);
    } else {
        out = {argument("activate", "out", out_, z),
               py::reinterpret_borrow<py::object>(out_)};
        if (!out.same_shape(z)) {
            throw ShapeError("activate: out must have shape " + z.shape() +
                             " as z, got " + out.shape());
        }
        if (!out.c_ordered()) {
            throw ShapeError(
                "activate: out has a layout the core does not view: not C-contiguous");
        }
        check_no_overlap(out, z);
        check_writable(out);
    }
    dispatch_dtype(z.dtype, [&](auto tag) {
        using T = decltype(tag);
        const T* from = vector_data<T>(z);
        T* to = mutable_vector_data<T>(out);
        const index_t n = z.size();
        run_interruptibly(16.0 * static_cast<double>(n), [&](const Progress* progress) {
            activate_elements<T>(f, from, to, n, progress);
        });
    });
    return std::move(out.owner);
}

constexpr Signature kForward = {
    "forward",
    4,
    {"x", "w", "b", "activation", "out"},
    "forward($module, x, w, b, activation, out=None)\n--\n\na = f(x @ w + b)."};

py::object forward(py::handle x_, py::handle w_, py::handle b_, py::handle activation,
                   py::handle out_) {
    const Activation f = activation_from("forward", activation);
    const LayerArguments in("forward", x_, w_, b_);
    Result a = out_or_new("forward", out_, in.x, in.x.rows(), in.w.cols());
    if (!out_.is_none()) {
        check_no_overlap(a, in.x);
        check_no_overlap(a, in.w);
        if (in.b) {
            check_no_overlap(a, *in.b);
        }
    }
    dispatch_dtype(in.x.dtype, [&](auto tag) {
        using T = decltype(tag);
        const auto x = view<T>(in.x);
        const auto w = view<T>(in.w);
        const T* b = in.bias<T>();
        const auto to = mutable_view<T>(a);
        run_interruptibly(multiply_adds(in.x, in.w), [&](const Progress* progress) {
            layer_forward<T>(x, w, b, f, to, {nullptr, to.rows, to.cols, to.cols},
                             progress);
        });
    });
    return std::move(a.owner);
}

// What backward and backward_update check alike.
struct BackwardArguments {
    LayerArguments in;
    Argument a;
    Argument da;
    std::optional<Argument> z;
    Activation activation;

    BackwardArguments(const char* function, const py::handle& x_, const py::handle& w_,
                      const py::handle& b_, const py::handle& a_, const py::handle& da_,
                      const py::handle& activation_, const py::handle& z_)
        : in(function, x_, w_, b_),
          a(argument(function, "a", a_, in.x)),
          da(argument(function, "da", da_, in.x)),
          activation(activation_from(function, activation_)) {
        const index_t rows = in.x.rows();
        const index_t cols = in.w.cols();
        const Because because(in.x, in.w);
        check_matrix(a, rows, cols, because);
        check_matrix(da, rows, cols, because);
        if (!z_.is_none()) {
            z = argument(function, "z", z_, in.x);
            check_matrix(*z, rows, cols, because);
        }
        if (activation == Activation::step) {
            throw py::value_error(std::string(function) +
                                  ": activation \"step\" has no derivative to descend");
        }
    }

    // Throws ValueError if w or b, which change, share memory with the input.
    void check_apart(const Argument& input) const {
        check_no_overlap(in.w, input);
        if (in.b) {
            check_no_overlap(*in.b, input);
        }
    }
};

// dz of a layer, found without the GIL, for what comes after it: use(x, w, dz,
// progress).
template <class T, class Use>
void with_dz(const BackwardArguments& args, const Use& use) {
    const auto x = view<T>(args.in.x);
    const auto w = view<T>(args.in.w);
    const auto a = view<T>(args.a);
    const auto da = view<T>(args.da);
    const auto z = args.z ? view<T>(*args.z) : MatrixView<const T>{nullptr, 0, 0, 0};
    run_interruptibly(
        3.0 * multiply_adds(args.in.x, args.in.w), [&](const Progress* progress) {
            Scratch<T> dz(da.rows * da.cols);
            pre_activation_gradient<T>(args.activation, a, z, da, dz.data(), progress);
            use(x, w, MatrixView<const T>{dz.data(), da.rows, da.cols, da.cols},
                progress);
        });
}

// The gradient that need_dx asks for, like x.
std::optional<Result> new_dx(const Argument& x, const py::handle& need_dx) {
    if (!flag(need_dx)) {
        return std::nullopt;
    }
    return new_matrix(x, x.rows(), x.cols());
}

template <class T>
MatrixView<T> view_or_none(const std::optional<Result>& a) {
    return a ? mutable_view<T>(*a) : MatrixView<T>{nullptr, 0, 0, 0};
}

py::object array_or_none(std::optional<Result>& a) {
    return a ? std::move(a->owner) : py::none();
}

constexpr Signature kBackward = {
    "backward",
    5,
    {"x", "w", "a", "da", "activation", "z", "need_dx"},
    "backward($module, x, w, a, da, activation, z=None, need_dx=True)\n--\n\n"
    "dx, dw and db, from da and f' of z or of a.",
    true};

py::object backward(py::handle x, py::handle w, py::handle a, py::handle da,
                    py::handle activation, py::handle z, py::handle need_dx) {
    const BackwardArguments args("backward", x, w, py::none(), a, da, activation, z);
    std::optional<Result> dx = new_dx(args.in.x, need_dx);
    Result dw = new_matrix(args.in.x, args.in.w.rows(), args.in.w.cols());
    Result db = new_vector(args.in.x, args.in.w.cols());
    dispatch_dtype(args.in.x.dtype, [&](auto tag) {
        using T = decltype(tag);
        const auto to_dx = view_or_none<T>(dx);
        T* to_dw = mutable_vector_data<T>(dw);
        T* to_db = mutable_vector_data<T>(db);
        with_dz<T>(args, [&](auto x_view, auto w_view, auto dz,
                             const Progress* progress) {
            layer_backward<T>(x_view, w_view, dz.data, to_dx, to_dw, to_db, progress);
        });
    });
    return py::make_tuple(array_or_none(dx), std::move(dw.owner), std::move(db.owner));
}

// w -= lr * x.T @ dz and b -= lr * (the sum of the rows of dz), if b is given: both or
// none, so nothing asks for signals from the first change on.
template <class T>
void descend(MatrixView<const T> x, MatrixView<const T> dz, MatrixView<T> w, T* b, T lr,
             const Progress* progress) {
    Scratch<T> db(b == nullptr ? 0 : w.cols);
    if (b != nullptr) {
        sum_rows<T>(dz, db.data(), progress);
    }
    const double work = static_cast<double>(x.rows + 1) * static_cast<double>(w.rows) *
                        static_cast<double>(w.cols);
    // (Between rows that do not touch may lie what is others'.)
    const bool at_once = work < kMostInOnePiece && w.stride == w.cols;
    const bool needs_dw = !at_once || x.rows > kDepth;
    Scratch<T> dw(needs_dw ? w.rows * w.cols : 0);
    T* const sums = needs_dw ? dw.data() : nullptr;
    if (at_once) {
        reserve_products<T>(packed_size<T>(x.rows, w.cols));
        layer_weight_gradient<T>(x, dz, sums, false, w, lr);
    } else {
        layer_weight_gradient<T>(x, dz, sums, false, {}, T(0), progress);
        gradient_descent<T>(w, {sums, w.rows, w.cols, w.cols}, lr);
    }
    if (b != nullptr) {
        gradient_descent<T>({b, 1, w.cols, w.cols}, {db.data(), 1, w.cols, w.cols}, lr);
    }
}

constexpr Signature kBackwardUpdate = {
    "backward_update",
    7,
    {"x", "w", "b", "a", "da", "lr", "activation", "z", "need_dx"},
    "backward_update($module, x, w, b, a, da, lr, activation, z=None, need_dx=True)\n"
    "--\n\nw -= lr dw, b -= lr db; dx is of the weights as they were.",
    true};

py::object backward_update(py::handle x, py::handle w, py::handle b, py::handle a,
                           py::handle da, py::handle lr_, py::handle activation,
                           py::handle z, py::handle need_dx) {
    const double lr = number("backward_update", "lr", lr_);
    const BackwardArguments args("backward_update", x, w, b, a, da, activation, z);
    check_finite("backward_update", "lr", lr, args.in.x.dtype);
    check_writable(args.in.w);
    if (args.in.b) {
        check_writable(*args.in.b);
        check_no_overlap(*args.in.b, args.in.w);
    }
    for (const Argument* input : {&args.in.x, &args.a, &args.da}) {
        args.check_apart(*input);
    }
    if (args.z) {
        args.check_apart(*args.z);
    }
    std::optional<Result> dx = new_dx(args.in.x, need_dx);
    dispatch_dtype(args.in.x.dtype, [&](auto tag) {
        using T = decltype(tag);
        const auto to = mutable_view<T>(args.in.w);
        T* bias = args.in.b ? mutable_vector_data<T>(*args.in.b) : nullptr;
        const auto step = static_cast<T>(lr);
        const auto to_dx = view_or_none<T>(dx);
        with_dz<T>(args, [&](auto x_view, auto w_view, auto dz,
                             const Progress* progress) {
            if (to_dx.data != nullptr) {
                layer_input_gradient<T>(dz, w_view, to_dx, nullptr, false, progress);
            }
            if (step != 0) {
                descend<T>(x_view, dz, to, bias, step, progress);
            }
        });
    });
    return array_or_none(dx);
}

// Any shape as a matrix: all in one row where C-ordered, else the matrix it is.
template <class T>
MatrixView<T> flat_view(const Argument& a) {
    if (a.c_ordered()) {
        const index_t n = a.size();
        return {mutable_vector_data<T>(a), 1, n, n};
    }
    if (a.ndim() == 2) {
        check_matrix(a, kAny, kAny);
        return mutable_view<T>(a);
    }
    throw ShapeError(a.what() +
                     " has a layout the core does not view: not C-contiguous");
}

constexpr Signature kUpdate = {
    "update",
    3,
    {"param", "grad", "lr"},
    "update($module, param, grad, lr)\n--\n\nparam -= lr * grad, in place."};

py::object update(py::handle param_, py::handle grad_, py::handle lr_) {
    const double lr = number("update", "lr", lr_);
    const Argument param = argument("update", "param", param_);
    const Argument grad = argument("update", "grad", grad_, param);
    if (!param.same_shape(grad)) {
        throw ShapeError("update: grad must have shape " + param.shape() +
                         " as param, got " + grad.shape());
    }
    check_finite("update", "lr", lr, param.dtype);
    check_writable(param);
    dispatch_dtype(param.dtype, [&](auto tag) {
        using T = decltype(tag);
        MatrixView<T> from = flat_view<T>(grad);
        MatrixView<T> to = flat_view<T>(param);
        if (from.rows != to.rows) {  // one is C-ordered, the other is not
            from = mutable_view<T>(grad);
            to = mutable_view<T>(param);
        }
        check_no_overlap(param, grad);
        const auto step = static_cast<T>(lr);
        if (step == 0) {
            return;
        }
        const ReleaseGil nogil(static_cast<double>(to.rows * to.cols));
        gradient_descent<T>(to, {from.data, from.rows, from.cols, from.stride}, step);
    });
    return py::none();
}

constexpr Signature kLayerForward = {
    "layer_forward",
    4,
    {"x", "w", "b", "activation"},
    "layer_forward($module, x, w, b, activation)\n--\n\n"
    "a = f(z) and f'(z) of z = x @ w + b."};

py::object layer_forward_(py::handle x_, py::handle w_, py::handle b_,
                          py::handle activation) {
    const Activation f = activation_from("layer_forward", activation);
    const LayerArguments in("layer_forward", x_, w_, b_);
    Result a = new_matrix(in.x, in.x.rows(), in.w.cols());
    Result derivative = new_matrix(in.x, in.x.rows(), in.w.cols());
    dispatch_dtype(in.x.dtype, [&](auto tag) {
        using T = decltype(tag);
        const auto x = view<T>(in.x);
        const auto w = view<T>(in.w);
        const T* b = in.bias<T>();
        const auto to = mutable_view<T>(a);
        const auto d = mutable_view<T>(derivative);
        run_interruptibly(multiply_adds(in.x, in.w), [&](const Progress* progress) {
            layer_forward<T>(x, w, b, f, to, d, progress);
        });
    });
    return py::make_tuple(std::move(a.owner), std::move(derivative.owner));
}

constexpr Signature kLayerBackward = {
    "layer_backward",
    6,
    {"x", "w", "derivative", "da", "dw", "db", "need_dx"},
    "layer_backward($module, x, w, derivative, da, dw, db, need_dx=True)\n--\n\n"
    "Fills dw and db, returns dx, of what layer_forward gave.",
    true};

py::object layer_backward_(py::handle x_, py::handle w_, py::handle derivative_,
                           py::handle da_, py::handle dw_, py::handle db_,
                           py::handle need_dx) {
    const char* function = "layer_backward";
    const LayerArguments in(function, x_, w_, py::none());
    const index_t rows = in.x.rows();
    const index_t cols = in.w.cols();
    const Because because(in.x, in.w);
    const Argument derivative = argument(function, "derivative", derivative_, in.x);
    check_matrix(derivative, rows, cols, because);
    const Argument da = argument(function, "da", da_, in.x);
    check_matrix(da, rows, cols, because);
    const Argument dw = argument(function, "dw", dw_, in.x);
    check_matrix(dw, in.x.cols(), cols, because);
    check_writable(dw);
    if (!dw.c_ordered()) {
        throw ShapeError(
            "layer_backward: dw has a layout the core does not view: not "
            "C-contiguous");
    }
    std::optional<Argument> db;
    if (!db_.is_none()) {
        db = argument(function, "db", db_, in.x);
        check_vector(*db, cols, in.w);
        check_writable(*db);
        check_no_overlap(*db, dw);
    }
    for (const Argument* input : {&in.x, &in.w, &derivative, &da}) {
        check_no_overlap(dw, *input);
        if (db) {
            check_no_overlap(*db, *input);
        }
    }
    std::optional<Result> dx = new_dx(in.x, need_dx);
    dispatch_dtype(in.x.dtype, [&](auto tag) {
        using T = decltype(tag);
        const auto x = view<T>(in.x);
        const auto w = view<T>(in.w);
        const auto d = view<T>(derivative);
        const auto upstream = view<T>(da);
        T* to_dw = mutable_vector_data<T>(dw);
        T* to_db = db ? mutable_vector_data<T>(*db) : nullptr;
        const auto to_dx = view_or_none<T>(dx);
        run_interruptibly(
            3.0 * multiply_adds(in.x, in.w), [&](const Progress* progress) {
                Scratch<T> dz(rows * cols);
                multiply<T>(d, upstream, dz.data(), progress);
                layer_backward<T>(x, w, dz.data(), to_dx, to_dw, to_db, progress);
            });
    });
    return array_or_none(dx);
}

index_t first_outside(const py::object& x_, double low, double high) {
    const Argument x = argument("first_outside", "x", x_);
    check_matrix(x, kAny, kAny);
    return dispatch_dtype(x.dtype, [&](auto tag) -> index_t {
        using T = decltype(tag);
        const auto v = view<T>(x);
        const auto least = static_cast<T>(
            std::max(low, static_cast<double>(std::numeric_limits<T>::lowest())));
        const auto most = static_cast<T>(
            std::min(high, static_cast<double>(std::numeric_limits<T>::max())));
        const auto& kernels = kernel_table().kernels<T>();
        // All rows in one where they touch, and of a row so much at a time.
        constexpr index_t kTogether = 1 << 20;
        const bool one_row = v.stride == v.cols;
        const index_t rows = v.cols == 0 ? 0 : one_row ? 1 : v.rows;
        const index_t cols = one_row ? v.rows * v.cols : v.cols;
        index_t found = -1;
        run_interruptibly(4.0 * size_of(x), [&](const Progress* progress) {
            for (index_t i = 0; i < rows; ++i) {
                for (index_t j = 0; j < cols; j += kTogether) {
                    const index_t n = std::min(kTogether, cols - j);
                    const index_t at = kernels.first_outside(v.data + i * v.stride + j,
                                                             n, least, most);
                    if (at >= 0) {
                        found = i * cols + j + at;
                        return;
                    }
                    if (progress != nullptr) {
                        (*progress)(4.0 * static_cast<double>(n));
                    }
                }
            }
        });
        return found;
    });
}

}  // namespace

void bind_functions(py::module_& m) {
    using py::arg;
    const auto environment = py::call_guard<KeepSubnormals>();
    m.def("activations", &activation_names, environment);
    m.def("losses", &loss_names, environment);
    static PyMethodDef functions[] = {
        fast_function<activate, kActivate>(),
        fast_function<forward, kForward>(),
        fast_function<backward, kBackward>(),
        fast_function<backward_update, kBackwardUpdate>(),
        fast_function<update, kUpdate>(),
        fast_function<layer_forward_, kLayerForward>(),
        fast_function<layer_backward_, kLayerBackward>(),
        {nullptr, nullptr, 0, nullptr},
    };
    add_functions(m, functions);
    m.def("first_outside", &first_outside, arg("x"), arg("low"), arg("high"),
          environment);
}

}  // namespace siglin
