// The one matrix product: c = start + a @ b, sizes m, n, k as in BLAS.
// In a layer m = batch, n = n_out, k = n_in forward; the gradients pass transposes.
//
// Every element of c is, on every path, the same sum: chains of multiply-adds over k in
// order, one for each block of depth (the blocks depend on k alone), the first starting
// from the bias or 0, the others from 0 and added in order. So a row has the same bits
// alone and in any batch, and with any tile, packing or cache block.
//
// The epilogue in registers stores the sums, adds them to c, or descends: w -= lr * c.
// Activations are not part of the epilogue: over whole rows in L1 or L2 their vectors
// are full where n is 1, 3 or 10, and twelve accumulators leave no registers for an
// exponential.
#pragma once
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

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
