#include "array.h"

#include <cmath>
#include <limits>

namespace siglin {
namespace {

std::string dimensions(const py::array& a) {
    std::string text = "(";
    for (py::ssize_t i = 0; i < a.ndim(); ++i) {
        text += (i > 0 ? ", " : "") + std::to_string(a.shape(i));
    }
    return text + (a.ndim() == 1 ? ",)" : ")");
}

std::string expected(index_t size, const char* free_name) {
    return size == kAny ? free_name : std::to_string(size);
}

bool extents_touch(const py::array& a, const py::array& b) {
    const auto extent = [](const py::array& v) {
        auto low = reinterpret_cast<std::intptr_t>(v.data());
        auto high = low;
        for (py::ssize_t i = 0; i < v.ndim(); ++i) {
            const auto span = (v.shape(i) - 1) * v.strides(i);
            (span < 0 ? low : high) += span;
        }
        return std::pair{low, high + v.itemsize()};
    };
    if (a.size() == 0 || b.size() == 0) {
        return false;
    }
    const auto [a_low, a_high] = extent(a);
    const auto [b_low, b_high] = extent(b);
    return a_low < b_high && b_low < a_high;
}

}  // namespace

std::string Argument::shape() const { return dimensions(array); }

Argument argument(const char* function, const char* name, const py::handle& value) {
    const auto& api = py::detail::npy_api::get();
    const std::string what = std::string(function) + ": " + name;
    // Subclasses (masked arrays among them) may mean something else by their data.
    if (Py_TYPE(value.ptr()) != api.PyArray_Type_) {
        throw py::type_error(
            what + " must be a numpy.ndarray, got " +
            std::string(py::str(py::type::handle_of(value).attr("__name__"))));
    }
    Argument a = {function, name, py::reinterpret_borrow<py::array>(value), DType::f64};
    const py::dtype dtype = a.array.dtype();
    if (dtype.num() == py::detail::npy_api::NPY_FLOAT_) {
        a.dtype = DType::f32;
    } else if (dtype.num() != py::detail::npy_api::NPY_DOUBLE_) {
        throw DTypeError(what + " must be float32 or float64, got " +
                         std::string(py::str(dtype)));
    }
    if (dtype.byteorder() == '>' || dtype.byteorder() == '<') {
        // '=' is what native arrays say, so one of these is the other byte order
        throw ShapeError(what + " has a layout the core does not view: swapped bytes");
    }
    if ((a.array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) == 0) {
        throw ShapeError(what + " has a layout the core does not view: misaligned");
    }
    return a;
}

Argument argument(const char* function, const char* name, const py::handle& value,
                  const Argument& like) {
    Argument a = argument(function, name, value);
    if (a.dtype != like.dtype) {
        throw DTypeError(a.what() + " must be " +
                         std::string(py::str(like.array.dtype())) + " like " +
                         like.name + ", got " + std::string(py::str(a.array.dtype())));
    }
    return a;
}

void check_matrix(const Argument& a, index_t rows, index_t cols,
                  const std::string& because) {
    const py::array& v = a.array;
    if (v.ndim() != 2) {
        std::string hint;
        if (v.ndim() == 1) {
            hint = std::string("; for one row pass ") + a.name + "[None, :]";
        }
        throw ShapeError(a.what() + " must be 2-D, got " + std::to_string(v.ndim()) +
                         "-D " + a.shape() + hint);
    }
    if ((rows != kAny && v.shape(0) != rows) || (cols != kAny && v.shape(1) != cols)) {
        throw ShapeError(a.what() + " must have shape (" + expected(rows, "any") +
                         ", " + expected(cols, "any") + ")" +
                         (because.empty() ? "" : " ") + because + ", got " + a.shape());
    }
    if (v.size() == 0) {
        return;  // NumPy gives empty arrays any strides
    }
    const bool unit = v.shape(1) <= 1 || v.strides(1) == v.itemsize();
    if (!unit || (v.shape(0) > 1 && v.strides(0) % v.itemsize() != 0)) {
        throw ShapeError(a.what() + " has a layout the core does not view: strides (" +
                         std::to_string(v.strides(0)) + ", " +
                         std::to_string(v.strides(1)) + ")");
    }
}

void check_vector(const Argument& a, index_t size, const std::string& because) {
    const py::array& v = a.array;
    if (v.ndim() != 1 || (size != kAny && v.shape(0) != size)) {
        throw ShapeError(a.what() + " must have shape (" + expected(size, "any") +
                         ",)" + (because.empty() ? "" : " ") + because + ", got " +
                         a.shape());
    }
    if (v.shape(0) > 1 && v.strides(0) != v.itemsize()) {
        throw ShapeError(a.what() + " has a layout the core does not view: stride " +
                         std::to_string(v.strides(0)));
    }
}

void check_writable(const Argument& a) {
    if (!a.array.writeable()) {
        throw py::value_error(a.what() + " is read-only");
    }
    if (a.array.ndim() == 2 && a.rows() > 1 && a.array.size() > 0 &&
        a.array.strides(0) < a.cols() * a.array.itemsize()) {
        throw ShapeError(
            a.what() +
            " has a layout the core does not view: rows that run backwards or "
            "overlap, in an array to be written");
    }
}

void check_no_overlap(const Argument& out, const Argument& input) {
    if (!extents_touch(out.array, input.array)) {
        return;
    }
    const auto shares_memory = py::module_::import("numpy").attr("shares_memory");
    if (shares_memory(out.array, input.array).cast<bool>()) {
        throw py::value_error(out.what() + " must not overlap " + input.name);
    }
}

void check_finite(const char* function, const char* name, double value, DType dtype) {
    const std::string what = std::string(function) + ": " + name + " must be ";
    if (!std::isfinite(value)) {
        throw py::value_error(what + "a finite number, got " + std::to_string(value));
    }
    constexpr double kLargest = std::numeric_limits<float>::max();
    if (dtype == DType::f32 && std::fabs(value) > kLargest) {
        throw py::value_error(what + "a finite float32, got " +
                              std::string(py::repr(py::float_(value))));
    }
}

namespace {

py::array fresh(DType dtype, std::vector<py::ssize_t> shape) {
    return dtype == DType::f32 ? py::array(py::array_t<float>(std::move(shape)))
                               : py::array(py::array_t<double>(std::move(shape)));
}

}  // namespace

Argument new_matrix(const Argument& like, index_t rows, index_t cols) {
    return {like.function, "result", fresh(like.dtype, {rows, cols}), like.dtype};
}

Argument new_vector(const Argument& like, index_t size) {
    return {like.function, "result", fresh(like.dtype, {size}), like.dtype};
}

std::uint64_t* generator_words(const char* function, const py::object& state) {
    const std::string what = std::string(function) + ": state must be ";
    if (!py::isinstance<py::array_t<std::uint64_t>>(state)) {
        throw py::type_error(what + "an array of uint64");
    }
    auto words = py::reinterpret_borrow<py::array>(state);
    constexpr int kLayout =
        int{py::array::c_style} | int{py::detail::npy_api::NPY_ARRAY_ALIGNED_};
    if (words.ndim() != 1 || words.shape(0) != 4 || !words.writeable() ||
        (words.flags() & kLayout) != kLayout) {
        throw py::value_error(what + "a writable array of 4 uint64");
    }
    return static_cast<std::uint64_t*>(words.mutable_data());
}

Argument out_or_new(const char* function, const py::object& out, const Argument& like,
                    index_t rows, index_t cols) {
    if (out.is_none()) {
        return new_matrix(like, rows, cols);
    }
    Argument a = argument(function, "out", out, like);
    check_matrix(a, rows, cols, "as the result");
    check_writable(a);
    return a;
}

}  // namespace siglin
