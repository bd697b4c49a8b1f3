// The one matrix product: c = start + a @ b, sizes m, n, k as in BLAS.
// In a layer m = batch, n = n_out, k = n_in forward; the gradients pass transposes.
//
// Every element of c is, on every path, the same sum: chains of multiply-adds over k in
// order, one for each block of depth (the blocks depend on k alone), the first starting
// from the bias or 0, the others from 0 and added in order. So a row has the same bits
// alone and in any batch, and with any tile, packing or cache block.
//
// The epilogue in registers stores the sums, adds them to c, or descends: w -= lr * c.
// Activations are no epilogue: over whole rows in L1 or L2 their vectors are full where
// n is 1, 3 or 10, and twelve accumulators leave no registers for an exponential.
#pragma once

#include "../kernel_table.h"
#include "../simd/vec.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// A packed panel of b is kDepth * 64 bytes = 24 kB on AVX2, of a 32 kB L1: 1024-cubes
// take 1 to 3 % less than with 256, where c is read and written more often, and no more
// than with 512.
inline constexpr int kTileVecs = 2;
template <class T>
inline constexpr index_t kTileCols = kTileVecs * kLanes<T>;
// Packed blocks: a (kBlockRows, kDepth) for half of a 512 kB L2, b (kDepth, kBlockCols)
// for L3. kBlockRows is a multiple of every kTileRows.
template <class T>
inline constexpr index_t kBlockRows = sizeof(T) == 4 ? 192 : 96;
template <class T>
inline constexpr index_t kBlockCols = sizeof(T) == 4 ? 1024 : 512;

template <class T>
inline constexpr index_t kPackedB = kDepth * kBlockCols<T>;
template <class T>
inline constexpr index_t kPackedA = kDepth * kBlockRows<T>;

template <class T>
struct Product {
    index_t m;
    index_t n;
    index_t k;
    const T* a;  // a[i, p] = a[i * a_row + p * a_step]
    index_t a_row;
    index_t a_step;
    const T* b;  // b[p, j] = b[p * b_step + j], transposed: b[j * b_step + p]
    index_t b_step;
    bool b_transposed;
    T* c;  // c[i, j] = c[i * c_row + j]
    index_t c_row;
    const T* bias = nullptr;    // n, or null
    bool accumulate = false;    // c + a @ b instead of bias + a @ b
    const T* packed = nullptr;  // all of b, packed; b itself is then not read
    // With w, w[i, j] -= lr * (what c would be), at c's place in a matrix like c. c is
    // only written between blocks of depth, and may be null where there is one.
    T* w = nullptr;
    T lr = 0;
    index_t w_row = 0;    // as c_row
    index_t w_panel = 0;  // from one tile of columns to the next

    bool w_is_like_c() const { return w == nullptr || w_row == c_row; }
    bool w_is_in_panels() const { return w != nullptr && w_panel != kTileCols<T>; }
};

// What a tile does with its sums.
enum class Finish : int { store, add, descend, add_and_descend };

// One tile: kRows x kVecs vectors of c, the last vector with `lanes` where kMasked.
template <class T>
struct TileArgs {
    index_t k;
    const T* a;
    index_t a_row;
    index_t a_step;
    const T* b;
    index_t b_step;
    T* c;
    index_t c_row;
    const T* bias;
    Finish finish;
    T* w;
    index_t w_row;
    T lr;
    Lanes<T> lanes;
};

// p + n, or null.
template <class T>
SIGLIN_INLINE T* advance(T* p, index_t n) {
    return p == nullptr ? p : p + n;
}

template <class T, int kRows, int kVecs, bool kMasked>
void tile(const TileArgs<T>& args) {
    constexpr int L = kLanes<T>;
    // Copies: after a store the compiler would read each again.
    const Finish finish = args.finish;
    const Lanes<T> lanes = args.lanes;
    const index_t c_row = args.c_row;
    T* const c = args.c;
    const auto load_vec = [&](const T* p, int v) SIGLIN_LAMBDA_INLINE {
        return kMasked && v == kVecs - 1 ? load(p + v * L, lanes) : load(p + v * L);
    };
    const auto store_vec = [&](T* p, int v, Vec<T> value) SIGLIN_LAMBDA_INLINE {
        if (kMasked && v == kVecs - 1) {
            store(p + v * L, value, lanes);
        } else {
            store(p + v * L, value);
        }
    };
    // The tile's place in a c or w that is not in L2 arrives while the sums are made
    // (1024-cube, float32: 80 % of the peak without, 87 % with).
    T* const to = finish >= Finish::descend ? args.w : c;
    const index_t to_row = finish >= Finish::descend ? args.w_row : c_row;
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
        for (int v = 0; v < kVecs; v += 64 / kVecBytes) {
            __builtin_prefetch(to + i * to_row + v * L, 1);
        }
    }
    Vec<T> acc[kRows][kVecs];
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) {
        Vec<T> start = {};
        if (args.bias != nullptr) {
            start = load_vec(args.bias, v);
        }
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
            acc[i][v] = start;
        }
    }
    const auto step = [&](const T* a, index_t a_row, const T* b) SIGLIN_LAMBDA_INLINE {
        Vec<T> bv[kVecs];
#pragma GCC unroll 16
        for (int v = 0; v < kVecs; ++v) {
            bv[v] = load_vec(b, v);
        }
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
            const Vec<T> ai = broadcast(a[i * a_row]);
#pragma GCC unroll 16
            for (int v = 0; v < kVecs; ++v) {
                acc[i][v] = fma(ai, bv[v], acc[i][v]);
            }
        }
    };
    const T* a = args.a;
    const T* b = args.b;
    index_t left = args.k;
    if constexpr (kRows == kTileRows && kVecs == kTileVecs && !kMasked) {
        if (args.a_row == 1 && args.a_step == kTileRows &&
            args.b_step == kTileCols<T>) {
            // Both packed: distances that the compiler knows cost no registers and no
            // additions, and a lies in L2, b in L2 or L3 (1024-cubes on an Intel Xeon
            // with AVX-512, float32 and float64: 164 and 74 GFLOP/s without, 182 and 87
            // with; of no account on Zen 4, whose products wait for the multiplier).
            constexpr index_t kLine = 64 / sizeof(T);
            constexpr index_t kAheadA = 16 * kTileRows;
            constexpr index_t kAheadB = 8 * kTileCols<T>;
            for (; left >= 2; left -= 2) {
#pragma GCC unroll 16
                for (index_t at = 0; at < 2 * kTileRows; at += kLine) {
                    __builtin_prefetch(a + kAheadA + at);
                }
#pragma GCC unroll 16
                for (index_t at = 0; at < 2 * kTileCols<T>; at += kLine) {
                    __builtin_prefetch(b + kAheadB + at);
                }
                step(a, 1, b);
                step(a + kTileRows, 1, b + kTileCols<T>);
                a += 2 * kTileRows;
                b += 2 * kTileCols<T>;
            }
        }
    }
    for (; left > 0; --left) {
        step(a, args.a_row, b);
        a += args.a_step;
        b += args.b_step;
    }
    const auto for_each_vec = [&](auto visit) SIGLIN_LAMBDA_INLINE {
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
            for (int v = 0; v < kVecs; ++v) {
                visit(i, v, acc[i][v]);
            }
        }
    };
    if (finish == Finish::add || finish == Finish::add_and_descend) {
        for_each_vec([&](int i, int v, Vec<T>& sums) SIGLIN_LAMBDA_INLINE {
            sums = load_vec(c + i * c_row, v) + sums;
        });
    }
    if (finish >= Finish::descend) {
        const Vec<T> minus_lr = broadcast(-args.lr);
        for_each_vec([&](int i, int v, Vec<T>& sums) SIGLIN_LAMBDA_INLINE {
            sums = fma(minus_lr, sums, load_vec(to + i * to_row, v));
        });
    }
    for_each_vec([&](int i, int v, Vec<T>& sums)
                     SIGLIN_LAMBDA_INLINE { store_vec(to + i * to_row, v, sums); });
}

template <class T>
using TileFunction = void (*)(const TileArgs<T>&);

// The tile functions of 1 ... kTileRows rows, by vectors and mask.
template <class T, int kVecs, bool kMasked>
struct TileFunctions {
    TileFunction<T> of_rows[kTileRows];

    template <int kRows>
    constexpr void fill() {
        of_rows[kRows - 1] = tile<T, kRows, kVecs, kMasked>;
        if constexpr (kRows > 1) {
            fill<kRows - 1>();
        }
    }
    constexpr TileFunctions() : of_rows{} { fill<kTileRows>(); }
};

template <class T, int kVecs, bool kMasked>
inline constexpr TileFunctions<T, kVecs, kMasked> kTiles{};

template <class T>
const TileFunction<T>* tiles_for(index_t cols) {
    const bool masked = cols % kLanes<T> != 0;
    if (cols > kLanes<T>) {
        return masked ? kTiles<T, 2, true>.of_rows : kTiles<T, 2, false>.of_rows;
    }
    return masked ? kTiles<T, 1, true>.of_rows : kTiles<T, 1, false>.of_rows;
}

// Panels of kTileCols columns, each (k, kTileCols) row by row, the last filled with
// zeros.
template <class T>
void pack_b(const T* b, index_t step, index_t k, index_t n, T* packed) {
    constexpr index_t W = kTileCols<T>;
    for (index_t j = 0; j < n; j += W, packed += k * W) {
        const index_t cols = n - j < W ? n - j : W;
        for (index_t p = 0; p < k; ++p) {
            const T* from = b + p * step + j;
            T* to = packed + p * W;
            if (cols == W) {
                for (int v = 0; v < kTileVecs; ++v) {
                    store(to + v * kLanes<T>, load(from + v * kLanes<T>));
                }
            } else {
                for (index_t q = 0; q < W; ++q) {
                    to[q] = q < cols ? from[q] : T(0);
                }
            }
        }
    }
}

// The same from b transposed, a square of vectors at a time.
template <class T>
void pack_b_transposed(const T* b, index_t step, index_t k, index_t n, T* packed) {
    constexpr index_t W = kTileCols<T>;
    constexpr int L = kLanes<T>;
    for (index_t j = 0; j < n; j += W, packed += k * W) {
        for (int v = 0; v < kTileVecs; ++v) {
            const index_t first = j + v * L;
            const index_t left = n - first;
            const T* from = b + first * step;
            T* to = packed + v * L;
            index_t p = 0;
            if (left >= L) {
                for (; p + L <= k; p += L) {
                    Vec<T> square[L];
#pragma GCC unroll 16
                    for (int q = 0; q < L; ++q) {
                        square[q] = load(from + q * step + p);
                    }
                    transpose<T>(square);
#pragma GCC unroll 16
                    for (int q = 0; q < L; ++q) {
                        store(to + (p + q) * W, square[q]);
                    }
                }
            }
            for (; p < k; ++p) {
                for (index_t q = 0; q < L; ++q) {
                    to[p * W + q] = q < left ? from[q * step + p] : T(0);
                }
            }
        }
    }
}

// One panel of kTileRows rows, step by step, from rows that are contiguous: squares of
// vectors, transposed.
template <class T>
void pack_rows(const T* from, index_t a_row, index_t k, T* to) {
    constexpr int L = kLanes<T>;
    index_t p = 0;
    for (; p + L <= k; p += L) {
#pragma GCC unroll 16
        for (int first = 0; first < kTileRows; first += L) {
            Vec<T> square[L] = {};
#pragma GCC unroll 16
            for (int q = 0; q < L; ++q) {
                if (first + q < kTileRows) {
                    square[q] = load(from + (first + q) * a_row + p);
                }
            }
            transpose<T>(square);
#pragma GCC unroll 16
            for (int q = 0; q < L; ++q) {
                T* place = to + (p + q) * kTileRows + first;
                if (first + L <= kTileRows) {
                    store(place, square[q]);
                } else {
                    store(place, square[q], first_lanes<T>(kTileRows % L));
                }
            }
        }
    }
    for (; p < k; ++p) {
        for (index_t q = 0; q < kTileRows; ++q) {
            to[p * kTileRows + q] = from[q * a_row + p];
        }
    }
}

// Panels of kTileRows rows, each (k, kTileRows) step by step; rows past m are not read.
template <class T>
void pack_a(const T* a, index_t a_row, index_t a_step, index_t m, index_t k,
            T* packed) {
    index_t i = 0;
    if (a_row == 1) {
        // Along the steps, whose elements touch: their distance may be a power of two,
        // and each panel on its own would find its lines gone from L1.
        const index_t whole = m / kTileRows * kTileRows;
        for (index_t p = 0; p < k; ++p) {
            T* to = packed + p * kTileRows;
            for (index_t q = 0; q < whole; q += kTileRows, to += k * kTileRows) {
                __builtin_memcpy(to, a + p * a_step + q, kTileRows * sizeof(T));
            }
        }
        i = whole;
        packed += whole * k;
    }
    for (; i < m; i += kTileRows, packed += k * kTileRows) {
        const index_t rows = m - i < kTileRows ? m - i : kTileRows;
        const T* from = a + i * a_row;
        if (rows == kTileRows && a_step == 1) {
            pack_rows(from, a_row, k, packed);
        } else {
            for (index_t p = 0; p < k; ++p) {
                for (index_t q = 0; q < rows; ++q) {
                    packed[p * kTileRows + q] = from[p * a_step + q * a_row];
                }
            }
        }
    }
}

// Where the operands of one block of the product are, packed or as they came.
template <class T>
struct Block {
    const T* a;
    index_t a_row;
    index_t a_step;
    index_t a_panel;  // from one tile of rows to the next
    const T* b;
    index_t b_step;
    index_t b_panel;  // from one tile of columns to the next
    index_t w_panel;
};

template <class T>
void multiply_block(const Block<T>& block, const TileArgs<T>& start, index_t m,
                    index_t n) {
    constexpr index_t W = kTileCols<T>;
    TileArgs<T> args = start;
    args.a_row = block.a_row;
    args.a_step = block.a_step;
    args.b = block.b;
    args.b_step = block.b_step;
    T* w = start.w;
    for (index_t j = 0; j < n; j += W) {
        const index_t cols = n - j < W ? n - j : W;
        const TileFunction<T>* tiles = tiles_for<T>(cols);
        args.lanes = first_lanes<T>(cols % kLanes<T>);
        args.a = block.a;
        args.c = advance(start.c, j);
        args.w = w;
        index_t i = 0;
        for (; i + kTileRows <= m; i += kTileRows) {
            tiles[kTileRows - 1](args);
            args.a += block.a_panel;
            args.c = advance(args.c, kTileRows * args.c_row);
            args.w = advance(args.w, kTileRows * args.w_row);
        }
        if (i < m) {
            tiles[m - i - 1](args);
        }
        args.b += block.b_panel;
        w = advance(w, block.w_panel);
        args.bias = args.bias == nullptr ? nullptr : args.bias + W;
    }
}

// What the tiles of block d of the depth do with their sums, and whether they start
// from the bias.
template <class T>
Finish finish_of(const Product<T>& q, index_t d, index_t blocks) {
    const bool add = d > 0 || q.accumulate;
    if (q.w != nullptr && d == blocks - 1) {
        return add ? Finish::add_and_descend : Finish::descend;
    }
    return add ? Finish::add : Finish::store;
}
template <class T>
bool has_bias(const Product<T>& q, index_t d) {
    return q.bias != nullptr && d == 0 && !q.accumulate;
}

// c or w where there is nothing to multiply.
template <class T>
void finish_without_sums(const Product<T>& q) {
    for (index_t i = 0; i < q.m && !q.accumulate && q.w == nullptr; ++i) {
        for (index_t j = 0; j < q.n; ++j) {
            q.c[i * q.c_row + j] = q.bias == nullptr ? T(0) : q.bias[j];
        }
    }
    for (index_t i = 0; i < q.m && q.accumulate && q.w != nullptr; ++i) {
        for (index_t j = 0; j < q.n; ++j) {
            T& w = q.w[i * q.c_row + j];
            w = fma_scalar(-q.lr, q.c[i * q.c_row + j], w);
        }
    }
}

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

// Whether packing b is worth its k n copies: over rows enough where b is more than half
// of L1, or where its rows are far apart and would share cache sets.
template <class T>
bool pack_b_pays(index_t m, index_t n, index_t k) {
    return m >= 4 * kTileRows && k * n * static_cast<index_t>(sizeof(T)) > 16384;
}

// workspace: kPackedB + kPackedA elements, used only where packing pays.
template <class T>
void multiply(const Product<T>& q, T* workspace) {
    constexpr index_t kLimit =
        kSmallProduct;  // of each first: the product might overflow
    if (q.m <= kLimit && q.n <= kLimit && q.k <= kLimit &&
        q.m * q.n * q.k <= kSmallProduct && q.k > 0 && q.packed == nullptr &&
        q.w_is_like_c()) {
        multiply_small(q);
        return;
    }
    if (q.k == 0) {
        finish_without_sums(q);
    }
    if (q.m == 0 || q.n == 0 || q.k == 0) {
        return;
    }
    constexpr index_t W = kTileCols<T>;
    const index_t blocks = depth_blocks(q.k);
    const bool transposed = q.b_transposed && !(q.k == 1 && q.b_step == 1);
    if (q.packed == nullptr && !transposed && !q.w_is_in_panels()) {
        if (q.k == 1 && q.bias == nullptr) {
            multiply_step(q);
            return;
        }
        if (q.m == 1) {
            multiply_row(q);
            return;
        }
    }
    const bool packs_b =
        q.packed == nullptr && (transposed || pack_b_pays<T>(q.m, q.n, q.k));
    // Packing a pays where it is read again for many columns (float32, 784 x 128 and
    // 784 x 512 outputs: 3 % lost, 4 to 10 % gained).
    const bool packs_a = q.k > 32 && q.n > 384;
    T* packed_b = workspace;
    T* packed_a = workspace + kPackedB<T>;
    const index_t block_rows = packs_a ? kBlockRows<T> : q.m;
    const index_t block_cols = packs_b || q.packed != nullptr ? kBlockCols<T> : q.n;
    const index_t padded_cols = (q.n + W - 1) / W * W;
    for (index_t j = 0; j < q.n; j += block_cols) {
        const index_t n = q.n - j < block_cols ? q.n - j : block_cols;
        for (index_t d = 0; d < blocks; ++d) {
            const index_t p = depth_begin(q.k, d);
            const index_t k = depth_begin(q.k, d + 1) - p;
            Block<T> block = {
                q.a + p * q.a_step,     q.a_row,  q.a_step, kTileRows * q.a_row,
                q.b + p * q.b_step + j, q.b_step, W,        q.w_panel};
            if (q.packed != nullptr) {
                block.b = q.packed + p * padded_cols + j * k;
            } else if (packs_b && transposed) {
                pack_b_transposed(q.b + j * q.b_step + p, q.b_step, k, n, packed_b);
                block.b = packed_b;
            } else if (packs_b) {
                pack_b(block.b, q.b_step, k, n, packed_b);
                block.b = packed_b;
            }
            if (packs_b || q.packed != nullptr) {
                block.b_step = W;
                block.b_panel = k * W;
            }
            TileArgs<T> args = {};
            args.k = k;
            args.c_row = q.c_row;
            args.bias = has_bias(q, d) ? q.bias + j : nullptr;
            args.finish = finish_of(q, d, blocks);
            args.w_row = q.w_row;
            args.lr = q.lr;
            for (index_t i = 0; i < q.m; i += block_rows) {
                const index_t m = q.m - i < block_rows ? q.m - i : block_rows;
                Block<T> part = block;
                part.a = block.a + i * q.a_row;
                if (packs_a) {
                    pack_a(part.a, q.a_row, q.a_step, m, k, packed_a);
                    part.a = packed_a;
                    part.a_row = 1;
                    part.a_step = kTileRows;
                    part.a_panel = k * kTileRows;
                }
                args.c = advance(q.c, i * q.c_row + j);
                args.w = advance(q.w, i * q.w_row + j / W * q.w_panel);
                multiply_block(part, args, m, n);
            }
        }
    }
}

// Packs the panels [begin, end) of all of b, every block of depth, as Product::packed
// wants it.
template <class T>
void pack_panels(const PackArgs<T>& args) {
    constexpr index_t W = kTileCols<T>;
    const index_t padded_cols = (args.n + W - 1) / W * W;
    const index_t j = args.begin * W;
    const index_t last = args.end * W < args.n ? args.end * W : args.n;
    for (index_t d = 0; d < depth_blocks(args.k); ++d) {
        const index_t p = depth_begin(args.k, d);
        const index_t k = depth_begin(args.k, d + 1) - p;
        T* to = args.packed + p * padded_cols + j * k;
        if (args.transposed) {
            pack_b_transposed(args.b + j * args.step + p, args.step, k, last - j, to);
        } else {
            pack_b(args.b + p * args.step + j, args.step, k, last - j, to);
        }
    }
}

template <class T>
void unpack_panels(const UnpackArgs<T>& args) {
    constexpr index_t W = kTileCols<T>;
    const index_t n = args.n_out;
    const T* from = args.packed;
    for (index_t d = 0; d < depth_blocks(args.n_in); ++d) {
        const index_t end = depth_begin(args.n_in, d + 1);
        for (index_t j = 0; j < n; j += W) {
            const index_t cols = n - j < W ? n - j : W;
            for (index_t i = depth_begin(args.n_in, d); i < end; ++i, from += W) {
                T* to = args.w + i * n + j;
                // (A copy of so many bytes as cols says is slow to start.)
                for_each_block<T>(cols,
                                  [&](index_t q, auto lanes) SIGLIN_LAMBDA_INLINE {
                                      store(to + q, load(from + q, lanes), lanes);
                                  });
            }
        }
    }
}

template <class T>
void transpose_panels(const TransposeArgs<T>& args) {
    constexpr index_t W = kTileCols<T>;
    const index_t padded_out = (args.n_out + W - 1) / W * W;
    const index_t padded_in = (args.n_in + W - 1) / W * W;
    for (index_t first = args.begin * W; first < args.end * W; first += W) {
        // A panel of inputs lies in one block of depth of w, as W divides the unit.
        index_t d = 0;
        while (depth_begin(args.n_in, d + 1) <= first) {
            ++d;
        }
        const index_t begin = depth_begin(args.n_in, d);
        const index_t rows = depth_begin(args.n_in, d + 1) - begin;
        const index_t inputs = args.n_in - first < W ? args.n_in - first : W;
        for (index_t block = 0; block < depth_blocks(args.n_out); ++block) {
            const index_t p = depth_begin(args.n_out, block);
            const index_t k = depth_begin(args.n_out, block + 1) - p;
            T* to = args.transposed + p * padded_in + first * k;
            for (index_t q = 0; q < k; q += W) {  // panel by panel of w
                const T* from = args.packed + begin * padded_out + (p + q) * rows +
                                (first - begin) * W;
                pack_b_transposed(from, W, k - q < W ? k - q : W, inputs, to + q * W);
            }
        }
    }
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
