// Dropout (Srivastava et al. 2014): which outputs of a hidden layer are dropped.
//
// The bits of an output are a hash of its place, so that no layout and no order of work
// changes them: a row's key, plus the unit's number times an odd constant, mixed. All
// in words of 32 bits, of which a vector of doubles fills half as many.
#pragma once

#include "../kernel_table.h"
#include "../simd/vec.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// Two rounds of xor-shift and multiplication; each bit of x changes about half of the
// result's bits (constants: C. Wellons 2018, a search by that measure).
template <class Words>
SIGLIN_INLINE Words mixed(Words x) {
    x ^= x >> 16;
    x *= 0x7feb352dU;
    x ^= x >> 15;
    x *= 0x846ca68bU;
    x ^= x >> 16;
    return x;
}

inline constexpr std::uint32_t kUnitStep = 0x9e3779b1U;  // 2^32 / golden ratio, odd

// What the hashes of one layer have in common.
struct DropKey {
    std::uint32_t row;
    std::uint32_t unit;
    std::uint32_t threshold;  // words below are dropped

    DropKey(const Drops& drops, index_t layer)
        : threshold(static_cast<std::uint32_t>(drops.probability * 0x1p32)) {
        const auto number = static_cast<std::uint32_t>(layer + 1);
        row = mixed(static_cast<std::uint32_t>(drops.seed) + number * kUnitStep);
        unit = mixed(static_cast<std::uint32_t>(drops.seed >> 32) ^ row);
    }
    std::uint32_t of_row(index_t r) const {
        const auto whole = static_cast<std::uint64_t>(r);
        const auto upper = static_cast<std::uint32_t>(whole >> 32);
        return mixed(static_cast<std::uint32_t>(whole) ^ row ^ upper * kUnitStep) +
               unit;
    }
};

// Words are mixed so many together: those of one vector of floats, or two of doubles.
template <class T>
inline constexpr int kWords = sizeof(T) == 8 && kVecBytes == 64 ? 8 : kVecBytes / 4;

template <class T>
struct WordsOf {
    typedef std::uint32_t Type __attribute__((vector_size(4 * kWords<T>)));
    typedef std::int32_t Lanes __attribute__((vector_size(4 * kLanes<T>)));
};
template <class T>
using Words = typename WordsOf<T>::Type;

// visit(i, factors): the factors of kWords outputs, vector by vector, from their words.
template <class T, class Visit>
SIGLIN_INLINE void drop_factors(Words<T> words, std::uint32_t threshold, T kept,
                                Visit visit) {
    const Words<T> limit = Words<T>{} + threshold;
    const auto keeps = mixed(words) >= limit;
    constexpr int kVecs = kWords<T> / kLanes<T>;
    typename WordsOf<T>::Lanes lanes[kVecs];
    __builtin_memcpy(lanes, &keeps, sizeof(keeps));
    const Vec<T> zero = {};
#pragma GCC unroll 2
    for (int v = 0; v < kVecs; ++v) {
        // A mask of 32 bits becomes one of a lane's.
        const IntVec<T> mask = __builtin_convertvector(lanes[v], IntVec<T>);
        visit(v * kLanes<T>, select<T>(mask, broadcast(kept), zero));
    }
}

template <class T>
SIGLIN_INLINE T kept_factor(const Drops& drops) {
    return static_cast<T>(1 / (1 - drops.probability));
}

template <class T>
SIGLIN_INLINE void drop(T* a, T* derivative, bool linear, Vec<T> factor) {
    store(a, load(a) * factor);
    store(derivative, linear ? factor : load(derivative) * factor);
}

// The contract is DropArgs'.
template <class T>
void drop_out(const DropArgs<T>& args) {
    const DropKey key(args.drops, args.layer);
    const T kept = kept_factor<T>(args.drops);
    Words<T> steps;
    for (int i = 0; i < kWords<T>; ++i) {
        steps[i] = static_cast<std::uint32_t>(i) * kUnitStep;
    }
    const index_t whole = args.n_out / kWords<T> * kWords<T>;
    for (index_t r = 0; r < args.rows; ++r) {
        T* const a = args.a + r * args.n_out;
        T* const d = args.derivative + r * args.n_out;
        std::uint32_t at = key.of_row(args.drops.first + r);
        for (index_t j = 0; j < whole; j += kWords<T>) {
            drop_factors<T>(steps + at, key.threshold, kept,
                            [&](index_t i, Vec<T> factor) SIGLIN_LAMBDA_INLINE {
                                drop(a + j + i, d + j + i, args.linear, factor);
                            });
            at += kWords<T> * kUnitStep;
        }
        for (index_t j = whole; j < args.n_out; ++j, at += kUnitStep) {
            const T factor = mixed(at) >= key.threshold ? kept : T(0);
            a[j] *= factor;
            d[j] = args.linear ? factor : d[j] * factor;
        }
    }
}

// The same of outputs by columns: output f of row r at f * stride + r, of `stride`
// rows, a multiple of kNarrowLanes. keys: room for stride words.
template <class T>
void drop_out_columns(const DropArgs<T>& args, index_t stride, std::uint32_t* keys) {
    const DropKey key(args.drops, args.layer);
    const T kept = kept_factor<T>(args.drops);
    for (index_t r = 0; r < stride; ++r) {
        const std::uint32_t row = key.of_row(args.drops.first + r);
        __builtin_memcpy(keys + r, &row, sizeof(row));  // the memory held others
    }
    static_assert(kNarrowLanes<T> % kWords<T> == 0);
    std::uint32_t unit = 0;
    for (index_t f = 0; f < args.n_out; ++f, unit += kUnitStep) {
        T* const a = args.a + f * stride;
        T* const d = args.derivative + f * stride;
        for (index_t r = 0; r < stride; r += kWords<T>) {
            Words<T> words;
            __builtin_memcpy(&words, keys + r, sizeof(words));
            drop_factors<T>(words + unit, key.threshold, kept,
                            [&](index_t i, Vec<T> factor) SIGLIN_LAMBDA_INLINE {
                                drop(a + r + i, d + r + i, args.linear, factor);
                            });
        }
    }
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
