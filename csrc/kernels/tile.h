// The register tile: some rows by some vectors of c, in twelve accumulators or more.
#pragma once

#include "product.h"

namespace siglin::SIGLIN_TARGET {
namespace {

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

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
