// Penalties on a network's weights.
#pragma once

#include "../kernel_table.h"
#include "../simd/vec.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// The contract is PenaltyArgs'. Summed in double by chunks: a float32 sum of many
// squares would lose digits that a comparison of losses wants.
template <class T>
double penalise(const PenaltyArgs<T>& given) {
    constexpr index_t kChunk = 1024;
    const PenaltyArgs<T> args = given;
    const Vec<T> zero = {};
    const Vec<T> l1 = broadcast(args.l1);
    const Vec<T> l2 = broadcast(args.l2);
    const Vec<T> minus_lr = broadcast(-args.lr);
    double squares = 0;
    double sizes = 0;
    for (index_t begin = 0; begin < args.n; begin += kChunk) {
        const index_t n = args.n - begin < kChunk ? args.n - begin : kChunk;
        Vec<T> square = {};
        Vec<T> size = {};
        for_each_block<T>(n, [&](index_t j, auto lanes) SIGLIN_LAMBDA_INLINE {
            const index_t i = begin + j;
            const Vec<T> w = load(args.w + i, lanes);
            const Vec<T> kept = keep<T>(w, lanes);
            square = fma(kept, kept, square);
            if (args.l1 != 0) {
                size += magnitude<T>(kept);
            }
            if (args.grad != nullptr) {
                Vec<T> g = fma(l2, w, load(args.grad + i, lanes));
                if (args.l1 != 0) {
                    const Vec<T> sign =
                        select<T>(w > zero, l1, zero) - select<T>(w < zero, l1, zero);
                    g += sign;
                }
                if (args.param != nullptr) {
                    store(args.param + i, fma(minus_lr, g, w), lanes);
                } else {
                    store(args.grad + i, g, lanes);
                }
            }
        });
        squares += static_cast<double>(sum<T>(square));
        sizes += static_cast<double>(sum<T>(size));
    }
    for_each_block<T>(args.others, [&](index_t j, auto lanes) SIGLIN_LAMBDA_INLINE {
        const index_t i = args.n + j;
        const Vec<T> p = load(args.param + i, lanes);
        store(args.param + i, fma(minus_lr, load(args.grad + i, lanes), p), lanes);
    });
    return static_cast<double>(args.l1) * sizes +
           0.5 * static_cast<double>(args.l2) * squares;
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
