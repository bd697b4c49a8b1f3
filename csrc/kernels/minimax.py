"""Print the polynomial coefficients of elementary.h: `python minimax.py` (needs mpmath).

Remez exchange (Remez 1934) for p(y) ~ f(y) on [low, high], minimising the weighted error
|weight(y) * (p(y) - f(y))|. Coefficients are rounded to the dtype from the highest degree
down, the lower ones being fitted again after each rounding.
"""

import mpmath as mp

mp.mp.prec = 200


def remez(f, weight, degree, low, high, fixed):
    """Return the free coefficients 0..degree-len(fixed) and the error reached.

    `fixed` holds the already rounded coefficients of the highest powers, highest last.
    """
    free = degree + 1 - len(fixed)

    def rest(y):
        return f(y) - sum(c * y ** (free + i) for i, c in enumerate(fixed))

    count = free + 1
    nodes = [
        (low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * count))
        for i in range(count)
    ][::-1]
    for _ in range(12):
        rows = [
            [y**j for j in range(free)] + [(-1) ** i / weight(y)]
            for i, y in enumerate(nodes)
        ]
        solution = mp.lu_solve(mp.matrix(rows), mp.matrix([rest(y) for y in nodes]))
        coefficients = list(solution)[:free]

        def error(y, c=coefficients):
            return weight(y) * (mp.polyval(c[::-1], y) - rest(y))

        grid = [low + (high - low) * i / mp.mpf(1500) for i in range(1501)]
        values = [error(y) for y in grid]
        extrema = []
        for i, v in enumerate(values):
            if extrema and (v > 0) == (values[extrema[-1]] > 0):
                if abs(v) > abs(values[extrema[-1]]):
                    extrema[-1] = i
            else:
                extrema.append(i)
        while len(extrema) > count:
            ends = (abs(values[extrema[0]]), abs(values[extrema[-1]]))
            extrema.pop(0 if ends[0] < ends[1] else -1)
        if len(extrema) < count:
            break
        nodes = [grid[i] for i in extrema]
    return coefficients, max(abs(v) for v in values)


def rounded(f, weight, degree, low, high, digits):
    fixed = []
    while len(fixed) <= degree:
        coefficients, error = remez(f, weight, degree, low, high, fixed)
        with mp.workprec(digits):
            fixed.insert(0, +coefficients[-1])
    return fixed, error


def exp_tail(r):
    if abs(r) < mp.mpf(2) ** -30:
        return mp.mpf(1) / 2 + r / 6 + r * r / 24
    return (mp.exp(r) - 1 - r) / r**2


def atanh_tail(v):
    u = mp.sqrt(v)
    if v < mp.mpf(2) ** -60:
        return mp.mpf(1) / 3 + v / 5
    return (mp.atanh(u) - u) / u**3


def show(name, values, digits, error):
    print(f"{name}: error 2^{float(mp.log(error, 2)):.1f}")
    for value in values:
        hexed = float(value).hex()
        print(f"    {hexed}{'F' if digits == 24 else ''},")


half_ln2 = mp.log(2) / 2 * mp.mpf("1.002")
for digits, degree in ((24, 5), (53, 9)):
    result = rounded(
        exp_tail, lambda r: r * r + mp.mpf(1) / 64, degree, -half_ln2, half_ln2, digits
    )
    show(f"exp_tail {digits}", result[0], digits, result[1])
for digits, degree in ((24, 4), (53, 11)):
    result = rounded(
        atanh_tail,
        lambda v: v + mp.mpf(1) / 64,
        degree,
        mp.mpf(2) ** -40,
        mp.mpf(1) / 9,
        digits,
    )
    show(f"atanh_tail {digits}", result[0], digits, result[1])
