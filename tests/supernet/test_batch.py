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
    assert list(batch.take(np.arange(len(rows))[::-1])) == rows[::-1]
