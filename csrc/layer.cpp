#include "layer.h"

#include <algorithm>
#include <cmath>

#include "blocks.h"
#include "buffer.h"
#include "dispatch.h"
#include "elements.h"
#include "packed_operand.h"

namespace siglin {
namespace {

template <class T>
MatrixView<T> rows_of(const MatrixView<T>& v, index_t begin, index_t rows) {
    return {v.data + begin * v.stride, rows, v.cols, v.stride};
}

// Of a view whose data may be null.
template <class T>
MatrixView<T> columns_of(const MatrixView<T>& v, index_t begin, index_t cols) {
    return {v.data == nullptr ? v.data : v.data + begin, v.rows, cols, v.stride};
}

// The rows of a product that are made together. On one thread a block of a few hundred
// kilobytes of results is activated while it is in L2; several threads get four blocks
// each, if a block is worth handing over, so that one who is held up holds up little.
template <class T>
index_t rows_of_block(const Kernels<T>& kernels, index_t rows, double work) {
    constexpr index_t kMost = 192;  // kBlockRows of gemm.h
    if (!shares_rows(work)) {
        return rows <= kMost + kMost / 2 ? rows : kMost;
    }
    const double most_blocks = std::min(4.0 * num_threads(), work / kLeastWork);
    const auto even = static_cast<index_t>(static_cast<double>(rows) / most_blocks) + 1;
    const index_t tiles = (even + kernels.tile_rows - 1) / kernels.tile_rows;
    return std::min({tiles * kernels.tile_rows, kMost, std::max<index_t>(rows, 1)});
}

// What a block, which nothing can interrupt, takes at most, if it can be cut.
constexpr double kMostOfBlock = 2 * kMostBetweenCalls;

// How many of the `block` rows take less than kMostOfBlock together, in whole tiles
// where that is one or more. time: of a row.
index_t rows_between_calls(index_t block, double time, index_t tile) {
    const double most = kMostOfBlock / std::max(time, 1.0);
    if (most >= static_cast<double>(block)) {
        return block;
    }
    const auto rows = std::max(static_cast<index_t>(most), index_t{1});
    return rows < tile ? rows : rows / tile * tile;
}

// The columns of a product's right operand (k, n) that are worked on together where
// progress is asked for: fewer than all where a block of rows would take too long. With
// fewer rows instead, the operand would be read from memory too often (256 rows of
// 1800 x 1800, float32, one thread: 1.18 times the time).
template <class T>
index_t columns_between_calls(const Kernels<T>& kernels, index_t block, index_t k,
                              index_t n) {
    const double each =
        static_cast<double>(k) * time_of<T>(static_cast<double>(block), 1);
    const double pieces = static_cast<double>(n) * each / kMostOfBlock;
    if (pieces <= 1) {
        return n;
    }
    const auto cols = static_cast<index_t>(static_cast<double>(n) / std::ceil(pieces));
    return (cols / kernels.tile_cols + 1) * kernels.tile_cols;
}

// dw = x.T @ dz, or added to dw, with a call of progress after each `together` blocks
// of depth: the bits of one product, which goes from block to block as well.
template <class T>
void weight_gradient_in_pieces(MatrixView<const T> x, MatrixView<const T> dz, T* dw,
                               bool accumulate, index_t together,
                               const Progress& progress) {
    const auto& kernels = kernel_table().kernels<T>();
    const index_t n_in = x.cols;
    const index_t n_out = dz.cols;
    const index_t depths = depth_blocks(x.rows);
    for (index_t first = 0; first < depths; first += together) {
        const index_t last = std::min(first + together, depths);
        const index_t top = depth_begin(x.rows, first);
        const index_t depth = depth_begin(x.rows, last) - top;
        const double work = area(n_in, n_out) * static_cast<double>(depth);
        const double touched =
            area(n_in, n_out) + area(depth, n_in) + area(depth, n_out);
        const double time = time_of<T>(work, touched);
        const index_t block =
            rows_between_calls(rows_of_block(kernels, n_in, work),
                               time / static_cast<double>(n_in), kernels.tile_rows);
        PackedOperand<T> packed;
        if (block < n_in) {
            packed.pack_depths(dz, x.rows, first, last, n_in);
        }
        share_rows(
            n_in, block, work, time, &progress, [&](index_t begin, index_t rows) {
                for (index_t d = first; d < last; ++d) {
                    const index_t p = depth_begin(x.rows, d);
                    const index_t k = depth_begin(x.rows, d + 1) - p;
                    kernels.weight_gradient(
                        {{x.data + p * x.stride + begin, k, rows, x.stride},
                         rows_of(dz, p, k),
                         dw + begin * n_out,
                         accumulate || d > 0,
                         thread_workspace<T>(),
                         packed.data() == nullptr
                             ? nullptr
                             : packed.data() + (p - top) * packed_size<T>(1, n_out)});
                }
            });
    }
}

}  // namespace

template <class T>
void layer_forward(MatrixView<const T> x, MatrixView<const T> w, const T* b,
                   Activation activation, MatrixView<T> a, MatrixView<T> derivative,
                   const Progress* progress, const T* packed_w) {
    const auto& kernels = kernel_table().kernels<T>();
    if (a.rows == 0 || a.cols == 0) {
        return;
    }
    const double each = activation_cost<T>(activation) + static_cast<double>(x.cols);
    const double work = area(a.rows, a.cols) * each;
    index_t block = rows_of_block(kernels, a.rows, work);
    const bool cuts = progress != nullptr && packed_w == nullptr;
    if (cuts) {
        const index_t most = columns_between_calls(kernels, block, x.cols, a.cols);
        if (most < a.cols) {
            for (index_t j = 0; j < a.cols; j += most) {
                const index_t n = std::min(most, a.cols - j);
                layer_forward<T>(x, columns_of(w, j, n), b == nullptr ? b : b + j,
                                 activation, columns_of(a, j, n),
                                 columns_of(derivative, j, n), progress, nullptr);
            }
            return;
        }
    }
    const double time =
        time_of<T>(work, area(a.rows, x.cols) + 2 * area(a.rows, a.cols));
    if (cuts) {
        block = rows_between_calls(block, time / static_cast<double>(a.rows),
                                   kernels.tile_rows);
    }
    PackedOperand<T> packed;
    if (packed_w == nullptr && block < a.rows) {
        packed.pack(w.data, w.stride, false, x.cols, a.cols, a.rows);
    }
    share_rows(a.rows, block, work, time, progress, [&](index_t begin, index_t rows) {
        T* d = derivative.data;
        kernels.forward({rows_of(x, begin, rows),
                         w,
                         b,
                         activation,
                         rows_of(a, begin, rows),
                         {d == nullptr ? d : d + begin * derivative.stride, rows,
                          derivative.cols, derivative.stride},
                         thread_workspace<T>(),
                         packed_w != nullptr ? packed_w : packed.data()});
    });
}

template <class T>
void layer_input_gradient(MatrixView<const T> dz, MatrixView<const T> w,
                          MatrixView<T> dx, const T* factor, bool factor_is_relu,
                          const Progress* progress, const T* packed_w) {
    const auto& kernels = kernel_table().kernels<T>();
    if (dx.rows == 0 || dx.cols == 0) {
        return;
    }
    const double work = area(dx.rows, dx.cols) * static_cast<double>(dz.cols + 1);
    index_t block = rows_of_block(kernels, dx.rows, work);
    // A factor goes over whole rows.
    const bool cuts = progress != nullptr && packed_w == nullptr && factor == nullptr;
    if (cuts) {
        const index_t most = columns_between_calls(kernels, block, dz.cols, dx.cols);
        if (most < dx.cols) {
            for (index_t j = 0; j < dx.cols; j += most) {
                const index_t n = std::min(most, dx.cols - j);
                layer_input_gradient<T>(dz, rows_of(w, j, n), columns_of(dx, j, n),
                                        factor, factor_is_relu, progress, nullptr);
            }
            return;
        }
    }
    const double time =
        time_of<T>(work, area(dx.rows, dx.cols) + area(dz.rows, dz.cols));
    if (cuts) {
        block = rows_between_calls(block, time / static_cast<double>(dx.rows),
                                   kernels.tile_rows);
    }
    PackedOperand<T> packed;
    if (packed_w != nullptr) {
        packed.transpose(packed_w, dx.cols, dz.cols);
    } else if (block < dx.rows) {
        packed.pack(w.data, w.stride, true, dz.cols, dx.cols, dx.rows);
    }
    share_rows(dx.rows, block, work, time, progress, [&](index_t begin, index_t rows) {
        kernels.input_gradient({rows_of(dz, begin, rows), w, rows_of(dx, begin, rows),
                                factor == nullptr ? factor : factor + begin * dx.stride,
                                thread_workspace<T>(), packed.data(), factor_is_relu});
    });
}

template <class T>
void layer_weight_gradient(MatrixView<const T> x, MatrixView<const T> dz, T* dw,
                           bool accumulate, MatrixView<T> w, T lr,
                           const Progress* progress, T* packed_w) {
    const auto& kernels = kernel_table().kernels<T>();
    const index_t n_in = x.cols;
    const index_t n_out = dz.cols;
    if (n_in == 0 || n_out == 0) {
        return;
    }
    const double work = area(n_in, n_out) * static_cast<double>(x.rows + 1);
    const double time =
        time_of<T>(work, area(n_in, n_out) + area(x.rows, n_in + n_out));
    index_t block = rows_of_block(kernels, n_in, work);
    if (progress != nullptr && packed_w == nullptr && w.data == nullptr) {
        const double each = time / static_cast<double>(n_in);
        const index_t depths = depth_blocks(x.rows);
        if (depths > 1 && each * static_cast<double>(block) > kMostOfBlock) {
            const double most =
                kMostBetweenCalls * num_threads() * static_cast<double>(depths) / time;
            weight_gradient_in_pieces(
                x, dz, dw, accumulate,
                std::clamp(static_cast<index_t>(most), index_t{1}, depths), *progress);
            return;
        }
        block = rows_between_calls(block, each, kernels.tile_rows);
    }
    PackedOperand<T> packed;
    if (block < n_in || packed_w != nullptr) {
        packed.pack(dz.data, dz.stride, false, x.rows, n_out, n_in);
    }
    const index_t step = kernels.tile_cols;
    const auto args_at = [&](index_t begin, index_t rows) -> WeightGradientArgs<T> {
        return {{x.data + begin, x.rows, rows, x.stride},
                dz,
                dw == nullptr ? dw : dw + begin * n_out,
                accumulate,
                thread_workspace<T>(),
                packed.data(),
                w.data == nullptr ? w.data : w.data + begin * w.stride,
                lr,
                w.stride,
                step};
    };
    if (packed_w == nullptr) {
        share_rows(n_in, block, work, time, progress, [&](index_t begin, index_t rows) {
            kernels.weight_gradient(args_at(begin, rows));
        });
        return;
    }
    // In each block of depth of w pieces of their own, all about as large.
    const index_t depths = depth_blocks(n_in);
    const index_t depth = depth_begin(n_in, 1);
    const index_t least = (depth + block - 1) / block;
    index_t pieces = least;
    while (depths * pieces % num_threads() != 0 && pieces < 2 * least) {
        ++pieces;  // as many for each thread
    }
    const index_t piece = (depth / kernels.tile_rows + pieces - 1) / pieces;
    parallel_for(depths * pieces, work, [&](index_t i) {
        const index_t first = depth_begin(n_in, i / pieces);
        const index_t last = depth_begin(n_in, i / pieces + 1);
        const index_t begin = first + i % pieces * piece * kernels.tile_rows;
        const index_t end = i % pieces == pieces - 1
                                ? last
                                : std::min(last, begin + piece * kernels.tile_rows);
        if (begin >= end) {
            return;
        }
        WeightGradientArgs<T> args = args_at(begin, end - begin);
        args.w = packed_w + first * packed_size<T>(1, n_out) + (begin - first) * step;
        args.w_step = step;
        args.w_panel = (last - first) * step;
        kernels.weight_gradient(args);
    });
}

template <class T>
void layer_backward(MatrixView<const T> x, MatrixView<const T> w, const T* dz,
                    MatrixView<T> dx, T* dw, T* db, const Progress* progress) {
    const MatrixView<const T> dz_view = {dz, x.rows, w.cols, w.cols};
    if (dx.data != nullptr) {
        layer_input_gradient<T>(dz_view, w, dx, nullptr, false, progress);
    }
    layer_weight_gradient<T>(x, dz_view, dw, false, {}, T(0), progress);
    if (db != nullptr) {
        sum_rows<T>(dz_view, db, progress);
    }
}

#define SIGLIN_INSTANTIATE(T)                                                          \
    template void layer_forward<T>(MatrixView<const T>, MatrixView<const T>, const T*, \
                                   Activation, MatrixView<T>, MatrixView<T>,           \
                                   const Progress*, const T*);                         \
    template void layer_input_gradient<T>(MatrixView<const T>, MatrixView<const T>,    \
                                          MatrixView<T>, const T*, bool,               \
                                          const Progress*, const T*);                  \
    template void layer_weight_gradient<T>(MatrixView<const T>, MatrixView<const T>,   \
                                           T*, bool, MatrixView<T>, T,                 \
                                           const Progress*, T*);                       \
    template void layer_backward<T>(MatrixView<const T>, MatrixView<const T>,          \
                                    const T*, MatrixView<T>, T*, T*, const Progress*);

SIGLIN_INSTANTIATE(float)
SIGLIN_INSTANTIATE(double)

}  // namespace siglin
