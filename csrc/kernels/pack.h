// Packing: operands copied into panels that a tile reads one after the other.
#pragma once

#include "product.h"

namespace siglin::SIGLIN_TARGET {
namespace {

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
