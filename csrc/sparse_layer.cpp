#include "sparse_layer.h"

#include <algorithm>
#include <cmath>

#include "blocks.h"
#include "dispatch.h"
#include "elements.h"

namespace siglin {
namespace {

// The time of a multiply-add over that of a product in cache: rows of w come from
// memory.
constexpr double kLatency = 4;

// Rows after which progress is due.
index_t rows_in_one_piece(index_t rows, double work) {
    const double pieces = std::ceil(kLatency * work / kMostBetweenCalls);
    return pieces <= 1 ? rows
                       : std::max<index_t>(rows / static_cast<index_t>(pieces), 1);
}

}  // namespace

template <class T>
index_t SparseRows<T>::count() const {
    if (order == nullptr) {
        return x.starts[rows] - x.starts[0];
    }
    index_t total = 0;
    for (index_t i = 0; i < rows; ++i) {
        total += end(i) - start(i);
    }
    return total;
}

template <class T>
double sparse_work(const SparseRows<T>& rows, index_t n_out) {
    // A value takes the time of a few more multiply-adds than it makes.
    constexpr double kOverhead = 8;
    return static_cast<double>(rows.count()) * (static_cast<double>(n_out) + kOverhead);
}

template <class T>
T SparseRows<T>::largest() const {
    const auto& kernels = kernel_table().kernels<T>();
    T most = 0;
    for (index_t i = 0; i < rows; ++i) {
        const T here =
            kernels.largest_magnitude(x.values + start(i), end(i) - start(i));
        most = here <= most ? most : here;
    }
    return most;
}

template <class T>
SparseRows<T> SparseRows<T>::some(index_t begin, index_t count) const {
    SparseRows<T> part = {x, nullptr, count};
    if (order == nullptr) {
        part.x.starts += begin;
    } else {
        part.order = order + begin;
    }
    return part;
}

template <class T>
void sparse_layer_forward(const SparseRows<T>& rows, MatrixView<const T> w, const T* b,
                          Activation activation, T* a, T* derivative,
                          const Progress* progress) {
    constexpr index_t kBlock = 16;  // rows
    const auto& kernels = kernel_table().kernels<T>();
    const double work = sparse_work(rows, w.cols) +
                        area(rows.rows, w.cols) * activation_cost<T>(activation);
    const index_t most = rows_in_one_piece(rows.rows, work);
    share_rows(rows.rows, shares_rows(work) ? std::min(kBlock, most) : most, work,
               time_of<T>(kLatency * work, area(rows.rows, w.cols)), progress,
               [&](index_t begin, index_t count) {
                   const SparseRows<T> part = rows.some(begin, count);
                   T* const to = a + begin * w.cols;
                   T* const slope =
                       derivative == nullptr ? nullptr : derivative + begin * w.cols;
                   kernels.sparse_forward({part.x, part.order, count, w, b, to});
                   if (activation != Activation::identity || slope != nullptr) {
                       kernels.activate(activation, to, to, slope, count * w.cols);
                   }
               });
}

template <class T>
void sparse_layer_weight_gradient(const SparseRows<T>& rows, MatrixView<const T> dz,
                                  T scale, MatrixView<T> dw, const Progress* progress) {
    const auto& kernels = kernel_table().kernels<T>();
    const double work = sparse_work(rows, dw.cols);
    // Each thread takes some of the columns, and looks at all values for them.
    const index_t pieces =
        shares_rows(work) ? std::min<index_t>(2 * num_threads(), dw.rows) : 1;
    const index_t columns = (dw.rows + pieces - 1) / pieces;
    const index_t together =
        progress == nullptr ? rows.rows : rows_in_one_piece(rows.rows, work);
    for (index_t first = 0; first < rows.rows; first += together) {
        const index_t count = std::min(together, rows.rows - first);
        const SparseRows<T> part = rows.some(first, count);
        const double share =
            work * static_cast<double>(count) / static_cast<double>(rows.rows);
        share_rows(dw.rows, columns, share, time_of<T>(kLatency * share, 0), progress,
                   [&](index_t begin, index_t some) {
                       kernels.sparse_weight_gradient(
                           {part.x, part.order, count, dz.data + first * dw.cols,
                            dw.cols, scale, begin, begin + some, dw.data});
                   });
    }
}

#define SIGLIN_INSTANTIATE(T)                                                        \
    template struct SparseRows<T>;                                                   \
    template double sparse_work<T>(const SparseRows<T>&, index_t);                   \
    template void sparse_layer_forward<T>(const SparseRows<T>&, MatrixView<const T>, \
                                          const T*, Activation, T*, T*,              \
                                          const Progress*);                          \
    template void sparse_layer_weight_gradient<T>(                                   \
        const SparseRows<T>&, MatrixView<const T>, T, MatrixView<T>, const Progress*);

SIGLIN_INSTANTIATE(float)
SIGLIN_INSTANTIATE(double)

}  // namespace siglin
