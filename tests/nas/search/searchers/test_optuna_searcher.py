"""Optuna's samplers keep what every searcher promises, and cost no evaluation beyond the limits."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("optuna", reason="needs tailorbert[optuna]")

import optuna

from nas.search.constraints import FloatArray, Limits
from nas.search.front import non_dominated
from nas.search.goals import Goal, Goals
from nas.search.optuna_space import compose, dimensions, suggest, suggested, values
from nas.search.pool import Pool, build_pool
from nas.search.searcher import Searcher
from nas.search.searchers.optuna_searcher import OptunaSearch
from nas.search.settings import SearchSettings
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.configs import load_space
from supernet.errors import NasError
from supernet.space import SearchSpace

TINY = load_space("tiny")
SPACE = SearchSpace(
    name="uniform",
    num_layers=(1, 2, 3, 4),
    hidden_size=tuple(range(32, 257, 32)),
    num_heads=(1, 2, 4, 8),
    qkv_size=tuple(range(32, 257, 32)),
    intermediate_size=tuple(range(64, 513, 64)),
)
LAYERED = SearchSpace.from_dict(SPACE.to_dict() | {"name": "layered", "uniform": False})
NATIVE = SearchSpace.from_dict(
    SPACE.to_dict() | {"name": "native", "qkv_size": "hidden_size", "compression": [1, 2]}
)
QUICK = ("tpe", "nsga2", "nsga3", "cmaes")
SEVERAL = ("tpe", "nsga2", "nsga3")

quick_samplers = pytest.mark.parametrize("sampler", QUICK)


def latency(batch: ArchitectureBatch) -> FloatArray:
    width = batch.over_layers(4 * batch.qkv_size + 2 * batch.intermediate_size)
    return 0.1 + 0.05 * batch.num_layers + 1e-6 * batch.hidden_size * width


def score(architectures: Sequence[Architecture]) -> FloatArray:
    batch = ArchitectureBatch.of(list(architectures))
    qkv, heads = batch.qkv_size.max(1), batch.num_heads[:, 0]
    return 1 - 4 / batch.hidden_size - 0.1 / batch.num_layers - 3 / qkv - 0.02 * heads


def surroundings(space: SearchSpace, near: float, *budgets: float) -> tuple[Goals, Pool]:
    goals = Goals(tuple(Goal(latency, Limits(one), least_usage=near) for one in budgets))
    return goals, build_pool(space, goals, max_enumerated=10**5, rng=np.random.default_rng(0))


def allowed(goals: Goals, pool: Pool) -> NDArray[np.intp]:
    return np.flatnonzero(goals.allow(pool.usage))


def searcher(
    sampler: str, space: SearchSpace = SPACE, *budgets: float, near: float = 0.6, seed: int = 3
) -> OptunaSearch:
    goals, pool = surroundings(space, near, *(budgets or (0.4,)))
    chosen = SearchSettings(algorithm=f"optuna-{sampler}", seed=seed)
    return OptunaSearch(space, goals, pool, chosen)


def run(search: Searcher, rounds: int, count: int = 4) -> list[Architecture]:
    """Ask and tell; everything asked for, in order."""
    asked: list[Architecture] = []
    for _ in range(rounds):
        batch = search.ask(count)
        search.tell(batch, score(batch))
        asked += batch
    return asked


@quick_samplers
def test_proposals_are_distinct_and_keep_to_the_limits(sampler):
    asked = run(searcher(sampler), 4)
    ms = latency(ArchitectureBatch.of(asked))
    assert len(set(asked)) == len(asked) == 16
    assert all(architecture in SPACE for architecture in asked)
    assert (ms <= 0.4).all()
    assert (ms >= 0.6 * 0.4).all()


@quick_samplers
@pytest.mark.parametrize("space", [LAYERED, NATIVE], ids=lambda space: space.name)
def test_every_kind_of_space_is_searched(sampler, space):
    asked = run(searcher(sampler, space), 6)
    assert len(set(asked)) == 24
    assert all(architecture in space for architecture in asked)


@pytest.mark.parametrize("sampler", SEVERAL)
def test_several_budgets_are_searched_up_to_the_loosest(sampler):
    asked = run(searcher(sampler, SPACE, 0.25, 0.4), 10)
    ms = latency(ArchitectureBatch.of(asked))
    assert len(set(asked)) == 40
    assert (ms <= 0.4).all()
    assert (ms >= 0.6 * 0.25).all()
    assert len(non_dominated(ms, score(asked))) > 1
    assert ((ms > 0.25) & (ms < 0.3)).any()


@quick_samplers
def test_the_seed_decides(sampler):
    first, same, other = (run(searcher(sampler, seed=seed), 3) for seed in (3, 3, 4))
    assert first == same
    assert first != other


@quick_samplers
def test_telling_stored_scores_restores_the_state(sampler):
    undisturbed = searcher(sampler)
    stored = run(undisturbed, 3)
    restored = searcher(sampler)
    restored.tell(stored, score(stored))
    assert run(restored, 2, count=1) == run(undisturbed, 2, count=1)


def test_a_gaussian_process_keeps_the_same_promises(capfd):
    """In one test, as each of its proposals takes a second."""
    plain, busy = searcher("gp"), searcher("gp")
    told = plain.pool.draw(plain.rows, 12, np.random.default_rng(0), lambda a: False)
    plain.tell(told, score(told))
    busy.tell(told[:3], score(told[:3]))
    (asked,) = busy.ask(1)
    busy.tell([*told[3:], asked], score([*told[3:], asked]))
    plain.tell([asked], score([asked]))
    first = plain.ask(2)
    assert first == busy.ask(2)
    assert len({*told, asked, *first}) == 15
    assert all(architecture in SPACE for architecture in first)
    assert plain.goals.allow(plain.goals.usage(first)).all()
    assert capfd.readouterr() == ("", "")


@quick_samplers
@settings(max_examples=8)
@given(data=st.data())
def test_proposals_follow_from_what_was_told_and_from_what_is_pending(sampler, data):
    """However the asks fell, and whatever of it was never asked for."""
    pool = list(surroundings(TINY, 0.0, 0.2)[1].batch(np.arange(30)))
    told = data.draw(st.lists(st.sampled_from(pool), max_size=20, unique=True))
    cut = data.draw(st.integers(0, len(told)))
    plain, busy = (searcher(sampler, TINY, 0.2, near=0.0) for _ in range(2))
    plain.tell(told, score(told))
    busy.tell(told[:cut], score(told[:cut]))
    asked = busy.ask(2)
    busy.tell(told[cut:], score(told[cut:]))
    rest = [architecture for architecture in asked if architecture not in told]
    plain.expect(rest)
    assert busy.ask(3) == plain.ask(3)


@quick_samplers
def test_what_is_being_evaluated_is_not_proposed_again(sampler):
    search = searcher(sampler)
    run(search, 3)
    waiting = search.ask(4) + search.ask(4) + search.ask(4)
    assert len(set(waiting)) == 12


@quick_samplers
def test_a_space_is_exhausted_once_and_without_repeats(sampler):
    goals, pool = surroundings(TINY, 0.98, 0.153)
    asked = run(searcher(sampler, TINY, 0.153, near=0.98), 4, count=8)
    assert len(asked) > 8
    assert set(asked) == set(pool.batch(allowed(goals, pool)))
    assert len(set(asked)) == len(asked)


@quick_samplers
def test_proposals_become_better_than_chance(sampler):
    goals, pool = surroundings(SPACE, 0.6, 0.4)
    of_all = score(list(pool.batch(allowed(goals, pool))))
    late = [score(run(searcher(sampler, seed=seed), 16)[-16:]) for seed in range(2)]
    assert np.mean(late) > of_all.mean() + 0.5 * of_all.std()


def test_a_proposal_beyond_the_limits_is_told_as_infeasible_and_known_ones_with_their_score():
    class Fixed(optuna.samplers.RandomSampler):
        """Proposes the largest architecture, then a known one, then a new one."""

        def sample_independent(self, study, trial, name, distribution):
            one = [SPACE.largest, known, fresh][min(trial.number - len(told), 2)]
            return values(one, [name])[name]

    search = searcher("tpe")
    told = search.ask(2)
    search.tell(told, [0.3, 0.5])
    known, fresh = (
        told[1],
        search.pool.draw(search.rows, 1, np.random.default_rng(9), told.__contains__)[0],
    )
    study = search._study(0)
    study.sampler = Fixed()
    assert search._offered(study, told.__contains__) == fresh
    beyond, again, running = study.trials[2:]
    assert beyond.constraints["limits"] == pytest.approx(
        latency(ArchitectureBatch.of([SPACE.largest]))[0] / 0.4 - 1
    )
    assert (again.value, again.constraints["limits"] <= 0) == (0.5, True)
    assert running.state == optuna.trial.TrialState.RUNNING


@quick_samplers
def test_nothing_of_optunas_reaches_the_terminal(sampler, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        run(searcher(sampler), 2)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == optuna.logging.INFO


@pytest.mark.parametrize(
    ("sampler", "space", "budgets", "named"),
    [
        ("cmaes", SPACE, (0.3, 0.4), "for one budget, not 2"),
        (
            "cmaes",
            SearchSpace("one", (1, 2), (32,), (2,), None, (64,)),
            (0.4,),
            "at least 2 dimensions",
        ),
    ],
)
def test_what_a_sampler_does_not_support_is_said(sampler, space, budgets, named):
    with pytest.raises(NasError, match=named):
        searcher(sampler, space, *budgets)


@quick_samplers
@pytest.mark.parametrize(
    ("told", "scores", "named"),
    [
        ([SPACE.smallest], [0.5, 0.5], "as many scores"),
        ([SPACE.smallest], [float("nan")], "finite"),
        ([TINY.smallest], [0.5], "not in space uniform"),
    ],
)
def test_scores_that_cannot_be_told_are_refused(sampler, told, scores, named):
    with pytest.raises(NasError, match=named):
        searcher(sampler).tell(told, scores)


@pytest.mark.parametrize("space", [TINY, SPACE, LAYERED, NATIVE], ids=lambda space: space.name)
def test_a_trial_suggests_every_dimension_and_architectures_of_the_space(space):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen: dict[str, set[int]] = {}
    for _ in range(150):
        trial = study.ask()
        architecture = suggest(trial, space)
        assert architecture in space
        assert trial.params.keys() == suggested(space, architecture).keys()
        study.tell(trial, 0.0)
        for name, value in trial.params.items():
            seen.setdefault(name, set()).add(value)
    assert {name: tuple(sorted(found)) for name, found in seen.items()} == dimensions(space)
    fields = ["num_heads", "intermediate_size", *(["qkv_size"] if space.qkv_size else [])]
    layers = range(1 if space.uniform else max(space.num_layers))
    named = {f"{name}_{index}" for name in fields for index in layers}
    assert {"num_layers", "hidden_size", *named} <= seen.keys()


@pytest.mark.parametrize("space", [TINY, SPACE, LAYERED, NATIVE], ids=lambda space: space.name)
@given(seed=st.integers(0, 2**32))
def test_an_architectures_values_make_it_again(space, seed):
    architecture = space.sample(np.random.default_rng(seed))
    chosen = values(architecture, dimensions(space))
    assert compose(space, lambda name, choices: chosen.get(name, choices[0])) == architecture
    partly = suggested(space, architecture)
    assert compose(space, lambda name, choices: partly.get(name, choices[0])) == architecture
