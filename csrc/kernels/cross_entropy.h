// Cross-entropy of a softmax: one row with its classes side by side in the lanes, and
// many rows with a row to a lane, which few classes leave no lane empty.
#pragma once

#include "../kernel_table.h"
#include "elementary.h"

namespace siglin::SIGLIN_TARGET {
namespace {

template <class T>
SIGLIN_INLINE T highest(const T* z, index_t n) {
    T max = z[0];
    for (index_t i = 1; i < n; ++i) {
        max = z[i] > max ? z[i] : max;
    }
    return max;
}

// z = exp(z - max) / sum; returns log(sum).
template <class T>
SIGLIN_INLINE double softmax_row(T* z, index_t n, T max) {
    Vec<T> total = {};
    for_each_block<T>(n, [&](index_t i, auto lanes) {
        const Vec<T> e = exp_negative<T>(broadcast(max) - load(z + i, lanes));
        total += keep<T>(e, lanes);
        store(z + i, e, lanes);
    });
    const T denominator = sum<T>(total);
    for_each_block<T>(n, [&](index_t i, auto lanes) {
        store(z + i, load(z + i, lanes) / broadcast(denominator), lanes);
    });
    return __builtin_log(static_cast<double>(denominator));
}

// -t log softmax(z); dz = scale * (softmax(z) sum(t) - t).
template <class T>
SIGLIN_INLINE double cross_entropy_row(T* z, const T* t, index_t n, T scale) {
    const T max = highest(z, n);
    double below_max = 0;
    double mass = 0;
    for (index_t i = 0; i < n; ++i) {
        const double share = static_cast<double>(t[i]);
        mass += share;
        if (share != 0) {  // 0 times -inf is no loss
            below_max += share * (static_cast<double>(max) - static_cast<double>(z[i]));
        }
    }
    const double log_sum = softmax_row<T>(z, n, max);
    for_each_block<T>(n, [&](index_t i, auto lanes) {
        const Vec<T> p = load(z + i, lanes) * broadcast(static_cast<T>(mass));
        store(z + i, broadcast(scale) * (p - load(t + i, lanes)), lanes);
    });
    return mass * log_sum + below_max;
}

// Of more classes a row fills the lanes by itself.
inline constexpr index_t kMostClassesByLanes = 16;

// Row r of `from`, (rows, cols) without gaps, in lane r of to[0 ... cols); lanes beyond
// the rows get the last row.
template <class T>
SIGLIN_INLINE void rows_to_lanes(const T* from, index_t rows, index_t cols,
                                 Vec<T>* to) {
    constexpr int L = kLanes<T>;
    for (index_t j = 0; j < cols; j += L) {
        const index_t left = cols - j < L ? cols - j : L;
        Vec<T> square[L];
#pragma GCC unroll 16
        for (int r = 0; r < L; ++r) {
            const T* row = from + (r < rows ? r : rows - 1) * cols + j;
            if (left == L) {
                square[r] = load(row);
            } else {
                square[r] = load(row, first_lanes<T>(left));
            }
        }
        transpose<T>(square);
        for (index_t c = 0; c < left; ++c) {
            to[j + c] = square[c];
        }
    }
}

template <class T>
SIGLIN_INLINE void lanes_to_rows(const Vec<T>* from, index_t rows, index_t cols,
                                 T* to) {
    constexpr int L = kLanes<T>;
    for (index_t j = 0; j < cols; j += L) {
        const index_t left = cols - j < L ? cols - j : L;
        Vec<T> square[L] = {};
        for (index_t c = 0; c < left; ++c) {
            square[c] = from[j + c];
        }
        transpose<T>(square);
        for (index_t r = 0; r < rows; ++r) {
            if (left == L) {
                store(to + r * cols + j, square[r]);
            } else {
                store(to + r * cols + j, square[r], first_lanes<T>(left));
            }
        }
    }
}

// cross_entropy_row of at most kLanes rows of at most kMostClassesByLanes classes,
// whose losses are in the lanes of the result. scale: of each row.
template <class T>
SIGLIN_INLINE Vec<T> cross_entropy_lanes(T* z, const T* t, index_t rows, index_t cols,
                                         Vec<T> scale) {
    const Vec<T> zero = {};
    Vec<T> of_z[kMostClassesByLanes + kLanes<T>];
    Vec<T> of_t[kMostClassesByLanes + kLanes<T>];
    rows_to_lanes(z, rows, cols, of_z);
    rows_to_lanes(t, rows, cols, of_t);
    Vec<T> max = of_z[0];
    for (index_t c = 1; c < cols; ++c) {
        max = larger<T>(of_z[c], max);
    }
    Vec<T> below_max = zero;
    Vec<T> mass = zero;
    Vec<T> total = zero;
    for (index_t c = 0; c < cols; ++c) {
        const Vec<T> below = max - of_z[c];
        const Vec<T> share = of_t[c];
        mass += share;
        // 0 times -inf is no loss
        below_max += select<T>(share == zero, zero, share * below);
        of_z[c] = exp_negative<T>(below);
        total += of_z[c];
    }
    const Vec<T> factor = mass / total;
    for (index_t c = 0; c < cols; ++c) {
        of_z[c] = scale * fma(of_z[c], factor, -of_t[c]);
    }
    lanes_to_rows(of_z, rows, cols, z);
    return fma(mass, log_from_one<T>(total), below_max);
}

// visit(row, loss) for each row, in order. scale_of(row, lanes): the scales of the rows
// from there on; z becomes dz as in cross_entropy_row.
template <class T, class ScaleOf, class Visit>
SIGLIN_INLINE void for_each_cross_entropy(T* z, const T* t, index_t rows, index_t cols,
                                          ScaleOf scale_of, Visit visit) {
    constexpr int L = kLanes<T>;
    if (rows == 1 || cols > kMostClassesByLanes) {
        for (index_t r = 0; r < rows; ++r) {
            const Vec<T> scale = scale_of(r, first_lanes<T>(1));
            visit(r, cross_entropy_row<T>(z + r * cols, t + r * cols, cols, scale[0]));
        }
        return;
    }
    for (index_t first = 0; first < rows; first += L) {
        const index_t count = rows - first < L ? rows - first : L;
        Vec<T> scale;
        if (count == L) {
            scale = scale_of(first, AllLanes{});
        } else {
            scale = scale_of(first, first_lanes<T>(count));
        }
        T losses[L];
        store(losses, cross_entropy_lanes<T>(z + first * cols, t + first * cols, count,
                                             cols, scale));
        for (index_t r = 0; r < count; ++r) {
            visit(first + r, static_cast<double>(losses[r]));
        }
    }
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
