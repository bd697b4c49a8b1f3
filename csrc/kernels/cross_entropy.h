// Cross-entropy of a softmax: one row with its classes side by side in the lanes, and
// many rows with a row to a lane, which few classes leave no lane empty.
#pragma once

#include "../kernel_table.h"
#include "elementary.h"

namespace siglin::SIGLIN_TARGET {
namespace {

template <class T>
inline constexpr T kInfinity = static_cast<T>(__builtin_inf());

// Where one logit of a row is infinite and the others are numbers, softmax is that of
// its limit: the infinite logit becomes 0 and the others -infinity. The softmax of any
// other row with an infinite logit is NaN, as it comes.
template <class T>
SIGLIN_NOT_INLINE T settle_infinite(T* z, index_t n) {
    index_t infinite = 0;
    index_t numbers = 0;
    for (index_t i = 0; i < n; ++i) {
        infinite += z[i] == kInfinity<T> ? 1 : 0;
        numbers += z[i] == z[i] ? 1 : 0;
    }
    if (infinite > 1 || numbers < n) {
        return kInfinity<T>;
    }
    for (index_t i = 0; i < n; ++i) {
        z[i] = z[i] == kInfinity<T> ? T(0) : -kInfinity<T>;
    }
    return T(0);
}

// The highest logit of a row, whose infinite ones are settled.
template <class T>
SIGLIN_INLINE T highest(T* z, index_t n) {
    T max = z[0];
    for (index_t i = 1; i < n; ++i) {
        max = z[i] > max ? z[i] : max;
    }
    return max == kInfinity<T> ? settle_infinite(z, n) : max;
}

// A row's softmax is e / total, where e = exp(z - max) is 1 for the highest logit.
// Where nearly all of the total is that 1, softmax is 1 in floating point, and
// log(total) and softmax - t would be 0 where t is 1: they keep their digits if they
// are computed from the rest of the total, the sum of the other e, as log(1 + rest) and
// 1 - rest / total.
template <class T>
struct SoftmaxRest {
    Vec<T> rest;  // total - 1
    Vec<T> sure;  // the e, 1, of a class with most of the total; where there is none, 2
};

// below_one: the sum of the e below 1. With a second 1, total - 1 has all its digits.
template <class T>
SIGLIN_INLINE SoftmaxRest<T> softmax_rest(Vec<T> below_one, Vec<T> total) {
    const Vec<T> one = broadcast(T(1));
    const Vec<T> difference = total - one;
    const auto unsure = difference > broadcast(T(0.5));
    return {select<T>(unsure, difference, below_one),
            select<T>(unsure, broadcast(T(2)), one)};
}

// mass softmax - t. factor: mass / total.
template <class T>
SIGLIN_INLINE Vec<T> softmax_gradient(Vec<T> e, Vec<T> t, Vec<T> mass, Vec<T> factor,
                                      const SoftmaxRest<T>& row) {
    const auto sure = e == row.sure;
    const Vec<T> zero = {};
    return fma(select<T>(sure, -row.rest, e), factor, select<T>(sure, mass, zero) - t);
}

// z = exp(z - max), visit(e, lanes) for each vector of them; returns their sum.
template <class T, class Visit>
SIGLIN_INLINE T exponentials(T* z, index_t n, T max, Visit visit) {
    Vec<T> total = {};
    for_each_block<T>(n, [&](index_t i, auto lanes) SIGLIN_LAMBDA_INLINE {
        const Vec<T> e =
            keep<T>(exp_negative<T>(broadcast(max) - load(z + i, lanes)), lanes);
        total += e;
        visit(e);
        store(z + i, e, lanes);
    });
    return sum<T>(total);
}

// z = exp(z - max) / sum.
template <class T>
SIGLIN_INLINE void softmax_row(T* z, index_t n, T max) {
    const T total = exponentials(z, n, max, [](Vec<T>) SIGLIN_LAMBDA_INLINE {});
    for_each_block<T>(n, [&](index_t i, auto lanes) {
        store(z + i, load(z + i, lanes) / broadcast(total), lanes);
    });
}

// -t log softmax(z); dz = scale * (softmax(z) sum(t) - t).
template <class T>
SIGLIN_INLINE double cross_entropy_row(T* z, const T* t, index_t n, T scale) {
    const Vec<T> zero = {};
    const Vec<T> one = broadcast(T(1));
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
    Vec<T> below_one = zero;
    const T total = exponentials(z, n, max, [&](Vec<T> e) SIGLIN_LAMBDA_INLINE {
        below_one += select<T>(e == one, zero, e);
    });
    const SoftmaxRest<T> row =
        softmax_rest<T>(broadcast(sum<T>(below_one)), broadcast(total));
    const Vec<T> share = broadcast(static_cast<T>(mass));
    const Vec<T> factor = share / broadcast(total);
    for_each_block<T>(n, [&](index_t i, auto lanes) SIGLIN_LAMBDA_INLINE {
        const Vec<T> dz = softmax_gradient<T>(load(z + i, lanes), load(t + i, lanes),
                                              share, factor, row);
        store(z + i, broadcast(scale) * dz, lanes);
    });
    return mass * __builtin_log1p(static_cast<double>(row.rest[0])) + below_max;
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

// Logits or targets with a row to a lane: those of class c are at c * step.
template <class T, class Pointer = T*>
struct Classes {
    Pointer p;
    index_t step;

    SIGLIN_INLINE Vec<T> operator[](index_t c) const { return load(p + c * step); }
    SIGLIN_INLINE void set(index_t c, Vec<T> v) const { store(p + c * step, v); }
};

// settle_infinite of a row to a lane; max: their highest logits.
template <class T>
SIGLIN_NOT_INLINE void settle_infinite_lanes(Classes<T> z, index_t cols, Vec<T>* max) {
    const Vec<T> zero = {};
    const Vec<T> one = broadcast(T(1));
    const Vec<T> infinity = broadcast(kInfinity<T>);
    Vec<T> infinite = zero;
    for (index_t c = 0; c < cols; ++c) {
        const Vec<T> zc = z[c];
        infinite += select<T>(zc == infinity, one, select<T>(zc == zc, zero, zc));
    }
    const auto settled = infinite == one;
    for (index_t c = 0; c < cols; ++c) {
        const Vec<T> zc = z[c];
        z.set(c, select<T>(settled, select<T>(zc == infinity, zero, -infinity), zc));
    }
    *max = select<T>(settled, zero, *max);
}

// cross_entropy_row with a row to a lane: the losses, in the lanes; z becomes scale
// times the gradient.
template <class T>
SIGLIN_INLINE Vec<T> cross_entropy_lanes(Classes<T> z, Classes<T, const T*> t,
                                         index_t cols, Vec<T> scale) {
    const Vec<T> zero = {};
    Vec<T> max = z[0];
    for (index_t c = 1; c < cols; ++c) {
        max = larger<T>(z[c], max);
    }
    const Vec<T> infinity = broadcast(kInfinity<T>);
    if (any_negative(select<T>(max == infinity, -infinity, zero))) {
        settle_infinite_lanes<T>(z, cols, &max);
    }
    const Vec<T> one = broadcast(T(1));
    Vec<T> below_max = zero;
    Vec<T> below_one = zero;
    Vec<T> mass = zero;
    Vec<T> total = zero;
    for (index_t c = 0; c < cols; ++c) {
        const Vec<T> below = max - z[c];
        const Vec<T> share = t[c];
        mass += share;
        // 0 times -inf is no loss
        below_max += select<T>(share == zero, zero, share * below);
        const Vec<T> e = exp_negative<T>(below);
        z.set(c, e);
        total += e;
        below_one += select<T>(e == one, zero, e);
    }
    const Vec<T> factor = mass / total;
    const SoftmaxRest<T> row = softmax_rest<T>(below_one, total);
    for (index_t c = 0; c < cols; ++c) {
        z.set(c, scale * softmax_gradient<T>(z[c], t[c], mass, factor, row));
    }
    return fma(mass, log1p_from_zero<T>(row.rest), below_max);
}

// The same of at most kLanes rows as they lie, of at most kMostClassesByLanes classes.
template <class T>
SIGLIN_INLINE Vec<T> cross_entropy_turned(T* z, const T* t, index_t rows, index_t cols,
                                          Vec<T> scale) {
    constexpr int L = kLanes<T>;
    Vec<T> of_z[kMostClassesByLanes + L];
    Vec<T> of_t[kMostClassesByLanes + L];
    of_z[0] = of_t[0] = Vec<T>{};  // GCC does not see that there is a class
    rows_to_lanes(z, rows, cols, of_z);
    rows_to_lanes(t, rows, cols, of_t);
    const Vec<T> losses =
        cross_entropy_lanes<T>({reinterpret_cast<T*>(of_z), L},
                               {reinterpret_cast<const T*>(of_t), L}, cols, scale);
    lanes_to_rows(of_z, rows, cols, z);
    return losses;
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
        store(losses, cross_entropy_turned<T>(z + first * cols, t + first * cols, count,
                                              cols, scale));
        for (index_t r = 0; r < count; ++r) {
            visit(first + r, static_cast<double>(losses[r]));
        }
    }
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
