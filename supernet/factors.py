"""Into what shapes a matrix is factored: the rule of Kronecker compression, as arithmetic alone.

Pure Python, since a device that only measures latencies counts what factored layers multiply.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Factors:
    """How a matrix is factored: a sum of products A kron B.

    Args:
        left: shape of A, (m1, n1)
        right: shape of B, (m2, n2)
        terms: products that are summed.
    """

    left: tuple[int, int]
    right: tuple[int, int]
    terms: int = 1

    @property
    def sizes(self) -> list[int]:
        """As a model's configuration has them: m1, n1, m2, n2, terms."""
        return [*self.left, *self.right, self.terms]

    @property
    def parameters(self) -> int:
        (m1, n1), (m2, n2) = self.left, self.right
        return self.terms * (m1 * n1 + m2 * n2)

    @property
    def rank(self) -> int:
        """The most that the matrix can have: a Kronecker product's is the product of the ranks."""
        most = math.prod(min(shape) for shape in (self.left, self.right))
        whole = min(self.left[0] * self.right[0], self.left[1] * self.right[1])
        return min(whole, self.terms * most)

    @property
    def multiplications(self) -> int:
        """For one input, by the cheaper order of the two products."""
        (m1, n1), (m2, n2) = self.left, self.right
        return self.terms * min(n1 * n2 * m2 + m1 * n1 * m2, m1 * n1 * n2 + m1 * n2 * m2)


@cache
def choose_factors(rows: int, columns: int, ratio: float, terms: int) -> Factors | None:
    """The largest factors of a (rows, columns) matrix that are ``ratio`` times smaller than it.

    Of those that are no larger, the ones with the most parameters approximate best. Among these
    are always some whose product has a low rank, such as a row times a tall matrix; the highest
    rank is taken, and among equals the fewest multiplications.

    Returns:
        None where no factors are that small.
    """
    best: tuple[tuple[int, int, int], Factors] | None = None
    for m1 in divisors(rows):
        for n1 in divisors(columns):
            left, right = (m1, n1), (rows // m1, columns // n1)
            most = min(m1 * n1, right[0] * right[1])  # more terms than that add nothing
            if terms > most or 1 in (m1 * n1, right[0] * right[1]):
                continue
            factors = Factors(left, right, terms)
            if factors.parameters * ratio > rows * columns:
                continue
            order = (factors.parameters, factors.rank, -factors.multiplications)
            if best is None or order > best[0]:
                best = order, factors
    return None if best is None else best[1]


def choose_table(rows: int, columns: int, ratio: float, terms: int) -> Factors | None:
    """As :func:`choose_factors` for a table of embeddings, whose B has one row.

    One product is KroneckerBERT's: an embedding is a row of A kron B. With more, B takes whole
    rows, (1, columns), and as many products are summed as the ratio allows, however many the
    linears have: any sum of products of as many parameters of A has a row's n1 dimensions for each
    term, all of them in the span of so many rows, so this form holds every other.
    """
    if terms > 1:
        return low_rank(rows, columns, ratio, True)
    found = [Factors((rows, n1), (1, columns // n1)) for n1 in divisors(columns)]
    small = [factors for factors in found if factors.parameters * ratio <= rows * columns]
    return max(small, key=lambda factors: factors.parameters, default=None)


def divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


Rule = Callable[[int, int, float, bool], Factors | None]
"""From rows, columns, a ratio and whether it is the table of word embeddings to factors that are so
many times smaller; None where there are none."""


def sums_of(terms: int | None) -> Rule:
    """The rule of :func:`choose_factors` and :func:`choose_table`; without terms, low rank."""
    if terms is None:
        return low_rank

    def rule(rows: int, columns: int, ratio: float, is_table: bool) -> Factors | None:
        choose = choose_table if is_table else choose_factors
        return choose(rows, columns, ratio, terms)

    return rule


def rank_of(rows: int, columns: int, ratio: float) -> int:
    """The most columns times rows that are ``ratio`` times smaller than a matrix; 0 for none."""
    return int(rows * columns / ratio) // (rows + columns)


def entries(rows: int, columns: int, ratio: float) -> int:
    """Of a matrix that is so many times smaller by columns times rows, or of itself.

    They are also the multiplications for one input.
    """
    rank = rank_of(rows, columns, ratio) if ratio > 1 else 0
    return rank * (rows + columns) if rank else rows * columns


def low_rank(rows: int, columns: int, ratio: float, _is_table: bool) -> Factors | None:
    """The rule of truncated singular values: a sum of columns times rows, (m, 1) kron (1, n)."""
    rank = rank_of(rows, columns, ratio)
    return Factors((rows, 1), (1, columns), rank) if rank else None
