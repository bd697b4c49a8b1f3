"""The random numbers of initial weights and of shuffling, in plain integers.

The generator is xoshiro256++ of Blackman and Vigna (2021), its 256 bits of state filled
by four outputs of SplitMix64. Everything up to the 53-bit uniform number is integer
arithmetic, so a seed gives the same weights on every machine.

References
----------
D. Blackman, S. Vigna, "Scrambled linear pseudorandom number generators", ACM
Transactions on Mathematical Software 47 (2021) 36.
D. Lemire, "Fast random integer generation in an interval", ACM Transactions on Modeling
and Computer Simulation 29 (2019) 3.
A. J. Kinderman, J. F. Monahan, "Computer generation of random variables using the ratio
of uniform deviates", ACM Transactions on Mathematical Software 3 (1977) 257.
J. L. Leva, "A fast normal random number generator", ACM Transactions on Mathematical
Software 18 (1992) 449.
"""

import math
import secrets

import numpy as np
import numpy.typing as npt

WORD = 2**64


def rotate_left(word: int, count: int) -> int:
    """Return a 64-bit word rotated to the left by `count` bits."""
    return (word << count | word >> (64 - count)) % WORD


def splitmix64(seed: int, n: int) -> list[int]:
    """Return the first n outputs of SplitMix64."""
    words = []
    for _ in range(n):
        seed = (seed + 0x9E3779B97F4A7C15) % WORD
        word = seed
        word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % WORD
        word = (word ^ word >> 27) * 0x94D049BB133111EB % WORD
        words.append(word ^ word >> 31)
    return words


class Generator:
    """A xoshiro256++ generator.

    Parameters
    ----------
    seed : int, optional
        0 <= seed < 2**64; None takes one from the system's entropy.

    Raises
    ------
    ValueError
        If the seed is out of range.

    Examples
    --------
    >>> from siglin.reference.random import Generator
    >>> Generator(7).permutation(5).tolist()
    [1, 3, 2, 4, 0]
    """

    def __init__(self, seed: int | None = None) -> None:
        if seed is None:
            seed = secrets.randbits(64)
        if not 0 <= seed < WORD:
            raise ValueError(f"seed must be in [0, 2**64), got {seed}")
        self.state = splitmix64(seed, 4)

    def next_word(self) -> int:
        """Return the next 64 random bits as an integer."""
        s0, s1, s2, s3 = self.state
        result = (rotate_left((s0 + s3) % WORD, 23) + s0) % WORD
        shifted = s1 << 17 & WORD - 1
        s2 ^= s0
        s3 ^= s1
        s1 ^= s2
        s0 ^= s3
        s2 ^= shifted
        s3 = rotate_left(s3, 45)
        self.state = [s0, s1, s2, s3]
        return result

    def next_uniform(self) -> float:
        """Return the next number in [0, 1): the upper 53 bits times 2**-53."""
        return (self.next_word() >> 11) * 2.0**-53

    def next_below(self, m: int) -> int:
        """Return an integer in [0, m), each equally likely (Lemire 2019).

        A 64-bit word times m, divided by 2**64, is in [0, m). The words whose low half
        is below 2**64 mod m are the surplus that would favour some results: redraw.
        """
        product = self.next_word() * m
        while product % WORD < WORD % m:
            product = self.next_word() * m
        return product // WORD

    def next_normal(self) -> float:
        """Return the next number of N(0, 1): v / u for a point in Leva's region."""
        while True:
            u = 1.0 - self.next_uniform()
            v = 1.7156 * (self.next_uniform() - 0.5)
            x = u - 0.449871
            y = abs(v) + 0.386595
            q = x * x + y * (0.19600 * y - 0.25472 * x)
            if q < 0.27597 or (q <= 0.27846 and v * v <= -4.0 * (u * u) * math.log(u)):
                return v / u

    def uniform(self, n: int, bound: float) -> npt.NDArray[np.float64]:
        """Return n numbers between -bound and bound."""
        return np.array([(2 * self.next_uniform() - 1) * bound for _ in range(n)])

    def normal(self, n: int) -> npt.NDArray[np.float64]:
        """Return n numbers of N(0, 1)."""
        return np.array([self.next_normal() for _ in range(n)])

    def permutation(self, n: int) -> npt.NDArray[np.int64]:
        """Return 0 .. n - 1 in random order, by Fisher and Yates from the top."""
        order = list(range(n))
        for i in range(n - 1, 0, -1):
            j = self.next_below(i + 1)
            order[i], order[j] = order[j], order[i]
        return np.array(order, np.int64)
