// What the core works on: a matrix somewhere in memory, and the sizes that describe it.
#pragma once

#include <cstddef>
#include <cstdint>

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

// Rows that are mostly 0, in compressed sparse row form (CSR): row i has values[p] in
// columns[p] for p in [starts[i], starts[i + 1]), 0 elsewhere; columns rise in a row.
template <class T>
struct SparseView {
    const T* values = nullptr;
    const std::int32_t* columns = nullptr;
    const std::int64_t* starts = nullptr;  // null: the rows are a matrix elsewhere
};

}  // namespace siglin

// Preconditions that the bindings have checked; spelled out in debug builds only.
#if defined(SIGLIN_DEBUG)
#define SIGLIN_ASSERT(condition) \
    ((condition) ? static_cast<void>(0) : static_cast<void>(__builtin_trap()))
#else
#define SIGLIN_ASSERT(condition) static_cast<void>(0)
#endif
