// Seeded random numbers from integers alone: the same on every machine and in
// siglin.reference.random. xoshiro256++ (Blackman and Vigna 2019), seeded by
// SplitMix64.
#pragma once

#include <cmath>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "view.h"

namespace siglin {

inline std::uint64_t split_mix(std::uint64_t& state) {
    state += 0x9e3779b97f4a7c15U;
    std::uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

// A generator over a state of four words that the caller owns.
class Generator {
  public:
    explicit Generator(std::uint64_t* state) : s_(state) {}

    std::uint64_t next() {
        const auto rotate = [](std::uint64_t v, int k) {
            return (v << k) | (v >> (64 - k));
        };
        const std::uint64_t result = rotate(s_[0] + s_[3], 23) + s_[0];
        const std::uint64_t t = s_[1] << 17;
        s_[2] ^= s_[0];
        s_[3] ^= s_[1];
        s_[1] ^= s_[2];
        s_[0] ^= s_[3];
        s_[2] ^= t;
        s_[3] = rotate(s_[3], 45);
        return result;
    }

    // In [0, 1), 53 bits.
    double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

    // In [0, bound), each with the same probability: Lemire 2019, multiply and reject.
    std::uint64_t below(std::uint64_t bound) {
        __extension__ using Wide = unsigned __int128;
        Wide product = static_cast<Wide>(next()) * bound;
        if (static_cast<std::uint64_t>(product) < bound) {
            const std::uint64_t threshold = (0 - bound) % bound;
            while (static_cast<std::uint64_t>(product) < threshold) {
                product = static_cast<Wide>(next()) * bound;
            }
        }
        return static_cast<std::uint64_t>(product >> 64);
    }

    // N(0, 1) by the ratio of uniforms (Kinderman and Monahan 1977, bounds by Leva
    // 1992).
    double normal() {
        for (;;) {
            const double u = 1.0 - uniform();
            const double v = 1.7156 * (uniform() - 0.5);
            const double x = u - 0.449871;
            const double y = std::fabs(v) + 0.386595;
            const double q = x * x + y * (0.19600 * y - 0.25472 * x);
            if (q < 0.27597 || (q <= 0.27846 && v * v <= -4.0 * u * u * std::log(u))) {
                return v / u;
            }
        }
    }

    // Fisher and Yates, from element n - 1 down to `last`: a shuffle of n elements, or
    // the first part of one that goes on with shuffle(order, last).
    template <class Index>
    void shuffle(Index* order, index_t n, index_t last = 1) {
        for (index_t i = n - 1; i >= last; --i) {
            const auto j =
                static_cast<index_t>(below(static_cast<std::uint64_t>(i) + 1));
            std::swap(order[i], order[j]);
        }
    }

  private:
    std::uint64_t* s_;
};

}  // namespace siglin
