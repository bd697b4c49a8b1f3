// The one matrix product: c = start + a @ b, sizes m, n, k as in BLAS.
// In a layer m = batch, n = n_out, k = n_in forward; the gradients pass transposes.
//
// Every element of c is, on every path, the same sum: chains of multiply-adds over k in
// order, one for each block of depth (the blocks depend on k alone), the first starting
// from the bias or 0, the others from 0 and added in order. So a row has the same bits
// alone and in any batch, and with any tile, packing or cache block.
//
// c is updated block by block in memory rather than in an epilogue in registers: an
// activation over a whole block in L1 or L2 keeps all its vectors full where n is 1, 3
// or 10, and twelve accumulators leave no registers for an exponential.
#pragma once

#include "../kernel_table.h"
#include "../simd/vec.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// kDepth: a packed panel of b is 256 * 64 bytes = 16 kB on AVX2, half of a 32 kB L1.
inline constexpr index_t kDepth = 256;
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
    const T* bias;    // n, or null
    bool accumulate;  // c + a @ b instead of bias + a @ b
};

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
    bool add;
    Lanes<T> lanes;
};

template <class T, int kRows, int kVecs, bool kMasked>
void tile(const TileArgs<T>& args) {
    constexpr int L = kLanes<T>;
    const auto load_vec = [&](const T* p, int v) SIGLIN_LAMBDA_INLINE {
        return kMasked && v == kVecs - 1 ? load(p + v * L, args.lanes)
                                         : load(p + v * L);
    };
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
    const T* a = args.a;
    const T* b = args.b;
    const index_t a_row = args.a_row;
    const index_t a_step = args.a_step;
    const index_t b_step = args.b_step;
    for (index_t p = args.k; p > 0; --p) {
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
        a += a_step;
        b += b_step;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
        for (int v = 0; v < kVecs; ++v) {
            T* c = args.c + i * args.c_row;
            Vec<T> value = acc[i][v];
            if (args.add) {
                value = load_vec(c, v) + value;
            }
            if (kMasked && v == kVecs - 1) {
                store(c + v * L, value, args.lanes);
            } else {
                store(c + v * L, value);
            }
        }
    }
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

// The same from b transposed. A vector of the panel is gathered lane by lane and stored
// whole; going along the rows of b instead would store lane by lane.
template <class T>
void pack_b_transposed(const T* b, index_t step, index_t k, index_t n, T* packed) {
    constexpr index_t W = kTileCols<T>;
    for (index_t j = 0; j < n; j += W, packed += k * W) {
        for (int v = 0; v < kTileVecs; ++v) {
            const index_t first = j + v * kLanes<T>;
            const index_t lanes = n - first < kLanes<T> ? n - first : kLanes<T>;
            T* to = packed + v * kLanes<T>;
            if (lanes == kLanes<T>) {
                const T* from = b + first * step;
                for (index_t p = 0; p < k; ++p) {
                    Vec<T> column;
#pragma GCC unroll 16
                    for (int q = 0; q < kLanes<T>; ++q) {
                        column[q] = from[q * step + p];
                    }
                    store(to + p * W, column);
                }
                continue;
            }
            for (index_t p = 0; p < k; ++p) {
                for (index_t q = 0; q < kLanes<T>; ++q) {
                    to[p * W + q] = q < lanes ? b[(first + q) * step + p] : T(0);
                }
            }
        }
    }
}

// Panels of kTileRows rows, each (k, kTileRows) step by step; rows past m are not read.
template <class T>
void pack_a(const T* a, index_t a_row, index_t a_step, index_t m, index_t k,
            T* packed) {
    for (index_t i = 0; i < m; i += kTileRows, packed += k * kTileRows) {
        const index_t rows = m - i < kTileRows ? m - i : kTileRows;
        const T* from = a + i * a_row;
        if (rows == kTileRows) {
            for (index_t p = 0; p < k; ++p) {
#pragma GCC unroll 16
                for (index_t q = 0; q < kTileRows; ++q) {
                    packed[p * kTileRows + q] = from[p * a_step + q * a_row];
                }
            }
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
};

template <class T>
void multiply_block(const Block<T>& block, index_t m, index_t n, index_t k, T* c,
                    index_t c_row, const T* bias, bool add) {
    constexpr index_t W = kTileCols<T>;
    TileArgs<T> args = {k,       nullptr,      block.a_row,      block.a_step,
                        block.b, block.b_step, nullptr,          c_row,
                        bias,    add,          first_lanes<T>(0)};
    for (index_t j = 0; j < n; j += W) {
        const index_t cols = n - j < W ? n - j : W;
        const TileFunction<T>* tiles = tiles_for<T>(cols);
        args.lanes = first_lanes<T>(cols % kLanes<T>);
        args.a = block.a;
        args.c = c + j;
        index_t i = 0;
        for (; i + kTileRows <= m; i += kTileRows) {
            tiles[kTileRows - 1](args);
            args.a += block.a_panel;
            args.c += kTileRows * c_row;
        }
        if (i < m) {
            tiles[m - i - 1](args);
        }
        args.b += block.b_panel;
        args.bias = bias == nullptr ? nullptr : args.bias + W;
    }
}

template <class T>
void fill_rows(const Product<T>& q) {
    for (index_t i = 0; i < q.m; ++i) {
        for (index_t j = 0; j < q.n; ++j) {
            q.c[i * q.c_row + j] = q.bias == nullptr ? T(0) : q.bias[j];
        }
    }
}

// The same chains one element at a time: for products that are over before a tile is
// set up. A 2-3-1 step on one row is 21 multiply-adds.
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
            T& c = q.c[i * q.c_row + j];
            c = q.accumulate ? c + sum : sum;
        }
    }
}

// workspace: kPackedB + kPackedA elements, used only where packing pays.
template <class T>
void multiply(const Product<T>& q, T* workspace) {
    constexpr index_t kLimit =
        kSmallProduct;  // of each first: the product might overflow
    if (q.m <= kLimit && q.n <= kLimit && q.k <= kLimit &&
        q.m * q.n * q.k <= kSmallProduct && q.k > 0) {
        multiply_small(q);
        return;
    }
    if (q.k == 0 && !q.accumulate) {
        fill_rows(q);
    }
    if (q.m == 0 || q.n == 0 || q.k == 0) {
        return;
    }
    constexpr index_t W = kTileCols<T>;
    const index_t depth_blocks = (q.k + kDepth - 1) / kDepth;
    const bool transposed = q.b_transposed && !(q.k == 1 && q.b_step == 1);
    // Packing b costs k n copies, repaid over the rows: from 4 tiles on where b is more
    // than half of L1, or where its rows are far apart and would share cache sets.
    const bool pack_b_pays =
        q.m >= 4 * kTileRows && q.k * q.n * static_cast<index_t>(sizeof(T)) > 16384;
    const bool packs_b = transposed || pack_b_pays;
    // Packing a pays where it is read again for many columns: soon if its steps are far
    // apart (a transpose), later if they touch.
    const bool packs_a = q.k > 32 && q.n > (q.a_step == 1 ? 8 : 3) * W;
    T* packed_b = workspace;
    T* packed_a = workspace + kPackedB<T>;
    const index_t block_rows = packs_a ? kBlockRows<T> : q.m;
    const index_t block_cols = packs_b ? kBlockCols<T> : q.n;
    for (index_t j = 0; j < q.n; j += block_cols) {
        const index_t n = q.n - j < block_cols ? q.n - j : block_cols;
        index_t p = 0;
        for (index_t d = 0; d < depth_blocks; ++d) {
            const index_t end = q.k * (d + 1) / depth_blocks;
            const index_t k = end - p;
            Block<T> block = {
                q.a + p * q.a_step,     q.a_row,  q.a_step, kTileRows * q.a_row,
                q.b + p * q.b_step + j, q.b_step, W};
            if (packs_b) {
                if (transposed) {
                    pack_b_transposed(q.b + j * q.b_step + p, q.b_step, k, n, packed_b);
                } else {
                    pack_b(block.b, q.b_step, k, n, packed_b);
                }
                block.b = packed_b;
                block.b_step = W;
                block.b_panel = k * W;
            }
            const bool first = d == 0 && !q.accumulate;
            const T* bias = first && q.bias != nullptr ? q.bias + j : nullptr;
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
                multiply_block(part, m, n, k, q.c + i * q.c_row + j, q.c_row, bias,
                               !first);
            }
            p = end;
        }
    }
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
