// A whole product, in blocks for the caches: contracts and bits in product.h.
#pragma once

#include "pack.h"
#include "thin.h"
#include "tile.h"

namespace siglin::SIGLIN_TARGET {
namespace {

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

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
