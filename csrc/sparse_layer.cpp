#include "sparse_layer.h"

#include <algorithm>

#include "blocks.h"
#include "dispatch.h"
#include "elements.h"

namespace siglin {
namespace {

// A value takes the time of a few more multiply-adds than it makes.
constexpr double kOverhead = 8;

double work_of(index_t values, index_t n_out) {
    return static_cast<double>(values) * (static_cast<double>(n_out) + kOverhead);
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
void sparse_layer_forward(const SparseRows<T>& rows, MatrixView<const T> w, const T* b,
                          Activation activation, T* a, T* derivative,
                          const Progress* progress) {
    constexpr index_t kBlock = 16;  // rows
    const auto& kernels = kernel_table().kernels<T>();
    const double work = work_of(rows.count(), w.cols) +
                        area(rows.rows, w.cols) * activation_cost<T>(activation);
    share_rows(
        rows.rows, shares_rows(work) ? kBlock : rows.rows, work,
        time_of<T>(work, area(rows.rows, w.cols)), progress,
        [&](index_t begin, index_t count) {
            SparseView<T> x = rows.x;
            if (rows.order == nullptr) {
                x.starts += begin;
            }
            const index_t* order = rows.order == nullptr ? nullptr : rows.order + begin;
            T* to = a + begin * w.cols;
            kernels.sparse_forward({x, order, count, w, b, to});
            if (activation != Activation::identity || derivative != nullptr) {
                kernels.activate(
                    activation, to, to,
                    derivative == nullptr ? nullptr : derivative + begin * w.cols,
                    count * w.cols);
            }
        });
}

template <class T>
void sparse_layer_weight_gradient(const SparseRows<T>& rows, MatrixView<const T> dz,
                                  T scale, MatrixView<T> dw, const Progress* progress) {
    const auto& kernels = kernel_table().kernels<T>();
    const index_t values = rows.count();
    const double work = work_of(values, dw.cols);
    // Each thread takes some of the columns, and looks at all values for them.
    const index_t pieces =
        shares_rows(work) ? std::min<index_t>(2 * num_threads(), dw.rows) : 1;
    const index_t block = (dw.rows + pieces - 1) / pieces;
    share_rows(dw.rows, block, work, time_of<T>(work, static_cast<double>(values)),
               progress, [&](index_t begin, index_t count) {
                   kernels.sparse_weight_gradient({rows.x, rows.order, rows.rows,
                                                   dz.data, dw.cols, scale, begin,
                                                   begin + count, dw.data});
               });
}

#define SIGLIN_INSTANTIATE(T)                                                        \
    template struct SparseRows<T>;                                                   \
    template void sparse_layer_forward<T>(const SparseRows<T>&, MatrixView<const T>, \
                                          const T*, Activation, T*, T*,              \
                                          const Progress*);                          \
    template void sparse_layer_weight_gradient<T>(                                   \
        const SparseRows<T>&, MatrixView<const T>, T, MatrixView<T>, const Progress*);

SIGLIN_INSTANTIATE(float)
SIGLIN_INSTANTIATE(double)

}  // namespace siglin
