"""The reference's random numbers: known answers, and the distributions."""

import math

import numpy as np
import pytest

from siglin import reference


def test_xoshiro_and_splitmix_known_answers() -> None:
    """The words that the authors' C code gives for state 1, 2, 3, 4 and for seed 0."""
    generator = reference.Generator(0)
    assert generator.state == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
        0xF88BB8A8724C81EC,
    ]
    generator.state = [1, 2, 3, 4]
    assert [generator.next_word() for _ in range(10)] == [
        41943041,
        58720359,
        3588806011781223,
        3591011842654386,
        9228616714210784205,
        9973669472204895162,
        14011001112246962877,
        12406186145184390807,
        15849039046786891736,
        10450023813501588000,
    ]


class Scripted(reference.Generator):
    """A generator whose words are given."""

    def __init__(self, words: list[int]) -> None:
        super().__init__(0)
        self.words = words

    def next_word(self) -> int:
        """Return the next given word."""
        return self.words.pop(0)


def test_next_below_redraws_the_surplus_words() -> None:
    assert Scripted([0, 2**63]).next_below(3) == 1  # 0 is the one surplus word of 3
    assert Scripted([1]).next_below(3) == 0
    assert Scripted([2**64 - 1]).next_below(3) == 2
    assert Scripted([0]).next_below(4) == 0  # 4 divides 2^64: no surplus


def test_uniform_takes_the_upper_53_bits() -> None:
    words = [0, 2**11 - 1, 2**11, 2**63, 2**64 - 1]
    uniforms = [Scripted([word]).next_uniform() for word in words]
    assert uniforms == [0.0, 0.0, 2**-53, 0.5, 1 - 2**-53]
    np.testing.assert_array_equal(Scripted(words).uniform(5, 3.0)[[0, 3]], [-3.0, 0.0])


def test_permutations_are_equally_likely() -> None:
    generator = reference.Generator(11)
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(2400):
        order = tuple(generator.permutation(4).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    chi_squared = sum((count - 100) ** 2 / 100 for count in counts.values())
    assert chi_squared < 49.7  # 23 degrees of freedom: exceeded once in 1000 seeds


def test_normals_are_normal() -> None:
    n = 20_000
    draws = np.sort(reference.Generator(5).normal(n))
    cdf = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in draws])
    steps = np.arange(n + 1) / n
    distance = max(np.abs(cdf - steps[1:]).max(), np.abs(cdf - steps[:-1]).max())
    assert distance < 1.95 / math.sqrt(n)  # Kolmogorov: exceeded once in 1000 seeds
    assert np.abs(draws).max() > 3.5


def test_numbers_of_seed_1_are_those_of_a_c_program() -> None:
    """The same algorithms, written in C with 128-bit products and no fused operations."""
    generator = reference.Generator(1)
    assert generator.normal(4).tolist() == [
        2.2503195987857998,
        0.46942277865148563,
        0.1903857415471279,
        3.0606591921616002,
    ]
    assert generator.uniform(4, 0.5).tolist() == [
        -0.4033981740820306,
        -0.36570621795531044,
        0.42038053131255948,
        -0.15649897660530254,
    ]
    below = [generator.next_below(1000) for _ in range(8)]
    assert below == [72, 394, 89, 156, 557, 472, 957, 642]


@pytest.mark.parametrize("distance", [1e-6, -1e-6])
def test_next_normal_accepts_just_the_region_of_the_ratio_method(
    distance: float,
) -> None:
    """v / u is N(0, 1) for (u, v) uniform in v^2 <= -4 u^2 ln u.

    Points a millionth off its border, in and out: the quick tests may only decide what
    the logarithm would decide too.
    """
    inside = [2**63, 2**63]  # u = 1 / 2, v = 0: a draw of 0
    for u in np.linspace(0.002, 0.998, 997):
        border = 2 * u * math.sqrt(-math.log(u))
        for v in (border * (1 + distance), -border * (1 + distance)):
            words = [int((1 - u) * 2**64), int((v / 1.7156 + 0.5) * 2**64)]
            draw = Scripted([*words, *inside]).next_normal()
            want = 0 if distance > 0 else v / u
            np.testing.assert_allclose(draw, want, rtol=1e-9)


def test_a_seed_out_of_range_is_refused() -> None:
    for seed in [-1, 2**64]:
        with pytest.raises(ValueError, match="seed"):
            reference.Generator(seed)
    assert reference.Generator().state != reference.Generator().state
