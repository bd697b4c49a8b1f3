// Thin products: those that are over before a tile is set up, one row, and one step.
#pragma once

#include "tile.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// The same chains one element at a time: for products that are over before a tile is
// set up.
inline constexpr index_t kSmallProduct = 48;

template <class T>
void multiply_small(const Product<T>& q) {
    const index_t b_row = q.b_transposed ? 1 : q.b_step;
    const index_t b_col = q.b_transposed ? q.b_step : 1;
    for (index_t i = 0; i < q.m; ++i) {
        for (index_t j = 0; j < q.n; ++j) {
            T sum = q.bias == nullptr || q.accumulate ? T(0) : q.bias[j];
            const T* a = q.a + i * q.a_row;
            const T* b = q.b + j * b_col;
            for (index_t p = 0; p < q.k; ++p) {
                sum = fma_scalar(a[p * q.a_step], b[p * b_row], sum);
            }
            const index_t at = i * q.c_row + j;
            if (q.accumulate) {
                sum = q.c[at] + sum;
            }
            if (q.w != nullptr) {
                q.w[at] = fma_scalar(-q.lr, sum, q.w[at]);
            } else {
                q.c[at] = sum;
            }
        }
    }
}

// One row: a tile of one row and many vectors, since two chains of multiply-adds would
// wait for each other.
template <class T>
void multiply_row(const Product<T>& q) {
    constexpr int kMostVecs = 8;
    constexpr int L = kLanes<T>;
    static constexpr TileFunction<T> whole[] = {
        tile<T, 1, 1, false>, tile<T, 1, 2, false>, tile<T, 1, 3, false>,
        tile<T, 1, 4, false>, tile<T, 1, 5, false>, tile<T, 1, 6, false>,
        tile<T, 1, 7, false>, tile<T, 1, 8, false>};
    static constexpr TileFunction<T> masked[] = {
        tile<T, 1, 1, true>, tile<T, 1, 2, true>, tile<T, 1, 3, true>,
        tile<T, 1, 4, true>, tile<T, 1, 5, true>, tile<T, 1, 6, true>,
        tile<T, 1, 7, true>, tile<T, 1, 8, true>};
    const index_t blocks = depth_blocks(q.k);
    for (index_t j = 0; j < q.n; j += kMostVecs * L) {
        const index_t cols = q.n - j < kMostVecs * L ? q.n - j : kMostVecs * L;
        const TileFunction<T>* tiles = cols % L == 0 ? whole : masked;
        TileArgs<T> args = {};
        args.a_step = q.a_step;
        args.b_step = q.b_step;
        args.c = advance(q.c, j);
        args.w = advance(q.w, j);
        args.lr = q.lr;
        args.lanes = first_lanes<T>(cols % L);
        for (index_t d = 0; d < blocks; ++d) {
            const index_t p = depth_begin(q.k, d);
            args.k = depth_begin(q.k, d + 1) - p;
            args.a = q.a + p * q.a_step;
            args.b = q.b + p * q.b_step + j;
            args.finish = finish_of(q, d, blocks);
            args.bias = has_bias(q, d) ? q.bias + j : nullptr;
            tiles[(cols + L - 1) / L - 1](args);
        }
    }
}

// One step, an outer product: as fast as c can be read and written. Some columns of all
// rows, then the next, so that their b is loaded once (784 rows of 100, float32, with
// descent: 4.5 us on x86_v4 and 4.2 on x86_v3, row by row 6.0 and 6.4).
template <class T, Finish kFinish>
void multiply_step(index_t m, index_t n, const T* a, index_t a_row, const T* b, T* c,
                   T* w, index_t c_row, index_t w_row, T lr) {
    constexpr bool kAdd = kFinish == Finish::add || kFinish == Finish::add_and_descend;
    constexpr bool kDescend = kFinish >= Finish::descend;
    constexpr int L = kLanes<T>;
    constexpr int kVecs = 8;
    const Vec<T> zero = {};
    const Vec<T> minus_lr = broadcast(-lr);
    for (index_t j = 0; j < n; j += kVecs * L) {
        const index_t cols = n - j < kVecs * L ? n - j : kVecs * L;
        const auto whole = static_cast<int>(cols / L);
        const Lanes<T> lanes = first_lanes<T>(cols % L);
        const bool has_tail = cols % L != 0;
        const bool padded = kDescend && !kAdd && w_row % L == 0;
        Vec<T> right[kVecs];
        for (int v = 0; v < whole; ++v) {
            right[v] = load(b + j + v * L);
        }
        if (has_tail) {
            right[whole] = load(b + j + whole * L, lanes);
        }
        for (index_t i = 0; i < m; ++i) {
            const Vec<T> left = broadcast(a[i * a_row]);
            T* const to_c = advance(c, i * c_row + j);
            T* const to_w = advance(w, i * w_row + j);
            const auto finish = [&](int v, auto which) SIGLIN_LAMBDA_INLINE {
                Vec<T> sum = fma(left, right[v], zero);
                if constexpr (kAdd) {
                    sum = load(to_c + v * L, which) + sum;
                }
                if constexpr (kDescend) {
                    const Vec<T> before = load(to_w + v * L, which);
                    store(to_w + v * L, fma(minus_lr, sum, before), which);
                } else {
                    store(to_c + v * L, sum, which);
                }
            };
            for (int v = 0; v < whole; ++v) {
                finish(v, AllLanes{});
            }
            if (has_tail && padded) {
                finish(whole, AllLanes{});  // the zeros past the end stay
            } else if (has_tail) {
                finish(whole, lanes);
            }
        }
    }
}

template <class T>
void multiply_step(const Product<T>& q) {
    const auto run = [&](auto step) {
        step(q.m, q.n, q.a, q.a_row, q.b, q.c, q.w, q.c_row, q.w_row, q.lr);
    };
    switch (finish_of(q, 0, 1)) {
        case Finish::store:
            run(multiply_step<T, Finish::store>);
            break;
        case Finish::add:
            run(multiply_step<T, Finish::add>);
            break;
        case Finish::descend:
            run(multiply_step<T, Finish::descend>);
            break;
        case Finish::add_and_descend:
            run(multiply_step<T, Finish::add_and_descend>);
            break;
    }
}

// kVecs vectors of columns from j on.
template <class T, int kVecs>
void step_and_forward(const StepAndForwardArgs<T>& args, index_t j, bool has_tail) {
    constexpr int L = kLanes<T>;
    const auto lanes = first_lanes<T>(args.n_out % L);
    const auto each = [&](auto visit) SIGLIN_LAMBDA_INLINE {
#pragma GCC unroll 8
        for (int v = 0; v < kVecs; ++v) {
            if (v == kVecs - 1 && has_tail) {
                visit(v, lanes);
            } else {
                visit(v, AllLanes{});
            }
        }
    };
    const Vec<T> zero = {};
    const Vec<T> minus_lr = broadcast(-args.lr);
    Vec<T> right[kVecs];
    each([&](int v, auto which)
             SIGLIN_LAMBDA_INLINE { right[v] = load(args.dz + j + v * L, which); });
    T* w = args.w + j;
    for (index_t d = 0; d < depth_blocks(args.n_in); ++d) {
        Vec<T> sums[kVecs] = {};
        if (d == 0 && args.b != nullptr) {
            each([&](int v, auto which) SIGLIN_LAMBDA_INLINE {
                sums[v] = load(args.b + j + v * L, which);
            });
        }
        const index_t end = depth_begin(args.n_in, d + 1);
        for (index_t i = depth_begin(args.n_in, d); i < end; ++i, w += args.w_step) {
            const Vec<T> left = broadcast(args.x[i]);
            const Vec<T> next = broadcast(args.next_x[i]);
#pragma GCC unroll 8
            for (int v = 0; v < kVecs; ++v) {
                const Vec<T> change = fma(left, right[v], zero);
                const Vec<T> after = fma(minus_lr, change, load(w + v * L));
                store(w + v * L, after);
                sums[v] = fma(next, after, sums[v]);
            }
        }
        each([&](int v, auto which) SIGLIN_LAMBDA_INLINE {
            T* z = args.next_z + j + v * L;
            store(z, d == 0 ? sums[v] : load(z, which) + sums[v], which);
        });
    }
}

// The same for `vecs` of them, at most kMost.
template <class T, int kMost>
void step_and_forward(const StepAndForwardArgs<T>& args, index_t j, index_t vecs,
                      bool has_tail) {
    if (vecs == kMost) {
        step_and_forward<T, kMost>(args, j, has_tail);
    } else if constexpr (kMost > 1) {
        step_and_forward<T, kMost - 1>(args, j, vecs, has_tail);
    }
}

template <class T>
void step_and_forward(const StepAndForwardArgs<T>& args) {
    constexpr int kMostVecs = kVecBytes == 64 ? 8 : 4;  // of two kinds in registers
    constexpr int L = kLanes<T>;
    for (index_t j = 0; j < args.n_out; j += kMostVecs * L) {
        const index_t left = args.n_out - j;
        const index_t cols = left < kMostVecs * L ? left : kMostVecs * L;
        step_and_forward<T, kMostVecs>(args, j, (cols + L - 1) / L, cols % L != 0);
    }
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
