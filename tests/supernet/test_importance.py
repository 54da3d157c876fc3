import torch
from transformers import BertForSequenceClassification

from supernet.architecture import Architecture
from supernet.importance import head_orders, measure_importance, reorder
from supernet.model import Supernet

Inputs = dict[str, torch.Tensor]


def test_reordering_preserves_the_function(
    bert: BertForSequenceClassification, inputs: Inputs
) -> None:
    with torch.no_grad():
        before = bert(**inputs).logits
        weights = bert.bert.encoder.layer[0].intermediate.dense.weight.clone()
    generator = torch.Generator().manual_seed(0)
    reorder(bert, measure_importance(bert, [inputs], generator=generator))
    with torch.no_grad():
        torch.testing.assert_close(bert(**inputs).logits, before, atol=1e-5, rtol=0)
    assert not torch.equal(bert.bert.encoder.layer[0].intermediate.dense.weight, weights)


def test_units_that_do_nothing_go_last(bert: BertForSequenceClassification, inputs: Inputs) -> None:
    """Silence the first heads and neurons: after reordering, slices without them lose nothing."""
    with torch.no_grad():
        for layer in bert.bert.encoder.layer:
            layer.attention.output.dense.weight[:, :16] = 0  # the first two heads of four
            layer.output.dense.weight[:, :32] = 0  # the first half of the neurons
        expected = bert(**inputs).logits
    generator = torch.Generator().manual_seed(0)
    reorder(bert, measure_importance(bert, [inputs], generator=generator))
    supernet = Supernet.from_teacher(bert).eval()

    half = Architecture.uniform(
        num_layers=2, hidden_size=32, num_heads=2, qkv_size=16, intermediate_size=32
    )
    with torch.no_grad():
        ours = supernet(**inputs, architecture=half).logits
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def test_orders_keep_heads_whole(bert: BertForSequenceClassification, inputs: Inputs) -> None:
    importance = measure_importance(bert, [inputs], generator=torch.Generator().manual_seed(0))
    for layer in importance.layers:
        queries, values = head_orders(layer)
        assert sorted(queries.tolist()) == sorted(values.tolist()) == list(range(32))
        assert torch.equal(queries.view(4, 8) // 8, values.view(4, 8) // 8)


def test_importance_is_the_mean_taylor_term(
    bert: BertForSequenceClassification, inputs: Inputs
) -> None:
    """Of one neuron: (sum over tokens of activation times gradient) squared, by hand."""
    generator = torch.Generator().manual_seed(7)
    importance = measure_importance(bert, [inputs], generator=generator)
    direction = torch.randn(4, 3, generator=torch.Generator().manual_seed(7))
    activation = {}
    hook = bert.bert.encoder.layer[1].intermediate.register_forward_hook(
        lambda _m, _i, output: activation.update(output=output)
    )
    logits = bert(**inputs).logits
    hook.remove()
    (gradient,) = torch.autograd.grad((logits * direction).sum(), activation["output"])
    expected = (activation["output"] * gradient).sum(dim=1).square().sum(dim=0)
    torch.testing.assert_close(importance.layers[1].neurons, expected.detach())
