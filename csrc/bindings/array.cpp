#include "array.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace siglin {
namespace {

std::string expected(index_t size, const char* free_name) {
    return size == kAny ? free_name : std::to_string(size);
}

std::string dtype_of(const Argument& a) { return py::str(a.handle().attr("dtype")); }

}  // namespace

index_t Argument::size() const {
    index_t n = 1;
    for (int i = 0; i < ndim(); ++i) {
        n *= extent(i);
    }
    return n;
}

bool Argument::same_shape(const Argument& other) const {
    bool same = ndim() == other.ndim();
    for (int i = 0; same && i < ndim(); ++i) {
        same = extent(i) == other.extent(i);
    }
    return same;
}

std::string Argument::shape() const {
    std::string text = "(";
    for (int i = 0; i < ndim(); ++i) {
        text += (i > 0 ? ", " : "") + std::to_string(extent(i));
    }
    return text + (ndim() == 1 ? ",)" : ")");
}

std::string Because::str() const {
    if (first == nullptr) {
        return text;
    }
    const auto named = [](const Argument& a) { return a.name + (" " + a.shape()); };
    return "to follow " + named(*first) +
           (second == nullptr ? "" : " and " + named(*second));
}

Extent extent_of(const Argument& a) {
    const auto first = reinterpret_cast<std::intptr_t>(a.array->data);
    Extent extent = {first, first};
    if (a.size() == 0) {
        return extent;
    }
    for (int i = 0; i < a.ndim(); ++i) {
        const index_t reach = (a.extent(i) - 1) * a.stride(i);
        (reach < 0 ? extent.low : extent.high) += reach;
    }
    extent.high += a.item_size();
    return extent;
}

bool extents_touch(const Argument& a, const Argument& b) {
    if (a.size() == 0 || b.size() == 0) {
        return false;
    }
    const Extent one = extent_of(a);
    const Extent other = extent_of(b);
    return one.low < other.high && other.low < one.high;
}

DType dtype_from(const char* function, const std::string& name) {
    if (name != "float32" && name != "float64") {
        throw DTypeError(std::string(function) +
                         ": dtype must be float32 or float64, got " + name);
    }
    return name == "float32" ? DType::f32 : DType::f64;
}

void refuse(const char* function, const char* name, const py::handle& value) {
    const std::string what = std::string(function) + ": " + name;
    if (Py_TYPE(value.ptr()) != numpy().PyArray_Type_) {
        throw py::type_error(
            what + " must be a numpy.ndarray, got " +
            std::string(py::str(py::type::handle_of(value).attr("__name__"))));
    }
    const py::dtype dtype = py::reinterpret_borrow<py::array>(value).dtype();
    if (dtype.num() != py::detail::npy_api::NPY_FLOAT_ &&
        dtype.num() != py::detail::npy_api::NPY_DOUBLE_) {
        throw DTypeError(what + " must be float32 or float64, got " +
                         std::string(py::str(dtype)));
    }
    const bool swapped = dtype.byteorder() != '=';
    throw ShapeError(what + " has a layout the core does not view: " +
                     (swapped ? "swapped bytes" : "misaligned"));
}

void refuse_dtype(const Argument& a, const Argument& like) {
    throw DTypeError(a.what() + " must be " + dtype_of(like) + " like " + like.name +
                     ", got " + dtype_of(a));
}

void refuse_matrix(const Argument& a, index_t rows, index_t cols,
                   const Because& because) {
    if (a.ndim() != 2) {
        std::string hint;
        if (a.ndim() == 1) {
            hint = std::string("; for one row pass ") + a.name + "[None, :]";
        }
        throw ShapeError(a.what() + " must be 2-D, got " + std::to_string(a.ndim()) +
                         "-D " + a.shape() + hint);
    }
    if ((rows != kAny && a.rows() != rows) || (cols != kAny && a.cols() != cols)) {
        const std::string reason = because.str();
        throw ShapeError(a.what() + " must have shape (" + expected(rows, "any") +
                         ", " + expected(cols, "any") + ")" +
                         (reason.empty() ? "" : " ") + reason + ", got " + a.shape());
    }
    throw ShapeError(a.what() + " has a layout the core does not view: strides (" +
                     std::to_string(a.stride(0)) + ", " + std::to_string(a.stride(1)) +
                     ")");
}

void refuse_vector(const Argument& a, index_t size, const Because& because) {
    if (a.ndim() != 1 || (size != kAny && a.extent(0) != size)) {
        const std::string reason = because.str();
        throw ShapeError(a.what() + " must have shape (" + expected(size, "any") +
                         ",)" + (reason.empty() ? "" : " ") + reason + ", got " +
                         a.shape());
    }
    throw ShapeError(a.what() + " has a layout the core does not view: stride " +
                     std::to_string(a.stride(0)));
}

void refuse_writing(const Argument& a) {
    if (!a.has(Argument::Flags::NPY_ARRAY_WRITEABLE_)) {
        throw py::value_error(a.what() + " is read-only");
    }
    throw ShapeError(a.what() +
                     " has a layout the core does not view: rows that run backwards or "
                     "overlap, in an array to be written");
}

void check_no_overlap(const Argument& out, const Argument& input) {
    if (!extents_touch(out, input)) {
        return;
    }
    const auto shares_memory = py::module_::import("numpy").attr("shares_memory");
    if (shares_memory(out.handle(), input.handle()).cast<bool>()) {
        throw py::value_error(out.what() + " must not overlap " + input.name);
    }
}

void check_finite(const char* function, const char* name, double value, DType dtype) {
    constexpr double kLargest = std::numeric_limits<float>::max();
    const bool fits = dtype == DType::f64 || std::fabs(value) <= kLargest;
    if (std::isfinite(value) && fits) {
        return;
    }
    const std::string what = std::string(function) + ": " + name + " must be ";
    if (!std::isfinite(value)) {
        throw py::value_error(what + "a finite number, got " + std::to_string(value));
    }
    throw py::value_error(what + "a finite float32, got " +
                          std::string(py::repr(py::float_(value))));
}

Result new_array(const Argument& like, int ndim, const index_t* extents) {
    using Api = py::detail::npy_api;
    const auto& api = numpy();
    PyObject* descr = api.PyArray_DescrFromType_(
        like.dtype == DType::f32 ? Api::NPY_FLOAT_ : Api::NPY_DOUBLE_);
    // NewFromDescr takes the reference to descr over, also where it fails.
    PyObject* array = api.PyArray_NewFromDescr_(api.PyArray_Type_, descr, ndim, extents,
                                                nullptr, nullptr, 0, nullptr);
    if (array == nullptr) {
        throw py::error_already_set();
    }
    return {{like.function, "result", py::detail::array_proxy(array), like.dtype},
            py::reinterpret_steal<py::object>(array)};
}

Result out_or_new(const char* function, const py::handle& out, const Argument& like,
                  index_t rows, index_t cols) {
    if (out.is_none()) {
        return new_matrix(like, rows, cols);
    }
    const Argument a = argument(function, "out", out, like);
    check_matrix(a, rows, cols, "as the result");
    check_writable(a);
    return {a, py::reinterpret_borrow<py::object>(out)};
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
    auto* const data = static_cast<std::uint64_t*>(words.mutable_data());
    if (std::all_of(data, data + 4, [](std::uint64_t word) { return word == 0; })) {
        throw py::value_error(what + "other than all zeros, which draws 0 for ever");
    }
    return data;
}

}  // namespace siglin
