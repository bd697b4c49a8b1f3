// Products of rows in compressed sparse row form: each value meets one row of w.
#pragma once

#include "../kernel_table.h"
#include "../simd/vec.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// So many values ahead, the row of w that is wanted is asked for: rows come from
// anywhere in memory.
inline constexpr index_t kSparseAhead = 8;

// Of each row kVecs vectors of z, from column j on; lanes: of the last one.
template <class T, int kVecs, class Last>
void sparse_forward_columns(const SparseForwardArgs<T>& args, index_t j, Last lanes) {
    constexpr int L = kLanes<T>;
    const auto each = [&](auto visit) SIGLIN_LAMBDA_INLINE {
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) {
            if (v + 1 < kVecs) {
                visit(v, AllLanes{});
            } else {
                visit(v, lanes);
            }
        }
    };
    for (index_t i = 0; i < args.rows; ++i) {
        const index_t row = args.order == nullptr ? i : args.order[i];
        const index_t end = args.x.starts[row + 1];
        Vec<T> sums[kVecs] = {};
        if (args.b != nullptr) {
            each([&](int v, auto which) SIGLIN_LAMBDA_INLINE {
                sums[v] = load(args.b + j + v * L, which);
            });
        }
        for (index_t p = args.x.starts[row]; p < end; ++p) {
            if (p + kSparseAhead < end) {
                const index_t next = args.x.columns[p + kSparseAhead];
                __builtin_prefetch(args.w.data + next * args.w.stride + j);
            }
            const Vec<T> value = broadcast(args.x.values[p]);
            const T* w = args.w.data + args.x.columns[p] * args.w.stride + j;
            each([&](int v, auto which) SIGLIN_LAMBDA_INLINE {
                sums[v] = fma(value, load(w + v * L, which), sums[v]);
            });
        }
        T* z = args.z + i * args.w.cols + j;
        each([&](int v, auto which)
                 SIGLIN_LAMBDA_INLINE { store(z + v * L, sums[v], which); });
    }
}

// The contract is SparseForwardArgs'.
template <class T>
void sparse_forward(const SparseForwardArgs<T>& args) {
    constexpr int L = kLanes<T>;
    const index_t n = args.w.cols;
    index_t j = 0;
    for (; j + 4 * L <= n; j += 4 * L) {
        sparse_forward_columns<T, 4>(args, j, AllLanes{});
    }
    for (; j + L <= n; j += L) {
        sparse_forward_columns<T, 1>(args, j, AllLanes{});
    }
    if (j < n) {
        sparse_forward_columns<T, 1>(args, j, first_lanes<T>(n - j));
    }
}

// The contract is SparseGradientArgs'.
template <class T>
void sparse_weight_gradient(const SparseGradientArgs<T>& args) {
    const Vec<T> scale = broadcast(args.scale);
    for (index_t i = 0; i < args.rows; ++i) {
        const index_t row = args.order == nullptr ? i : args.order[i];
        const T* dz = args.dz + i * args.n_out;
        const index_t last = args.x.starts[row + 1];
        for (index_t p = args.x.starts[row]; p < last; ++p) {
            if (p + kSparseAhead < last) {
                const index_t next = args.x.columns[p + kSparseAhead];
                __builtin_prefetch(args.dw + next * args.n_out, 1);
            }
            const index_t column = args.x.columns[p];
            if (column < args.begin || column >= args.end) {
                continue;
            }
            const Vec<T> value = broadcast(args.x.values[p]);
            T* dw = args.dw + column * args.n_out;
            for_each_block<T>(
                args.n_out, [&](index_t j, auto lanes) SIGLIN_LAMBDA_INLINE {
                    const Vec<T> step = scale * load(dz + j, lanes);
                    store(dw + j, fma(value, step, load(dw + j, lanes)), lanes);
                });
        }
    }
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
