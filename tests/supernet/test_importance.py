from typing import Any

import torch
from transformers import BertForSequenceClassification

from supernet.architecture import Architecture
from supernet.importance import Importance, head_orders, measure_importance, reorder
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


def test_importance_of_every_unit_of_the_first_layer(
    bert: BertForSequenceClassification, inputs: Inputs
) -> None:
    """There every token has a gradient; texts of two batches are added up, one by one by hand."""
    batches = [inputs, {name: values[1:2, :7].flip(1) for name, values in inputs.items()}]
    importance = measure_importance(bert, batches, generator=torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(7)
    layer = bert.bert.encoder.layer[0]
    modules = {
        "queries": layer.attention.self.query,
        "values": layer.attention.self.value,
        "neurons": layer.intermediate,
    }
    hidden = [bert.bert.embeddings]
    for one in bert.bert.encoder.layer:
        hidden += [one.attention.output, one.output]
    modules |= {f"hidden {number}": module for number, module in enumerate(hidden)}
    expected = dict.fromkeys(["queries", "values", "neurons", "hidden"], torch.zeros(()))
    for batch in batches:
        directions = torch.randn(len(batch["input_ids"]), 3, generator=generator)
        for row, direction in enumerate(directions):
            outputs: dict[str, torch.Tensor] = {}

            def keep(name: str, output: torch.Tensor, outputs: Any = outputs) -> None:
                outputs[name] = output

            hooks = [
                module.register_forward_hook(
                    lambda _m, _i, out, name=name, keep=keep: keep(name, out)
                )
                for name, module in modules.items()
            ]
            logits = bert(**{name: values[row : row + 1] for name, values in batch.items()}).logits
            for hook in hooks:
                hook.remove()
            gradients = torch.autograd.grad(logits[0] @ direction, list(outputs.values()))
            for (name, output), gradient in zip(outputs.items(), gradients, strict=True):
                terms = (output[0].detach() * gradient[0]).sum(dim=0).square()
                unit = name.partition(" ")[0]
                expected[unit] = expected[unit] + terms
    found = importance.layers[0]
    torch.testing.assert_close(found.queries, expected["queries"].view(4, 8), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.values, expected["values"].view(4, 8), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.neurons, expected["neurons"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(importance.hidden, expected["hidden"], rtol=1e-4, atol=1e-6)


def test_the_most_important_units_come_first(
    bert: BertForSequenceClassification, inputs: Inputs
) -> None:
    """Of a reordered model every importance that orders slices falls."""

    def measured() -> Importance:
        return measure_importance(bert, [inputs], generator=torch.Generator().manual_seed(0))

    reorder(bert, measured())
    again = measured()
    for layer in again.layers:
        units = (layer.neurons, layer.values.sum(dim=1), *layer.values, *layer.queries)
        assert all((one.diff() <= 1e-4 * one[:-1].abs()).all() for one in units)
    assert (again.hidden.diff() <= 1e-4 * again.hidden[:-1]).all()


def test_measuring_leaves_a_model_in_its_mode(
    bert: BertForSequenceClassification, inputs: Inputs
) -> None:
    bert.train()
    trained = measure_importance(bert, [inputs], generator=torch.Generator().manual_seed(0))
    assert bert.training
    assert not list(bert.bert.embeddings._forward_hooks)
    bert.eval()
    again = measure_importance(bert, [inputs], generator=torch.Generator().manual_seed(0))
    assert not bert.training
    torch.testing.assert_close(trained.hidden, again.hidden)
