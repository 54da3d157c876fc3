import numpy as np
import pytest

from latency.calls import Calls, Subject, calls_of
from latency.kernels import Kernel
from latency.process import fit_posterior
from latency.target import Workload
from latency.terms import CACHES, kernel_terms, traffic, traffic_ms
from supernet.architecture import Architecture, Layer

WORKLOAD = Workload(1, 16)


def subjects(count, seed):
    """Models of up to three layers, and a few kernels."""
    rng = np.random.default_rng(seed)
    found = [
        Subject.kernel(Kernel("feed_forward", (int(h), 64)), WORKLOAD) for h in (16, 32, 48)
    ] + [Subject.kernel(Kernel("call", ()), WORKLOAD)]
    while len(found) < count:
        sizes = rng.integers(1, 4, size=(rng.integers(1, 4), 2))
        layers = tuple(Layer(2, 16 * int(q), 64 * int(f)) for q, f in sizes)
        found.append(Subject(Architecture(16 * int(rng.integers(1, 4)), layers), WORKLOAD))
    return found


def times_of(calls, rng, noise=0.0):
    """Each kernel a fixed sum of its terms, with 3% of its own for every shape."""
    total = np.zeros(len(calls))
    for kind, shapes in calls.shapes.items():
        own = 1 + 0.03 * np.sin(shapes.sum(axis=1))
        total += calls.counts[kind] @ (own * (0.01 + 1e-6 * kernel_terms(kind, shapes)[:, -1]))
    return total * np.exp(noise * rng.standard_normal(len(calls)))


@pytest.fixture(scope="module")
def fitted():
    calls = calls_of(subjects(40, 0), first_token_last_layer=False)
    times_ms = times_of(calls, np.random.default_rng(0), noise=0.01)
    return calls, times_ms, fit_posterior(calls, times_ms)


def covariance(posterior, first, second):
    """The prior covariance written out, kernel by kernel, in plain loops."""
    result = np.zeros((len(first), len(second)))
    prior = posterior.prior
    ours, theirs = prior.shares(first), prior.shares(second)
    for kind in ours:
        smooth, own = prior.deviations.smooth[kind], prior.deviations.own[kind]
        for a, shape_a in enumerate(first.shapes[kind]):
            for b, shape_b in enumerate(second.shapes.get(kind, ())):
                there = prior.points(kind, np.array([shape_a, shape_b]))
                r = np.sqrt(5) * np.linalg.norm(there[0] - there[1])
                value = smooth**2 * (1 + r + r * r / 3) * np.exp(-r)
                value += own**2 * float((shape_a == shape_b).all())
                result += value * np.outer(ours[kind][:, a], theirs[kind][:, b])
    result += prior.term_shares(first) @ prior.term_shares(second).T
    level = prior.deviations.level**2
    return result + level * prior.basis(first) @ prior.basis(second).T


def test_the_posterior_is_that_of_the_textbook(fitted):
    """Rasmussen and Williams (2006), eqs. 2.25 and 2.26, from a covariance in plain loops."""
    calls, times_ms, posterior = fitted
    new = calls_of(subjects(12, 1)[4:], first_token_last_layer=False)
    noise = posterior.prior.deviations.noise**2 * posterior.noise
    noisy = covariance(posterior, calls, calls) + np.diag(noise)
    cross = covariance(posterior, new, calls)
    expected = cross @ np.linalg.solve(noisy, times_ms / posterior.prior.times_ms(calls) - 1)
    variance = covariance(posterior, new, new) - cross @ np.linalg.solve(noisy, cross.T)
    covariance_of, variance_of = posterior.uncertainty(new, new)
    np.testing.assert_allclose(covariance_of, variance, atol=1e-9)
    np.testing.assert_allclose(variance_of, np.diag(variance), atol=1e-9)
    # The prediction is a product, (sum of shifted kernels) x (1 + level); to first order, the sum.
    prior = posterior.prior.times_ms(new)
    np.testing.assert_allclose(posterior.predict(new) / prior - 1, expected, atol=2e-3)


def test_left_out_residuals_are_those_of_a_fit_without(fitted):
    calls, times_ms, posterior = fitted
    residuals, deviations = posterior.given.left_out()
    noise = posterior.prior.deviations.noise**2 * posterior.noise
    noisy = covariance(posterior, calls, calls) + np.diag(noise)
    relative = times_ms / posterior.prior.times_ms(calls) - 1
    for row in (0, 7, 39):
        rest = np.arange(len(calls)) != row
        weights = np.linalg.solve(noisy[np.ix_(rest, rest)], noisy[rest, row])
        assert residuals[row] == pytest.approx(relative[row] - weights @ relative[rest])
        assert deviations[row] ** 2 == pytest.approx(noisy[row, row] - weights @ noisy[rest, row])


def test_left_out_errors_are_those_of_calls_not_seen():
    """Also where coefficients are as many as measurements, and would fit what they have seen."""
    rng = np.random.default_rng(3)
    told, true = [], []
    for seed in range(8):
        few = calls_of(subjects(24, seed), first_token_last_layer=False)
        many = calls_of(subjects(80, 100 + seed)[4:], first_token_last_layer=False)
        times_ms = times_of(few, rng, noise=0.03)
        posterior = fit_posterior(few, times_ms)
        residuals, _ = posterior.given.left_out()
        told.append(np.abs(residuals)[few.is_model].mean())
        true.append(np.abs(posterior.predict(many) / times_of(many, rng, noise=0.03) - 1).mean())
    assert np.mean(told) > 0.8 * np.mean(true)


def test_unseen_calls_are_predicted(fitted):
    _, _, posterior = fitted
    new = calls_of(subjects(60, 2), first_token_last_layer=False)
    expected = times_of(new, np.random.default_rng(0))
    assert np.abs(posterior.predict(new) / expected - 1).mean() < 0.015


def test_kernels_add_up(fitted):
    """A call of several kernels takes the sum of theirs, and what its weights cost."""
    _, _, posterior = fitted
    kernel = Kernel("feed_forward", (32, 128))
    calls = calls_of([Subject(kernel, WORKLOAD, copies) for copies in (1, 3)],
                     first_token_last_layer=False)  # fmt: skip
    one = posterior.kernel_ms("feed_forward", np.array([[1, 16, 32, 128]]))[0]
    call = posterior.kernel_ms("call", np.array([[1, 16]]))[0]
    weights = calls.extras @ posterior.extras
    np.testing.assert_allclose(posterior.predict(calls), call + one * np.array([1, 3]) + weights)


def test_an_outlier_does_not_pull(fitted):
    calls, times_ms, posterior = fitted
    wrong = times_ms.copy()
    wrong[20] *= 3
    pulled = fit_posterior(calls, wrong)
    new = calls_of(subjects(30, 3), first_token_last_layer=False)
    assert np.abs(pulled.predict(new) / posterior.predict(new) - 1).mean() < 0.05
    assert pulled.noise[20] > 3


def test_what_lowers_the_variance_most_is_chosen(fitted):
    """Greedily, against a posterior that is really given each candidate."""
    calls, _, posterior = fitted
    candidates = calls_of(subjects(16, 4)[4:], first_token_last_layer=False)
    pool = calls_of(subjects(34, 5)[4:], first_token_last_layer=False)
    cost = np.linspace(1, 2, len(candidates))
    chosen = posterior.gains(candidates, pool, 2, cost)

    def variance_with(rows):
        known = covariance(posterior, calls, calls)
        noise = posterior.prior.deviations.noise**2
        extra = candidates.take(np.array(rows, dtype=np.int64))
        top = np.hstack(
            [known + noise * np.diag(posterior.noise), covariance(posterior, calls, extra)]
        )
        bottom = np.hstack([
            covariance(posterior, extra, calls),
            covariance(posterior, extra, extra) + noise * np.eye(len(rows)),
        ])  # fmt: skip
        both = np.vstack([top, bottom])
        cross = np.hstack([covariance(posterior, pool, calls), covariance(posterior, pool, extra)])
        return np.trace(covariance(posterior, pool, pool) - cross @ np.linalg.solve(both, cross.T))

    before = variance_with([])
    gains = [(before - variance_with([row])) / cost[row] for row in range(len(candidates))]
    assert chosen[0] == int(np.argmax(gains))
    after = variance_with([chosen[0]])
    gains = [
        -1 if row == chosen[0] else (after - variance_with([chosen[0], row])) / cost[row]
        for row in range(len(candidates))
    ]
    assert chosen[1] == int(np.argmax(gains))


def test_traffic_is_what_caches_miss():
    streamed, other = np.array([0.1, 3.0, 0.0]), np.array([0.1, 5.0, 40.0])
    table = traffic(streamed, other)
    cache = int(np.flatnonzero(CACHES == 2.0)[0])
    np.testing.assert_allclose(table[:, cache], [0.0, 3.0 * (1 - 2 / 8), 0.0])
    np.testing.assert_allclose(table[:, len(CACHES) + cache], [0.0, 5.0 * 0.75, 40.0 * 0.95])
    coefficients = np.random.default_rng(0).random(2 * len(CACHES))
    coefficients[::3] = 0.0
    np.testing.assert_allclose(traffic_ms(streamed, other, coefficients), table @ coefficients)


def test_calls_are_taken_by_row(fitted):
    calls, _, _ = fitted
    some: Calls = calls.take(np.array([3, 5]))
    assert len(some) == 2
    np.testing.assert_array_equal(some.extras, calls.extras[[3, 5]])
