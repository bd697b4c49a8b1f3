// What the core works on: a matrix somewhere in memory, and the sizes that describe it.
#pragma once

#include <cstddef>

namespace siglin {

using index_t = std::ptrdiff_t;

// A row-major matrix: element (i, j) is data[i * stride + j]; the stride, in elements,
// is any number where the matrix is only read, and at least cols where it is written.
template <class T>
struct MatrixView {
    T* data;
    index_t rows;
    index_t cols;
    index_t stride;
};

}  // namespace siglin

// Preconditions that the bindings have checked; spelled out in debug builds only.
#if defined(SIGLIN_DEBUG)
#define SIGLIN_ASSERT(condition) \
    ((condition) ? static_cast<void>(0) : static_cast<void>(__builtin_trap()))
#else
#define SIGLIN_ASSERT(condition) static_cast<void>(0)
#endif
