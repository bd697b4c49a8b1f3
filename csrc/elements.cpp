#include "elements.h"

#include <algorithm>
#include <cstring>

#include "blocks.h"
#include "buffer.h"
#include "dispatch.h"

namespace siglin {
namespace {

// row(i, cols) for each row of a (rows, cols) matrix, or once for all if one_row.
template <class Row>
void for_each_row(index_t rows, index_t cols, bool one_row, Row row) {
    if (cols == 0) {
        return;
    }
    if (one_row) {
        row(0, rows * cols);
        return;
    }
    for (index_t i = 0; i < rows; ++i) {
        row(i, cols);
    }
}

template <class T>
bool contiguous(const MatrixView<T>& v) {
    return v.stride == v.cols;
}

// Elements that are handed over together: 32 kB of float32, some microseconds, so that
// a late helper is not missed, and whole vectors on every target.
constexpr index_t kElements = 8 * 1024;

// run(begin, n) for all elements, in blocks. work: of one, which reads or writes
// `touched` elements of memory.
template <class T, class Run>
void share_elements(index_t count, double work, double touched,
                    const Progress* progress, const Run& run) {
    const double total = work * static_cast<double>(count);
    const double time = time_of<T>(total, touched * static_cast<double>(count));
    share_rows(count, kElements, total, time, progress, run);
}

// run(p, q, begin, n) for n elements each of two matrices of one shape, p and q being
// where they lie and `begin` the number of the first.
template <class T, class Run>
void share_pieces(MatrixView<const T> first, MatrixView<const T> second, double work,
                  const Progress* progress, const Run& run) {
    constexpr double kTouched = 3;  // two are read, one is written
    const index_t cols = first.cols;
    if (cols == 0) {
        return;
    }
    if (contiguous(first) && contiguous(second)) {
        share_elements<T>(first.rows * cols, work, kTouched, progress,
                          [&](index_t begin, index_t n) {
                              run(first.data + begin, second.data + begin, begin, n);
                          });
        return;
    }
    // Some rows together, or a part of one.
    const index_t parts = (cols + kElements - 1) / kElements;
    const double total = work * area(first.rows, cols);
    share_rows(first.rows * parts, std::max(kElements / cols, index_t{1}), total,
               time_of<T>(total, kTouched * area(first.rows, cols)), progress,
               [&](index_t begin, index_t count) {
                   for (index_t piece = begin; piece < begin + count; ++piece) {
                       const index_t i = piece / parts;
                       const index_t j = piece % parts * kElements;
                       run(first.data + i * first.stride + j,
                           second.data + i * second.stride + j, i * cols + j,
                           std::min(kElements, cols - j));
                   }
               });
}

}  // namespace

// 0.69 ns for a float32 sigmoid, 1.57 for a
// float64 one; the piecewise linear ones take what reading and writing takes.
template <class T>
double activation_cost(Activation f) {
    const bool has_exp = f == Activation::sigmoid || f == Activation::tanh;
    return (has_exp ? 40.0 : 4.0) * sizeof(T) / sizeof(float);
}

template <class T>
void activate_elements(Activation activation, const T* z, T* a, index_t n,
                       const Progress* progress) {
    const auto& kernels = kernel_table().kernels<T>();
    share_elements<T>(n, activation_cost<T>(activation), 2, progress,
                      [&](index_t begin, index_t count) {
                          kernels.activate(activation, z + begin, a + begin, nullptr,
                                           count);
                      });
}

template <class T>
void pre_activation_gradient(Activation activation, MatrixView<const T> a,
                             MatrixView<const T> z, MatrixView<const T> da, T* dz,
                             const Progress* progress) {
    const auto& kernels = kernel_table().kernels<T>();
    const MatrixView<const T>& from = z.data == nullptr ? a : z;
    share_pieces<T>(from, da, activation_cost<T>(activation), progress,
                    [&](const T* source, const T* upstream, index_t begin, index_t n) {
                        T* to = dz + begin;
                        if (z.data == nullptr) {
                            kernels.derivative_from_a(activation, source, to, n);
                        } else {
                            kernels.activate(activation, source, nullptr, to, n);
                        }
                        kernels.scale_by(upstream, to, n);
                    });
}

template <class T>
void multiply(MatrixView<const T> derivative, MatrixView<const T> da, T* dz,
              const Progress* progress) {
    const auto& kernels = kernel_table().kernels<T>();
    share_pieces<T>(derivative, da, activation_cost<T>(Activation::identity), progress,
                    [&](const T* d, const T* upstream, index_t begin, index_t n) {
                        T* to = dz + begin;
                        std::memcpy(to, d, static_cast<std::size_t>(n) * sizeof(T));
                        kernels.scale_by(upstream, to, n);
                    });
}

template <class T>
void sum_rows(MatrixView<const T> dz, T* sums, const Progress* progress) {
    const auto& kernels = kernel_table().kernels<T>();
    constexpr index_t kChains = 4;  // of column_sums, whose bits these are
    const index_t n = dz.cols;
    const double time = time_of<T>(0, area(dz.rows, n));
    if (progress == nullptr || time <= kMostBetweenCalls) {
        kernels.column_sums(dz, sums, false);
        return;
    }
    // Four rows after each other are one element more for each chain.
    Buffer<T> chains(kChains * n);
    std::fill_n(chains.data(), kChains * n, T(0));
    const index_t pieces = static_cast<index_t>(time / kMostBetweenCalls) + 1;
    const index_t rows = (dz.rows / pieces / kChains + 1) * kChains;
    for (index_t begin = 0; begin < dz.rows; begin += rows) {
        const index_t end = std::min(begin + rows, dz.rows);
        for (index_t i = begin; i < end; i += kChains) {
            kernels.add_to(dz.data + i * n, chains.data(),
                           std::min(kChains, end - i) * n);
        }
        (*progress)(time / static_cast<double>(pieces));
    }
    T* const first = chains.data();
    kernels.add_to(first + n, first, n);
    kernels.add_to(first + 3 * n, first + 2 * n, n);
    kernels.add_to(first + 2 * n, first, n);
    std::copy_n(first, n, sums);
}

template <class T>
void gradient_descent(MatrixView<T> param, MatrixView<const T> grad, T lr) {
    const auto& kernels = kernel_table().kernels<T>();
    for_each_row(param.rows, param.cols, contiguous(param) && contiguous(grad),
                 [&](index_t i, index_t n) {
                     UpdateArgs<T> args = {};
                     args.param = param.data + i * param.stride;
                     args.grad = grad.data + i * grad.stride;
                     args.n = n;
                     args.lr = lr;
                     args.unchecked = true;
                     kernels.gd(args);
                 });
}

#define SIGLIN_INSTANTIATE(T)                                                          \
    template double activation_cost<T>(Activation);                                    \
    template void activate_elements<T>(Activation, const T*, T*, index_t,              \
                                       const Progress*);                               \
    template void pre_activation_gradient<T>(Activation, MatrixView<const T>,          \
                                             MatrixView<const T>, MatrixView<const T>, \
                                             T*, const Progress*);                     \
    template void multiply<T>(MatrixView<const T>, MatrixView<const T>, T*,            \
                              const Progress*);                                        \
    template void sum_rows<T>(MatrixView<const T>, T*, const Progress*);               \
    template void gradient_descent<T>(MatrixView<T>, MatrixView<const T>, T);

SIGLIN_INSTANTIATE(float)
SIGLIN_INSTANTIATE(double)

}  // namespace siglin
