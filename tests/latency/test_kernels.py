import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency.kernels import SIZES, Kernel, kernels_of, lower
from supernet.architecture import Architecture, Layer
from supernet.batch import ArchitectureBatch
from supernet.errors import NasError

LAYERS = st.builds(
    lambda heads, size, *rest: Layer(heads, heads * size, *rest),
    st.integers(1, 12),
    st.integers(1, 64),
    st.integers(1, 3072),
    st.sampled_from([1, 1, 2, 5]),
)
ARCHITECTURES = st.builds(
    lambda hidden, layers: Architecture(hidden, tuple(layers)),
    st.integers(1, 768),
    st.lists(LAYERS, min_size=1, max_size=6),
)


def expected_kernels(architecture, first_token):
    """Straight from the description of BERT, one layer after the other."""
    hidden = architecture.hidden_size
    kernels = [Kernel("call", ()), Kernel("embedding", (hidden,)), Kernel("head", (hidden,))]
    for index, layer in enumerate(architecture.layers):
        last = first_token and index == architecture.num_layers - 1
        prefix = "first_token_" if last else ""
        rest = ()
        if layer.compression > 1:
            prefix, rest = f"{prefix}factored_", (layer.compression,)
        attention = (hidden, layer.num_heads, layer.qkv_size, *rest)
        kernels.append(Kernel(f"{prefix}attention", attention))
        kernels.append(Kernel(f"{prefix}feed_forward", (hidden, layer.intermediate_size, *rest)))
    return sorted(kernels)


@given(ARCHITECTURES, st.booleans())
def test_kernels_are_those_of_the_layers(architecture, first_token):
    kernels = kernels_of(architecture, first_token_last_layer=first_token)
    assert sorted(kernels) == expected_kernels(architecture, first_token)


@given(st.lists(ARCHITECTURES, min_size=1, max_size=8), st.booleans())
def test_a_batch_lowers_to_the_kernels_of_each(architectures, first_token):
    lowered = lower(ArchitectureBatch.of(architectures), first_token_last_layer=first_token)
    for row, architecture in enumerate(architectures):
        kernels = [Kernel("call", ())] + [
            Kernel(kind, tuple(map(int, sizes)))
            for kind, table in lowered.items()
            for sizes in table[row]
            if sizes.any()
        ]
        assert sorted(kernels) == expected_kernels(architecture, first_token)


def test_sizes_are_named():
    kernel = Kernel("attention", (384, 12, 192))
    assert (kernel["hidden_size"], kernel["num_heads"], kernel["qkv_size"]) == (384, 12, 192)
    assert kernel.layer == Layer(12, 192, 1)
    assert Kernel("factored_feed_forward", (8, 16, 4)).layer == Layer(1, 1, 16, 4)


def test_lowered_tables_have_the_sizes_columns():
    lowered = lower(
        ArchitectureBatch.of([Architecture(8, (Layer(1, 4, 2),) * 3)]), first_token_last_layer=True
    )
    for kind, table in lowered.items():
        assert table.shape[-1] == len(SIZES[kind])
        assert table.dtype == np.int64


def test_bad_kernels_are_refused():
    with pytest.raises(NasError, match="convolution"):
        Kernel("convolution", (3,))
    with pytest.raises(NasError, match="attention"):
        Kernel("attention", (3,))
