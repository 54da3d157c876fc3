import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from tests.supernet.test_architecture import architectures


@given(st.lists(architectures, max_size=8))
def test_a_batch_gives_back_its_architectures(rows: list[Architecture]) -> None:
    batch = ArchitectureBatch.of(rows)
    assert list(batch) == rows
    assert batch.over_layers(batch.weights).tolist() == [
        sum(layer.weights(row.hidden_size) for layer in row.layers) for row in rows
    ]
    assert batch.of_last(batch.weights).tolist() == [
        row.layers[-1].weights(row.hidden_size) for row in rows
    ]
    assert list(batch.take(np.arange(len(rows))[::-1])) == rows[::-1]


@given(st.lists(st.lists(architectures, max_size=3), min_size=1, max_size=3))
def test_batches_of_other_depths_are_joined(parts: list[list[Architecture]]) -> None:
    joined = ArchitectureBatch.join(*map(ArchitectureBatch.of, parts))
    assert list(joined) == [one for part in parts for one in part]
