// Checked views of NumPy arrays. Nothing here copies or casts: what cannot be viewed is
// an error, and the friendly Python layer converts and calls again.
//
// What is asked about an array that is as it should be is inline and makes no text: a
// call on a tiny layer consists of little else. Messages are put together where one is
// thrown.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

#include "../view.h"
#include "errors.h"
#include "gil.h"

namespace siglin {

namespace py = pybind11;

inline constexpr index_t kAny = -1;

enum class DType { f32, f64 };

// Throws DTypeError for anything but "float32" and "float64".
DType dtype_from(const char* function, const std::string& name);

inline const py::detail::npy_api& numpy() {
    static const auto& api = py::detail::npy_api::get();
    return api;
}

// An ndarray argument, known to be exactly ndarray, float32 or float64, native,
// aligned. The caller holds it for the whole call.
struct Argument {
    using Array = py::detail::PyArray_Proxy;
    using Flags = py::detail::npy_api::constants;

    const char* function;
    const char* name;
    const Array* array;
    DType dtype;

    py::handle handle() const {
        return const_cast<PyObject*>(reinterpret_cast<const PyObject*>(array));
    }
    int ndim() const { return array->nd; }
    index_t extent(int axis) const { return array->dimensions[axis]; }
    index_t stride(int axis) const { return array->strides[axis]; }  // in bytes
    index_t rows() const { return extent(0); }
    index_t cols() const { return extent(1); }
    index_t item_size() const { return dtype == DType::f32 ? 4 : 8; }
    index_t size() const;
    bool has(Flags flag) const { return (array->flags & flag) != 0; }
    bool c_ordered() const { return has(Flags::NPY_ARRAY_C_CONTIGUOUS_); }
    bool same_shape(const Argument& other) const;
    std::string shape() const;
    std::string what() const { return std::string(function) + ": " + name; }
};

// Whether the value is what an Argument promises; fills in array and dtype.
inline bool is_viewable(const py::handle& value, Argument& a) {
    // Subclasses (masked arrays among them) may mean something else by their data.
    if (Py_TYPE(value.ptr()) != numpy().PyArray_Type_) {
        return false;
    }
    using Api = py::detail::npy_api;
    a.array = py::detail::array_proxy(value.ptr());
    const auto* descr = py::detail::array_descriptor_proxy(a.array->descr);
    a.dtype = descr->type_num == Api::NPY_FLOAT_ ? DType::f32 : DType::f64;
    return (descr->type_num == Api::NPY_DOUBLE_ || a.dtype == DType::f32) &&
           // '=' is what native arrays say, so the others are the other byte order
           descr->byteorder == '=' && a.has(Api::NPY_ARRAY_ALIGNED_);
}

// A matrix (rows, cols) of unit column stride; kAny accepts any size.
inline bool is_matrix(const Argument& a, index_t rows, index_t cols) {
    if (a.ndim() != 2 || (rows != kAny && a.rows() != rows) ||
        (cols != kAny && a.cols() != cols)) {
        return false;
    }
    const bool rows_ok = a.rows() <= 1 || a.stride(0) % a.item_size() == 0;
    const bool unit = a.cols() <= 1 || a.stride(1) == a.item_size();
    // NumPy gives empty arrays any strides.
    return (rows_ok && unit) || a.rows() == 0 || a.cols() == 0;
}

inline bool is_vector(const Argument& a, index_t size) {
    return a.ndim() == 1 && (size == kAny || a.extent(0) == size) &&
           (a.extent(0) <= 1 || a.stride(0) == a.item_size());
}

// Writable, and no rows that overlap.
inline bool is_writable(const Argument& a) {
    return a.has(Argument::Flags::NPY_ARRAY_WRITEABLE_) &&
           (a.ndim() != 2 || a.rows() <= 1 || a.cols() == 0 ||
            a.stride(0) >= a.cols() * a.item_size());
}

// The memory from the lowest element to the end of the highest; empty if there are
// none.
struct Extent {
    std::intptr_t low;
    std::intptr_t high;
};
Extent extent_of(const Argument& a);

// Whether the memory between the first and the last element meets; if not, neither do
// the elements.
bool extents_touch(const Argument& a, const Argument& b);

// Why a shape is expected: a text, or "to follow x (2, 5) and w (5, 3)".
struct Because {
    Because() = default;
    Because(const char* reason) : text(reason) {}
    Because(const Argument& a) : first(&a) {}
    Because(const Argument& a, const Argument& b) : first(&a), second(&b) {}
    std::string str() const;

    const char* text = "";
    const Argument* first = nullptr;
    const Argument* second = nullptr;
};

// Say what is wrong with an argument that is not viewable, not of the dtype of `like`,
// no matrix, no vector, not writable.
[[noreturn]] void refuse(const char* function, const char* name,
                         const py::handle& value);
[[noreturn]] void refuse_dtype(const Argument& a, const Argument& like);
[[noreturn]] void refuse_matrix(const Argument& a, index_t rows, index_t cols,
                                const Because& because);
[[noreturn]] void refuse_vector(const Argument& a, index_t size,
                                const Because& because);
[[noreturn]] void refuse_writing(const Argument& a);

// Throws TypeError for anything but an ndarray, DTypeError for another dtype.
inline Argument argument(const char* function, const char* name,
                         const py::handle& value) {
    Argument a = {function, name, nullptr, DType::f64};
    if (!is_viewable(value, a)) {
        refuse(function, name, value);
    }
    return a;
}

// Also throws DTypeError if its dtype is not that of `like`.
inline Argument argument(const char* function, const char* name,
                         const py::handle& value, const Argument& like) {
    const Argument a = argument(function, name, value);
    if (a.dtype != like.dtype) {
        refuse_dtype(a, like);
    }
    return a;
}

inline void check_matrix(const Argument& a, index_t rows, index_t cols,
                         const Because& because = {}) {
    if (!is_matrix(a, rows, cols)) {
        refuse_matrix(a, rows, cols, because);
    }
}

inline void check_vector(const Argument& a, index_t size, const Because& because = {}) {
    if (!is_vector(a, size)) {
        refuse_vector(a, size, because);
    }
}

// Throws ValueError for a read-only array, or one with overlapping rows.
inline void check_writable(const Argument& a) {
    if (!is_writable(a)) {
        refuse_writing(a);
    }
}

// Throws ValueError if the two share memory.
void check_no_overlap(const Argument& out, const Argument& input);

// Throws ValueError unless finite, also as a number of the dtype.
void check_finite(const char* function, const char* name, double value, DType dtype);

template <class T>
const T* vector_data(const Argument& a) {
    return reinterpret_cast<const T*>(a.array->data);
}

// Where check_writable has passed.
template <class T>
T* mutable_vector_data(const Argument& a) {
    return reinterpret_cast<T*>(a.array->data);
}

template <class T>
index_t row_stride(const Argument& a) {
    return a.rows() > 1 ? a.stride(0) / static_cast<index_t>(sizeof(T)) : a.cols();
}

template <class T>
MatrixView<const T> view(const Argument& a) {
    return {vector_data<T>(a), a.rows(), a.cols(), row_stride<T>(a)};
}

template <class T>
MatrixView<T> mutable_view(const Argument& a) {
    return {mutable_vector_data<T>(a), a.rows(), a.cols(), row_stride<T>(a)};
}

// An argument to return: a fresh array, or the caller's own.
struct Result : Argument {
    py::object owner;
};

// A fresh C-ordered array of the argument's dtype.
Result new_array(const Argument& like, int ndim, const index_t* extents);

inline Result new_matrix(const Argument& like, index_t rows, index_t cols) {
    const index_t extents[] = {rows, cols};
    return new_array(like, 2, extents);
}

inline Result new_vector(const Argument& like, index_t size) {
    return new_array(like, 1, &size);
}

// `out` checked as a result of this shape, or a fresh array where it is None.
Result out_or_new(const char* function, const py::handle& out, const Argument& like,
                  index_t rows, index_t cols);

// The four words of a random generator's state. Throws TypeError for anything but an
// array of uint64, ValueError unless it is writable, aligned, contiguous and of four.
std::uint64_t* generator_words(const char* function, const py::object& state);

// run(T{}) for the argument's dtype.
template <class Run>
decltype(auto) dispatch_dtype(DType dtype, Run run) {
    if (dtype == DType::f32) {
        return run(float{});
    }
    return run(double{});
}

}  // namespace siglin
