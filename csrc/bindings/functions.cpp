// Layer functions: check, view, release the GIL, call.
#include <pybind11/stl.h>

#include <limits>

#include "../buffer.h"
#include "../layer.h"
#include "array.h"
#include "module.h"
#include "names.h"

namespace siglin {
namespace {

std::string follows(const Argument& a) {
    return std::string("to follow ") + a.name + " " + a.shape();
}

double multiply_adds(const Argument& x, const Argument& w) {
    return static_cast<double>(x.rows()) * static_cast<double>(w.cols()) *
           (static_cast<double>(x.cols()) + 16.0);
}

// x (batch, n_in), w (n_in, n_out), b (n_out,) or None, of one dtype.
struct LayerArguments {
    Argument x;
    Argument w;
    std::optional<Argument> b;

    LayerArguments(const char* function, const py::handle& x_, const py::handle& w_,
                   const py::object& b_)
        : x(argument(function, "x", x_)), w(argument(function, "w", w_, x)) {
        check_matrix(x, kAny, kAny);
        check_matrix(w, x.cols(), kAny, follows(x));
        if (!b_.is_none()) {
            b = argument(function, "b", b_, x);
            check_vector(*b, w.cols(), follows(w));
        }
    }

    template <class T>
    const T* bias() const {
        return b ? vector_data<T>(*b) : nullptr;
    }
};

py::array activate(const py::object& z_, const std::string& activation,
                   const py::object& out_) {
    const Activation f = activation_from("activate", activation);
    const Argument z = argument("activate", "z", z_);
    if ((z.array.flags() & py::array::c_style) == 0) {
        throw ShapeError(
            "activate: z has a layout the core does not view: not C-contiguous");
    }
    Argument out = z;
    if (out_.is_none()) {
        const std::vector<py::ssize_t> shape(z.array.shape(),
                                             z.array.shape() + z.array.ndim());
        out.array = py::array(z.array.dtype(), shape);
    } else if (!out_.is(z_)) {
        out = argument("activate", "out", out_, z);
        bool same = out.array.ndim() == z.array.ndim();
        for (py::ssize_t i = 0; same && i < z.array.ndim(); ++i) {
            same = out.array.shape(i) == z.array.shape(i);
        }
        if (!same) {
            throw ShapeError("activate: out must have shape " + z.shape() +
                             " as z, got " + out.shape());
        }
        if ((out.array.flags() & py::array::c_style) == 0) {
            throw ShapeError(
                "activate: out has a layout the core does not view: not C-contiguous");
        }
        check_no_overlap(out, z);
    }
    check_writable(out);
    dispatch_dtype(z.dtype, [&](auto tag) {
        using T = decltype(tag);
        const T* from = vector_data<T>(z);
        T* to = mutable_vector_data<T>(out);
        const index_t n = z.array.size();
        const ReleaseGil nogil(16.0 * static_cast<double>(n));
        activate_elements<T>(f, from, to, n);
    });
    return out.array;
}

py::array forward(const py::object& x_, const py::object& w_, const py::object& b_,
                  const std::string& activation, const py::object& out_) {
    const Activation f = activation_from("forward", activation);
    const LayerArguments in("forward", x_, w_, b_);
    Argument a = out_or_new("forward", out_, in.x, in.x.rows(), in.w.cols());
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
        const ReleaseGil nogil(multiply_adds(in.x, in.w));
        layer_forward<T>(x, w, b, f, to, {nullptr, to.rows, to.cols, to.cols});
    });
    return a.array;
}

// What backward and backward_update check alike.
struct BackwardArguments {
    LayerArguments in;
    Argument a;
    Argument da;
    std::optional<Argument> z;
    Activation activation;

    BackwardArguments(const char* function, const py::handle& x_, const py::handle& w_,
                      const py::object& b_, const py::handle& a_, const py::handle& da_,
                      const std::string& activation_, const py::object& z_)
        : in(function, x_, w_, b_),
          a(argument(function, "a", a_, in.x)),
          da(argument(function, "da", da_, in.x)),
          activation(activation_from(function, activation_)) {
        const index_t rows = in.x.rows();
        const index_t cols = in.w.cols();
        const std::string because = follows(in.x) + " and w " + in.w.shape();
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

// Gradients of a layer into fresh arrays; dw and db have their final addresses.
template <class T>
void run_backward(const BackwardArguments& args, MatrixView<T> dx, T* dw, T* db) {
    const auto x = view<T>(args.in.x);
    const auto w = view<T>(args.in.w);
    const auto a = view<T>(args.a);
    const auto da = view<T>(args.da);
    const auto z = args.z ? view<T>(*args.z) : MatrixView<const T>{nullptr, 0, 0, 0};
    const ReleaseGil nogil(3.0 * multiply_adds(args.in.x, args.in.w));
    Buffer<T> dz(da.rows * da.cols);
    pre_activation_gradient<T>(args.activation, a, z, da, dz.data());
    layer_backward<T>(x, w, dz.data(), dx, dw, db);
}

template <class T>
MatrixView<T> view_or_none(std::optional<Argument>& a) {
    return a ? mutable_view<T>(*a) : MatrixView<T>{nullptr, 0, 0, 0};
}

py::object array_or_none(const std::optional<Argument>& a) {
    return a ? py::object(a->array) : py::none();
}

py::tuple backward(const py::object& x, const py::object& w, const py::object& a,
                   const py::object& da, const std::string& activation,
                   const py::object& z, bool need_dx) {
    const BackwardArguments args("backward", x, w, py::none(), a, da, activation, z);
    std::optional<Argument> dx;
    if (need_dx) {
        dx = new_matrix(args.in.x, args.in.x.rows(), args.in.x.cols());
    }
    Argument dw = new_matrix(args.in.x, args.in.w.rows(), args.in.w.cols());
    Argument db = new_vector(args.in.x, args.in.w.cols());
    dispatch_dtype(args.in.x.dtype, [&](auto tag) {
        using T = decltype(tag);
        run_backward<T>(args, view_or_none<T>(dx), mutable_vector_data<T>(dw),
                        mutable_vector_data<T>(db));
    });
    return py::make_tuple(array_or_none(dx), dw.array, db.array);
}

py::object backward_update(const py::object& x, const py::object& w,
                           const py::object& b, const py::object& a,
                           const py::object& da, double lr,
                           const std::string& activation, const py::object& z,
                           bool need_dx) {
    BackwardArguments args("backward_update", x, w, b, a, da, activation, z);
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
    std::optional<Argument> dx;
    if (need_dx) {
        dx = new_matrix(args.in.x, args.in.x.rows(), args.in.x.cols());
    }
    dispatch_dtype(args.in.x.dtype, [&](auto tag) {
        using T = decltype(tag);
        const auto to = mutable_view<T>(args.in.w);
        T* bias = args.in.b ? mutable_vector_data<T>(*args.in.b) : nullptr;
        const auto step = static_cast<T>(lr);
        Buffer<T> dw(to.rows * to.cols);
        Buffer<T> db(to.cols);
        run_backward<T>(args, view_or_none<T>(dx), dw.data(), db.data());
        if (step == 0) {
            return;
        }
        gradient_descent<T>(to, {dw.data(), to.rows, to.cols, to.cols}, step);
        if (bias != nullptr) {
            gradient_descent<T>({bias, 1, to.cols, to.cols},
                                {db.data(), 1, to.cols, to.cols}, step);
        }
    });
    return array_or_none(dx);
}

// Any shape as a matrix: rows of the last axis where C-ordered, else the matrix it is.
template <class T>
MatrixView<const T> flat_view(const Argument& a) {
    if (a.array.ndim() == 2) {
        check_matrix(a, kAny, kAny);
        return view<T>(a);
    }
    if ((a.array.flags() & py::array::c_style) == 0) {
        throw ShapeError(a.what() +
                         " has a layout the core does not view: not C-contiguous");
    }
    return {vector_data<T>(a), 1, a.array.size(), a.array.size()};
}

void update(const py::object& param_, const py::object& grad_, double lr) {
    Argument param = argument("update", "param", param_);
    const Argument grad = argument("update", "grad", grad_, param);
    bool same = param.array.ndim() == grad.array.ndim();
    for (py::ssize_t i = 0; same && i < param.array.ndim(); ++i) {
        same = param.array.shape(i) == grad.array.shape(i);
    }
    if (!same) {
        throw ShapeError("update: grad must have shape " + param.shape() +
                         " as param, got " + grad.shape());
    }
    check_finite("update", "lr", lr, param.dtype);
    check_writable(param);
    dispatch_dtype(param.dtype, [&](auto tag) {
        using T = decltype(tag);
        const auto from = flat_view<T>(grad);
        const auto to = flat_view<T>(param);
        check_no_overlap(param, grad);
        const auto step = static_cast<T>(lr);
        if (step == 0) {
            return;
        }
        const ReleaseGil nogil(static_cast<double>(param.array.size()));
        gradient_descent<T>({const_cast<T*>(to.data), to.rows, to.cols, to.stride},
                            from, step);
    });
}

py::tuple layer_forward_(const py::object& x_, const py::object& w_,
                         const py::object& b_, const std::string& activation) {
    const Activation f = activation_from("layer_forward", activation);
    const LayerArguments in("layer_forward", x_, w_, b_);
    Argument a = new_matrix(in.x, in.x.rows(), in.w.cols());
    Argument derivative = new_matrix(in.x, in.x.rows(), in.w.cols());
    dispatch_dtype(in.x.dtype, [&](auto tag) {
        using T = decltype(tag);
        const auto x = view<T>(in.x);
        const auto w = view<T>(in.w);
        const T* b = in.bias<T>();
        const auto to = mutable_view<T>(a);
        const auto d = mutable_view<T>(derivative);
        const ReleaseGil nogil(multiply_adds(in.x, in.w));
        layer_forward<T>(x, w, b, f, to, d);
    });
    return py::make_tuple(a.array, derivative.array);
}

py::object layer_backward_(const py::object& x_, const py::object& w_,
                           const py::object& derivative_, const py::object& da_,
                           const py::object& dw_, const py::object& db_, bool need_dx) {
    const char* function = "layer_backward";
    const LayerArguments in(function, x_, w_, py::none());
    const index_t rows = in.x.rows();
    const index_t cols = in.w.cols();
    const std::string because = follows(in.x) + " and w " + in.w.shape();
    const Argument derivative = argument(function, "derivative", derivative_, in.x);
    check_matrix(derivative, rows, cols, because);
    const Argument da = argument(function, "da", da_, in.x);
    check_matrix(da, rows, cols, because);
    Argument dw = argument(function, "dw", dw_, in.x);
    check_matrix(dw, in.x.cols(), cols, because);
    check_writable(dw);
    if (dw.rows() > 1 && dw.array.size() > 0 &&
        dw.array.strides(0) != cols * dw.array.itemsize()) {
        throw ShapeError(
            "layer_backward: dw has a layout the core does not view: not "
            "C-contiguous");
    }
    std::optional<Argument> db;
    if (!db_.is_none()) {
        db = argument(function, "db", db_, in.x);
        check_vector(*db, cols, follows(in.w));
        check_writable(*db);
        check_no_overlap(*db, dw);
    }
    for (const Argument* input : {&in.x, &in.w, &derivative, &da}) {
        check_no_overlap(dw, *input);
        if (db) {
            check_no_overlap(*db, *input);
        }
    }
    std::optional<Argument> dx;
    if (need_dx) {
        dx = new_matrix(in.x, rows, in.x.cols());
    }
    dispatch_dtype(in.x.dtype, [&](auto tag) {
        using T = decltype(tag);
        const auto x = view<T>(in.x);
        const auto w = view<T>(in.w);
        const auto d = view<T>(derivative);
        const auto upstream = view<T>(da);
        T* to_dw = mutable_vector_data<T>(dw);
        T* to_db = db ? mutable_vector_data<T>(*db) : nullptr;
        const auto to_dx = view_or_none<T>(dx);
        const ReleaseGil nogil(3.0 * multiply_adds(in.x, in.w));
        Buffer<T> dz(rows * cols);
        multiply<T>(d, upstream, dz.data());
        layer_backward<T>(x, w, dz.data(), to_dx, to_dw, to_db);
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
        const ReleaseGil nogil(static_cast<double>(x.array.size()));
        for (index_t i = 0; i < v.rows; ++i) {
            const bool one_row = v.stride == v.cols;
            const index_t n = one_row ? v.rows * v.cols : v.cols;
            const index_t found =
                kernels.first_outside(v.data + i * v.stride, n, least, most);
            if (found >= 0) {
                return i * v.cols + found;
            }
            if (one_row) {
                break;
            }
        }
        return -1;
    });
}

}  // namespace

void bind_functions(py::module_& m) {
    using py::arg;
    const auto none = py::none();
    m.def("activations", &activation_names);
    m.def("activate", &activate, arg("z"), arg("activation"), arg("out") = none);
    m.def("forward", &forward, arg("x"), arg("w"), arg("b").none(true),
          arg("activation"), arg("out") = none);
    m.def("backward", &backward, arg("x"), arg("w"), arg("a"), arg("da"),
          arg("activation"), arg("z") = none, arg("need_dx") = true);
    m.def("backward_update", &backward_update, arg("x"), arg("w"), arg("b"), arg("a"),
          arg("da"), arg("lr"), arg("activation"), arg("z") = none,
          arg("need_dx") = true);
    m.def("update", &update, arg("param"), arg("grad"), arg("lr"));
    m.def("layer_forward", &layer_forward_, arg("x"), arg("w"), arg("b"),
          arg("activation"));
    m.def("layer_backward", &layer_backward_, arg("x"), arg("w"), arg("derivative"),
          arg("da"), arg("dw"), arg("db"), arg("need_dx") = true);
    m.def("first_outside", &first_outside, arg("x"), arg("low"), arg("high"));
}

}  // namespace siglin
