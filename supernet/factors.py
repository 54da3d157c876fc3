"""The shapes into which a matrix is factored for Kronecker compression.

This module is pure Python: a device that only measures latencies counts the multiplications of
factored layers with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Factors:
    """Shapes of a factored matrix, which is a sum of Kronecker products A kron B.

    Args:
        left: shape of A, (m1, n1)
        right: shape of B, (m2, n2)
        terms: number of products in the sum.
    """

    left: tuple[int, int]
    right: tuple[int, int]
    terms: int = 1

    @property
    def sizes(self) -> list[int]:
        """m1, n1, m2, n2 and terms, the form in a model's configuration."""
        return [*self.left, *self.right, self.terms]

    @property
    def parameters(self) -> int:
        (m1, n1), (m2, n2) = self.left, self.right
        return self.terms * (m1 * n1 + m2 * n2)

    @property
    def rank(self) -> int:
        """The highest rank of such a matrix. A Kronecker product has the product of the ranks."""
        most = math.prod(min(shape) for shape in (self.left, self.right))
        whole = min(self.left[0] * self.right[0], self.left[1] * self.right[1])
        return min(whole, self.terms * most)

    @property
    def multiplications(self) -> int:
        """Multiplications for one input, in the cheaper order of the two products."""
        (m1, n1), (m2, n2) = self.left, self.right
        return self.terms * min(n1 * n2 * m2 + m1 * n1 * m2, m1 * n1 * n2 + m1 * n2 * m2)


@cache
def choose_factors(rows: int, columns: int, ratio: float, terms: int) -> Factors | None:
    """The best factors of a (rows, columns) matrix that are at least ``ratio`` times smaller.

    Factors with the most parameters approximate best. Some of them have a product of low rank, such
    as a row times a tall matrix, so ties go to the highest rank, and then to the fewest
    multiplications.

    Returns:
        None if no factors are that small.
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
    """As :func:`choose_factors`, for a table of embeddings, where B has one row.

    With one term this is KroneckerBERT's form: an embedding is a row of A kron B. With more terms,
    B holds whole rows, (1, columns), and the sum has as many terms as the ratio allows, however
    many ``terms`` the linears have. A sum of other products with as many parameters in A lies in
    the span of as many rows, so this form contains every other.
    """
    if terms > 1:
        return low_rank(rows, columns, ratio, True)
    found = [Factors((rows, n1), (1, columns // n1)) for n1 in divisors(columns)]
    small = [factors for factors in found if factors.parameters * ratio <= rows * columns]
    return max(small, key=lambda factors: factors.parameters, default=None)


def divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


Rule = Callable[[int, int, float, bool], Factors | None]
"""Chooses factors. Arguments: rows, columns, how many times smaller the factors must be, whether
the matrix is the table of word embeddings. Returns None if there are no such factors."""


def sums_of(terms: int | None) -> Rule:
    """The rule for sums of ``terms`` Kronecker products; :func:`low_rank` for None."""
    if terms is None:
        return low_rank

    def rule(rows: int, columns: int, ratio: float, is_table: bool) -> Factors | None:
        choose = choose_table if is_table else choose_factors
        return choose(rows, columns, ratio, terms)

    return rule


def rank_of(rows: int, columns: int, ratio: float) -> int:
    """The largest rank at which columns times rows are ``ratio`` times smaller; 0 for none."""
    return int(rows * columns / ratio) // (rows + columns)


def entries(rows: int, columns: int, ratio: float) -> int:
    """Entries of a matrix factored into columns times rows, ``ratio`` times smaller.

    A matrix too small to be factored counts as whole. The entries are also the multiplications for
    one input.
    """
    rank = rank_of(rows, columns, ratio) if ratio > 1 else 0
    return rank * (rows + columns) if rank else rows * columns


def low_rank(rows: int, columns: int, ratio: float, _is_table: bool) -> Factors | None:
    """The rule of low rank: a sum of columns times rows, (m, 1) kron (1, n)."""
    rank = rank_of(rows, columns, ratio)
    return Factors((rows, 1), (1, columns), rank) if rank else None
