// Checked views of NumPy arrays. Nothing here copies or casts: what cannot be viewed is
// an error, and the friendly Python layer converts and calls again.
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

// An ndarray argument, known to be exactly ndarray, float32 or float64, native,
// aligned.
struct Argument {
    const char* function;
    const char* name;
    py::array array;
    DType dtype;

    index_t rows() const { return array.shape(0); }
    index_t cols() const { return array.shape(1); }
    std::string shape() const;
    std::string what() const { return std::string(function) + ": " + name; }
};

// Throws TypeError for anything but an ndarray, DTypeError for another dtype.
Argument argument(const char* function, const char* name, const py::handle& value);

// Also throws DTypeError if its dtype is not that of `like`.
Argument argument(const char* function, const char* name, const py::handle& value,
                  const Argument& like);

// A matrix (rows, cols) of unit column stride; kAny accepts any size. `because`
// explains an expected shape: "to follow x (2, 5)".
void check_matrix(const Argument& a, index_t rows, index_t cols,
                  const std::string& because = {});
void check_vector(const Argument& a, index_t size, const std::string& because = {});

// Throws ValueError for a read-only array, or one with overlapping rows.
void check_writable(const Argument& a);

// Throws ValueError if the two share memory.
void check_no_overlap(const Argument& out, const Argument& input);

// Throws ValueError unless finite, also as a number of the dtype.
void check_finite(const char* function, const char* name, double value, DType dtype);

template <class T>
MatrixView<const T> view(const Argument& a) {
    return {
        static_cast<const T*>(a.array.data()), a.rows(), a.cols(),
        a.rows() > 1 ? a.array.strides(0) / static_cast<index_t>(sizeof(T)) : a.cols()};
}

template <class T>
MatrixView<T> mutable_view(Argument& a) {
    return {
        static_cast<T*>(a.array.mutable_data()), a.rows(), a.cols(),
        a.rows() > 1 ? a.array.strides(0) / static_cast<index_t>(sizeof(T)) : a.cols()};
}

template <class T>
const T* vector_data(const Argument& a) {
    return static_cast<const T*>(a.array.data());
}

template <class T>
T* mutable_vector_data(Argument& a) {
    return static_cast<T*>(a.array.mutable_data());
}

// A fresh C-ordered array of the argument's dtype.
Argument new_matrix(const Argument& like, index_t rows, index_t cols);
Argument new_vector(const Argument& like, index_t size);

// `out` checked as a result of this shape, or a fresh array where it is None.
Argument out_or_new(const char* function, const py::object& out, const Argument& like,
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
