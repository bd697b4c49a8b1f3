// exp, sigmoid, tanh and softplus of a vector.
// Range reduction by multiples of ln 2 in two parts (Cody and Waite 1980), a minimax
// polynomial, and high + low pairs by Dekker's fast two-sum (1971) where a rounding
// would show in the result. minimax.py prints the coefficients.
#pragma once

#include "../simd/vec.h"

namespace siglin::SIGLIN_TARGET {
namespace {

// kTail: (exp(-r) - 1 + r) / r^2, the coefficients of minimax.py with signs in turn.
template <class T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
    static constexpr float kLimit = 104.5F;  // exp(-104.5) < 2^-150, half the smallest
    static constexpr float kNormalLimit = 87.0F;  // exp(-87) is normal
    static constexpr float kZeroLimit = 88.0F;    // exp(-88) < 2^-126
    static constexpr float kLog2E = 0x1.715476p+0F;
    static constexpr float kLn2High = 0x1.62e4p-1F;  // 15 bits: n * kLn2High is exact
    static constexpr float kLn2Low = 0x1.7f7d1cp-20F;
    static constexpr float kRound =
        0x1.8p+23F;  // x + kRound - kRound rounds to integer
    static constexpr float kTail[] = {
        0x1p-1F,         -0x1.555556p-3F, 0x1.5554a6p-5F,
        -0x1.111088p-7F, 0x1.6d7cb6p-10F, -0x1.a1aa6ep-13F,
    };
    static constexpr float kExp[] = {
        1.0F, -1.0F, kTail[0], kTail[1], kTail[2], kTail[3], kTail[4], kTail[5],
    };
    // (exp(-r) - 1) / r: four coefficients, and those from r^4 on
    static constexpr float kExpNear[] = {-1.0F, kTail[0], kTail[1], kTail[2]};
    static constexpr float kExpFar[] = {kTail[3], kTail[4], kTail[5]};
};

template <>
struct ExpConstants<double> {
    static constexpr double kLimit = 746.0;  // exp(-746) < 2^-1075
    static constexpr double kNormalLimit = 708.0;
    static constexpr double kZeroLimit = 709.0;
    static constexpr double kLog2E = 0x1.71547652b82fep+0;
    static constexpr double kLn2High = 0x1.62e42fefa38p-1;  // 42 bits
    static constexpr double kLn2Low = 0x1.ef35793c7673p-45;
    static constexpr double kRound = 0x1.8p+52;
    static constexpr double kTail[] = {
        0x1.0000000000004p-1,   -0x1.555555555555cp-3,  0x1.5555555552444p-5,
        -0x1.111111110e5bcp-7,  0x1.6c16c17f0666ap-10,  -0x1.a01a01b66199fp-13,
        0x1.a019a62b1b340p-16,  -0x1.71dde89a205afp-19, 0x1.28a385ff94346p-22,
        -0x1.af7922284a711p-26,
    };
    static constexpr double kExp[] = {
        1.0,      -1.0,     kTail[0], kTail[1], kTail[2], kTail[3],
        kTail[4], kTail[5], kTail[6], kTail[7], kTail[8], kTail[9],
    };
    static constexpr double kExpNear[] = {-1.0, kTail[0], kTail[1], kTail[2]};
    static constexpr double kExpFar[] = {kTail[3], kTail[4], kTail[5], kTail[6],
                                         kTail[7], kTail[8], kTail[9]};
};

template <class T>
struct LogConstants;

// (atanh(u) - u) / u^3 as a polynomial in u^2, 0 <= u <= 1/3.
template <>
struct LogConstants<float> {
    static constexpr float kTail[] = {0x1.555556p-2F, 0x1.9998p-3F, 0x1.24e70ap-3F,
                                      0x1.b999bp-4F, 0x1.e7cdc4p-4F};
};

template <>
struct LogConstants<double> {
    static constexpr double kTail[] = {
        0x1.5555555555555p-2, 0x1.99999999999a2p-3, 0x1.2492492491981p-3,
        0x1.c71c71c7e0e3fp-4, 0x1.745d170bbec4bp-4, 0x1.3b13bb92e725fp-4,
        0x1.110fe1df61ce8p-4, 0x1.e20ffdb138582p-5, 0x1.accf968809f65p-5,
        0x1.9a39dcedae2d8p-5, 0x1.f0f383d486a34p-6, 0x1.40a1a0fcfe57cp-4,
    };
};

// c[0] + c[1] x + c[2] x^2 + ..., by pairs, pairs of pairs, ... (Estrin 1960): Horner's
// chain of multiply-adds would be half of the latency of a sigmoid.
template <class T, int kCount>
SIGLIN_INLINE Vec<T> polynomial(Vec<T> x, const T (&c)[kCount]) {
    constexpr int kPairs = (kCount + 1) / 2;
    Vec<T> p[kPairs];
#pragma GCC unroll 16
    for (int i = 0; i < kPairs; ++i) {
        p[i] = broadcast(c[2 * i]);
        if (2 * i + 1 < kCount) {
            p[i] = fma(broadcast(c[2 * i + 1]), x, p[i]);
        }
    }
    Vec<T> power = x * x;
#pragma GCC unroll 16
    for (int n = kPairs; n > 1; n = (n + 1) / 2) {
        if constexpr (kPairs > 2) {
            if (n == 3) {  // as late as by pairs, and a multiplication less
                return fma(fma(p[2], power, p[1]), power, p[0]);
            }
        }
#pragma GCC unroll 16
        for (int i = 0; i < (n + 1) / 2; ++i) {
            p[i] = 2 * i + 1 < n ? fma(p[2 * i + 1], power, p[2 * i]) : p[2 * i];
        }
        power *= power;
    }
    return p[0];
}

// The same with two multiplications less, by even and odd powers: for loops, whose
// vectors do not wait for each other.
template <class T, int kCount>
SIGLIN_INLINE Vec<T> polynomial_in_loop(Vec<T> x, const T (&c)[kCount]) {
    constexpr int kLast = kCount - 1;
    const Vec<T> square = x * x;
    Vec<T> p[2] = {broadcast(c[kLast - 1]), broadcast(c[kLast])};
#pragma GCC unroll 16
    for (int i = kLast - 2; i >= 0; --i) {
        Vec<T>& half = p[(kLast - i) % 2 == 0 ? 1 : 0];
        half = fma(half, square, broadcast(c[i]));
    }
    return kLast % 2 == 0 ? fma(p[0], x, p[1]) : fma(p[1], x, p[0]);
}

// exp(-y), y >= 0: y = n ln 2 + r + r_low, |r| <= ln 2 / 2.
// 2^-n is kept as two factors: each is normal, and their product with a value of about
// 1 rounds once, also where it is subnormal.
template <class T>
struct ReducedArgument {
    Vec<T> r;
    Vec<T> r_low;
    Vec<T> scale1;
    Vec<T> scale2;
};

// What becomes of an exp(-y) that is not normal: it is rounded once (keep); it is 0, at
// y = kZeroLimit and from there on (flush: 2^-n is then a factor of 0); or y is taken
// as at most kNormalLimit (limit), for derivatives, where exp(-87) and what is smaller
// come to the same.
enum class Tail { keep, flush, limit };

template <class T>
SIGLIN_INLINE constexpr T tail_limit(Tail tail) {
    using C = ExpConstants<T>;
    return tail == Tail::keep    ? C::kLimit
           : tail == Tail::flush ? C::kZeroLimit
                                 : C::kNormalLimit;
}

// scale2 is 1 but with Tail::keep.
template <class T, Tail kTail>
SIGLIN_INLINE ReducedArgument<T> reduced_argument(Vec<T> y) {
    using C = ExpConstants<T>;
    constexpr bool kKeepSubnormals = kTail == Tail::keep;
    y = smaller(broadcast(tail_limit<T>(kTail)), y);  // NaN stays
    const Vec<T> rounded = fma(y, broadcast(C::kLog2E), broadcast(C::kRound));
    const Vec<T> n = rounded - broadcast(C::kRound);
    const Vec<T> r_high = fma(n, broadcast(-C::kLn2High), y);
    const Vec<T> r = fma(n, broadcast(-C::kLn2Low), r_high);
    const Vec<T> r_low = fma(n, broadcast(-C::kLn2Low), r_high - r);
    // Unsigned: the bits of a NaN may overflow.
    const UnsignedVec<T> bias =
        UnsignedVec<T>{} + (kKeepSubnormals ? 2 : 1) * kExponentBias<T>;
    const UnsignedVec<T> biased =
        (unsigned_bits<T>(broadcast(C::kRound)) + bias) - unsigned_bits<T>(rounded);
    if constexpr (!kKeepSubnormals) {
        return {r, r_low, from_bits<T>(biased << kMantissaBits<T>), broadcast(T(1))};
    }
    // -n with the bias of both factors: its halves are exponents as they stand
    const UnsignedVec<T> half = biased >> 1;
    return {r, r_low, from_bits<T>(half << kMantissaBits<T>),
            from_bits<T>((biased - half) << kMantissaBits<T>)};
}

// exp(-(r + r_low)) - 1 + r
template <class T>
SIGLIN_INLINE Vec<T> exp_tail(Vec<T> r, Vec<T> r_low) {
    return fma(r * r, polynomial<T>(r, ExpConstants<T>::kTail), -r_low);
}

// exp(-y) = (1 - r + tail) * scale1 * scale2
template <class T>
struct ReducedExp {
    Vec<T> r;
    Vec<T> tail;
    Vec<T> scale1;
    Vec<T> scale2;
};

template <class T>
SIGLIN_INLINE ReducedExp<T> reduced_exp(Vec<T> y) {
    const ReducedArgument<T> e = reduced_argument<T, Tail::keep>(y);
    return {e.r, exp_tail<T>(e.r, e.r_low), e.scale1, e.scale2};
}

// exp(-y) for y >= 0, in [0, 1].
template <class T>
SIGLIN_INLINE Vec<T> exp_negative(Vec<T> y) {
    const ReducedExp<T> e = reduced_exp<T>(y);
    return ((broadcast(T(1)) + (e.tail - e.r)) * e.scale1) * e.scale2;
}

// sigma(|z|), and sigma(-|z|) still to be scaled.
// (The scales are not kept as a ReducedExp: GCC 12 copies a struct of vectors inside
// another through memory, which doubles the instructions.)
template <class T>
struct SigmoidParts {
    Vec<T> exp;    // exp(-|z|)
    Vec<T> upper;  // sigma(|z|), in [1/2, 1]
    Vec<T> lower;  // sigma(-|z|) / (scale1 * scale2)
    Vec<T> scale1;
    Vec<T> scale2;

    SIGLIN_INLINE Vec<T> value(Vec<T> z) const {
        return select<T>(z < broadcast(T(0)), scaled_lower(), upper);
    }
    SIGLIN_INLINE Vec<T> scaled_lower() const { return (lower * scale1) * scale2; }
    // sigma(z) sigma(-z): keeps its digits where sigma(z) is 1.
    SIGLIN_INLINE Vec<T> derivative() const {
        return ((lower * upper) * scale1) * scale2;
    }
};

// e is the reduced exp(-|z|).
template <class T>
SIGLIN_INLINE SigmoidParts<T> sigmoid_parts(const ReducedExp<T>& e) {
    const Vec<T> one = broadcast(T(1));
    // exp(-r) as high + low
    const Vec<T> head = one - e.r;
    const Vec<T> rest = ((one - head) - e.r) + e.tail;
    const Vec<T> high = head + rest;
    const Vec<T> low = (head - high) + rest;
    // 1 + exp(-|z|) as d + d_low
    const Vec<T> scale = e.scale1 * e.scale2;
    const Vec<T> exp = high * scale;
    const Vec<T> d = one + exp;
    const Vec<T> d_low = fma(low, scale, (one - d) + exp);
    // 1 / (d + d_low) = inverse * (1 + residue), one Newton step by hand
    const Vec<T> inverse = one / d;
    const Vec<T> residue = fma(-inverse, d_low, fma(-inverse, d, one));
    const Vec<T> upper = fma(inverse, residue, inverse);
    const Vec<T> lower = fma(high, inverse, inverse * fma(high, residue, low));
    return {exp, upper, lower, e.scale1, e.scale2};
}

template <class T>
SIGLIN_INLINE SigmoidParts<T> sigmoid_parts(Vec<T> z) {
    return sigmoid_parts<T>(reduced_exp<T>(magnitude<T>(z)));
}

// exp(-z) for training, where a step waits for it: scale + scale r (c[1] + c[2] r +
// ...), where the low part of n ln 2 is a factor of the scale. What waits for r is a
// tree of multiply-adds; 1 + scale and the powers of r times the scale are ready before
// it. |z| is taken as at most kZeroLimit, where exp(-z) is 0 or still finite, or must
// be where the caller says so; NaN -> NaN.
template <class T>
struct QuickExp {
    Vec<T> scale;
    Vec<T> near;
    Vec<T> far;
    Vec<T> near_factor;
    Vec<T> far_factor;

    // start + factor (exp(-z) - scale), as late for any start and factor that are known
    // beforehand.
    SIGLIN_INLINE Vec<T> plus(Vec<T> start) const {
        return fma(far, far_factor, fma(near, near_factor, start));
    }
    SIGLIN_INLINE Vec<T> plus(Vec<T> start, Vec<T> factor) const {
        return fma(far, factor * far_factor, fma(near, factor * near_factor, start));
    }
};

template <class T, bool kLimited>
SIGLIN_INLINE QuickExp<T> quick_exp(Vec<T> z) {
    using C = ExpConstants<T>;
    if constexpr (!kLimited) {
        z = smaller(broadcast(C::kZeroLimit), z);
        z = larger<T>(broadcast(-C::kZeroLimit), z);
    }
    const Vec<T> rounded = fma(z, broadcast(C::kLog2E), broadcast(C::kRound));
    const Vec<T> n = rounded - broadcast(C::kRound);
    const Vec<T> r = fma(n, broadcast(-C::kLn2High), z);
    const UnsignedVec<T> bias = UnsignedVec<T>{} + kExponentBias<T>;
    const UnsignedVec<T> biased =
        (unsigned_bits<T>(broadcast(C::kRound)) + bias) - unsigned_bits<T>(rounded);
    const Vec<T> power_of_2 = from_bits<T>(biased << kMantissaBits<T>);
    const Vec<T> scale = fma(power_of_2, n * broadcast(C::kLn2Low), power_of_2);
    const Vec<T> near = polynomial<T>(r, C::kExpNear);
    const Vec<T> far = polynomial<T>(r, C::kExpFar);
    const Vec<T> near_factor = r * scale;
    const Vec<T> square = r * r;
    const Vec<T> far_factor = (square * square) * near_factor;
    return {scale, near, far, near_factor, far_factor};
}

// sigma(z) and sigma(-z) from a QuickExp: half the latency of sigmoid_parts, for an
// error of up to 4 ulp of the value (test_descent.py; the most found in 11 million is
// 3.6) and 5 of the rest (4.6). numerator: 1, or 0 where both shall be 0.
template <class T>
struct QuickSigmoid {
    Vec<T> value;
    Vec<T> rest;  // 1 - value, which keeps its digits
};

template <class T, bool kLimited = false>
SIGLIN_INLINE QuickSigmoid<T> quick_sigmoid_parts(Vec<T> z, Vec<T> numerator) {
    const QuickExp<T> e = quick_exp<T, kLimited>(z);
    const Vec<T> value = numerator / e.plus(broadcast(T(1)) + e.scale);
    return {value, e.plus(e.scale) * value};
}

// sigma(z) - t as ((1 - t) - t exp(-z)) / (1 + exp(-z)), whose numerator has all digits
// of sigma(-z) where t is 1, and is there when the denominator is: no later than the
// sigmoid, and nothing waits for a difference. numerator: 1, or 0 where t is 0 and so
// shall be the result.
template <class T, bool kLimited = false>
SIGLIN_INLINE Vec<T> quick_sigmoid_minus(Vec<T> z, Vec<T> t, Vec<T> numerator) {
    const QuickExp<T> e = quick_exp<T, kLimited>(z);
    const Vec<T> difference = e.plus(fma(-t, e.scale, numerator - t), -t);
    return difference / e.plus(broadcast(T(1)) + e.scale);
}

template <class T>
struct ValueAndDerivative {
    Vec<T> value;
    Vec<T> derivative;
};

// The sigmoid in four steps, of about as much latency each, so that a loop can have a
// vector in each of them. From sigma(-|z|) = 1 / (1 + exp(|z|)) both results follow: of
// at most 1/2, it is exact enough for sigma(|z|) = 1 - sigma(-|z|). Error: at most 1
// ulp of the value, 2 of the derivative, up to |z| = kReach, and what is there from
// then on.
template <class T>
struct SigmoidSteps {
    static constexpr T kReach = ExpConstants<T>::kNormalLimit;
    Vec<T> a;
    Vec<T> b;
    Vec<T> scale;

    // exp(|z|) = scale * exp(-(a + b)), |a| <= ln 2 / 2
    SIGLIN_INLINE void first(Vec<T> z) {
        using C = ExpConstants<T>;
        const Vec<T> y = smaller(broadcast(C::kNormalLimit), magnitude<T>(z));
        const Vec<T> rounded = fma(y, broadcast(C::kLog2E), broadcast(C::kRound));
        const Vec<T> n = rounded - broadcast(C::kRound);
        const Vec<T> high = fma(n, broadcast(C::kLn2High), -y);
        a = fma(n, broadcast(C::kLn2Low), high);
        const UnsignedVec<T> biased =
            unsigned_bits<T>(rounded) -
            (unsigned_bits<T>(broadcast(C::kRound)) - kExponentBias<T>);
        scale = from_bits<T>(biased << kMantissaBits<T>);
    }

    // exp(-a) as a + b
    SIGLIN_INLINE void second() {
        const Vec<T> one = broadcast(T(1));
        const Vec<T> r = a;
        a = one - r;
        b = fma(r * r, polynomial<T>(r, ExpConstants<T>::kTail), (one - a) - r);
    }

    // 1 + exp(|z|) as a + b
    SIGLIN_INLINE void third() {
        const Vec<T> one = broadcast(T(1));
        const Vec<T> high = a + b;
        const Vec<T> low = (a - high) + b;
        const Vec<T> exp = high * scale;
        a = one + exp;
        b = fma(low, scale, (exp - a) + one);
    }

    SIGLIN_INLINE ValueAndDerivative<T> last(Vec<T> z) const {
        const Vec<T> one = broadcast(T(1));
        const Vec<T> inverse = one / a;
        const Vec<T> excess = fma(inverse, b, fma(inverse, a, -one));
        const Vec<T> lower = fma(-inverse, excess, inverse);
        return {select<T>(bits<T>(z) < 0, lower, one - lower),
                fma(-lower, lower, lower)};
    }
};

// tanh(z) = -m / (m + 2) and tanh'(z) = 4 (m + 1) / (m + 2)^2 with m = exp(-2 |z|) - 1,
// in four steps as SigmoidSteps.
template <class T, bool kKeepSubnormals = false>
struct TanhSteps {
    static constexpr T kReach = ExpConstants<T>::kNormalLimit / 2;
    Vec<T> a;
    Vec<T> b;
    Vec<T> scale;

    // exp(-2 |z|) = scale * exp(-(a + b))
    SIGLIN_INLINE void first(Vec<T> z) {
        const ReducedArgument<T> e =
            reduced_argument<T, kKeepSubnormals ? Tail::keep : Tail::limit>(
                broadcast(T(2)) * magnitude<T>(z));
        a = e.r;
        b = e.r_low;
        scale = kKeepSubnormals ? e.scale1 * e.scale2 : e.scale1;
    }

    // a = exp(-(a + b)) - 1
    SIGLIN_INLINE void second() {
        if constexpr (kKeepSubnormals) {
            a = exp_tail<T>(a, b) - a;
        } else {
            a = fma(a * a, polynomial<T>(a, ExpConstants<T>::kTail), -a);
        }
    }

    // a = m, b = m + 1
    SIGLIN_INLINE void third() {
        b = fma(scale, a, scale);
        a = fma(scale, a, scale - broadcast(T(1)));
    }

    SIGLIN_INLINE ValueAndDerivative<T> last(Vec<T> z) const {
        const Vec<T> d = a + broadcast(T(2));
        const Vec<T> inverse = broadcast(T(1)) / d;
        const Vec<T> q = -a * inverse;
        const Vec<T> value = fma(fma(-q, d, -a), inverse, q);
        const IntVec<T> sign = bits<T>(z) & kSignBit<T>;
        return {from_bits<T>(bits<T>(value) | sign),
                b * ((inverse + inverse) * (inverse + inverse))};
    }
};

template <class T>
SIGLIN_INLINE ValueAndDerivative<T> tanh_parts(Vec<T> z) {
    TanhSteps<T, true> steps;
    steps.first(z);
    steps.second();
    steps.third();
    return steps.last(z);
}

// log(1 + e) for 0 <= e <= 1, as 2 atanh(e / (2 + e)).
template <class T>
SIGLIN_INLINE Vec<T> log1p_unit(Vec<T> e) {
    const Vec<T> u = e / (e + broadcast(T(2)));
    const Vec<T> v = u * u;
    const Vec<T> twice = u + u;
    return fma(twice * v, polynomial<T>(v, LogConstants<T>::kTail), twice);
}

// log(x) for finite x >= 1: x = 2^n (1 + e), 0 <= e < 1. Error: at most 2 ulp; NaN ->
// NaN.
template <class T>
SIGLIN_INLINE Vec<T> log_from_one(Vec<T> x) {
    using C = ExpConstants<T>;
    const UnsignedVec<T> all = unsigned_bits<T>(x);
    const UnsignedVec<T> exponent = all >> kMantissaBits<T>;
    const UnsignedVec<T> one = unsigned_bits<T>(broadcast(T(1)));
    const Vec<T> m = from_bits<T>(all - (exponent << kMantissaBits<T>)+one);
    // The number n in the lowest bits of kRound
    const UnsignedVec<T> place =
        unsigned_bits<T>(broadcast(C::kRound)) + exponent - kExponentBias<T>;
    const Vec<T> n = from_bits<T>(place) - broadcast(C::kRound);
    const Vec<T> part =
        fma(n, broadcast(C::kLn2Low), log1p_unit<T>(m - broadcast(T(1))));
    return fma(n, broadcast(C::kLn2High), part) + (x - x);
}

// log(1 + q) for finite q >= 0, with the digits that 1 + q loses. NaN -> NaN.
template <class T>
SIGLIN_INLINE Vec<T> log1p_from_zero(Vec<T> q) {
    const Vec<T> one = broadcast(T(1));
    const Vec<T> x = one + q;
    return log_from_one<T>(x) + (q - (x - one)) / x;
}

}  // namespace
}  // namespace siglin::SIGLIN_TARGET
