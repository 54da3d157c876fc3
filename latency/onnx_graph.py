"""Writes a BERT classifier, or one of its kernels, as an ONNX model, without PyTorch.

The graph is made of the operators that ONNX Runtime's own BERT fusions end in (``Attention``,
``SkipLayerNormalization``, ``BiasGelu``, ``EmbedLayerNormalization``), so that nothing is left to
pattern matching. A classifier reads the first token alone, so the last layer computes that token
alone, without ever forming keys or values: with q the scaled query of the first token and X the
layer's input,

    softmax(q K^T + mask) V = softmax((q W_k) X^T + mask) X W_v^T + b_v

for b_k adds the same to all scores of a row, which softmax does not see, and the probabilities
of a row sum to one. Keys and values of factored matrices are formed: nothing is saved otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from latency.kernels import HIDDEN, OUTPUT, STACKED, Kernel
from latency.onnx_builder import MICROSOFT, GraphBuilder
from latency.weights import (
    FloatArray,
    Weights,
    checked_weights,
    factors_of,
    layer_prefix,
    random_weights,
)
from supernet.architecture import Architecture, EncoderShape, Layer
from supernet.errors import NasError

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
"""Accepted activations, by their names in transformers: GELU, GELU by tanh (two names), ReLU."""

WORDS = "bert.embeddings.word_embeddings.weight"

_MASKED = float(np.finfo(np.float32).min)  # what transformers adds to a masked score


def classifier_model(
    architecture: Architecture,
    shape: EncoderShape,
    weights: Weights | None = None,
    *,
    layer_norm_eps: float = 1e-12,
    seed: int = 0,
) -> onnx.ModelProto:
    """A whole sequence classifier.

    Args:
        weights: by the names of ``transformers.BertForSequenceClassification``'s state dict;
            None draws random ones from ``seed``.

    Returns:
        A model from int64 ``input_ids``, ``attention_mask`` and ``token_type_ids``, each
        (batch, sequence), to float32 ``logits`` (batch, num_labels).

    Raises:
        NasError: an activation without an ONNX form, a weight missing or of another shape.
    """
    check_activation(shape)
    if weights is None:
        weights = random_weights(architecture, shape, np.random.default_rng(seed))
    checked = checked_weights(weights, architecture, shape)
    bert = _BertWriter(checked, shape.hidden_act, layer_norm_eps)
    for name in INPUTS:
        bert.graph.tokens(name)
    hidden = bert.embedding()
    for index, layer in enumerate(architecture.layers[:-1]):
        hidden = bert.attention(index, layer, hidden)
        hidden = bert.feed_forward(index, hidden)
    last = architecture.num_layers - 1
    hidden = bert.first_token_attention(last, architecture.layers[last], hidden)
    hidden = bert.feed_forward(last, hidden)
    return bert.graph.model(bert.head(hidden), ["batch", shape.num_labels])


def kernel_model(
    kernel: Kernel, shape: EncoderShape, *, copies: int = 1, seed: int = 0
) -> onnx.ModelProto:
    """``copies`` of a kernel in one graph, each with random weights of its own.

    Blocks stand in a chain; attentions of the first token stand side by side, since each reads
    the whole sequence. The model reads those of :data:`INPUTS` that the kernel does, and
    ``hidden``, float32 (batch, sequence, hidden_size), or (batch, 1, hidden_size) for the
    feed-forward network of the first token.

    Raises:
        NasError: more than one copy of a kernel that a model has once, or an activation without
            an ONNX form.
    """
    check_activation(shape)
    if copies > 1 and kernel.kind not in STACKED:
        raise NasError(f"a model has one {kernel.kind}, so copies must be 1, not {copies}")
    layer = kernel.layer
    hidden_size = 1 if kernel.kind == "call" else kernel["hidden_size"]
    architecture = Architecture(hidden_size, (layer,) * copies)
    weights = random_weights(architecture, shape, np.random.default_rng(seed))
    bert = _BertWriter(weights, shape.hidden_act, 1e-12)
    if kernel.kind in ("call", "embedding"):
        for name in INPUTS:
            bert.graph.tokens(name)
        if kernel.kind == "call":
            output = bert.float_mask()
        else:
            output = bert.embedding()
        return bert.graph.model(output, ["batch", "sequence", *kernel.sizes])
    first_alone = kernel.kind.startswith("first_token")
    tokens = 1 if first_alone and kernel.kind.endswith("feed_forward") else "sequence"
    hidden = bert.graph.hidden(HIDDEN, tokens, architecture.hidden_size)
    if kernel.kind == "head":
        return bert.graph.model(bert.head(hidden), ["batch", shape.num_labels])
    if kernel.kind.endswith("attention"):
        bert.graph.tokens("attention_mask")
    if first_alone and kernel.kind.endswith("attention"):
        first = [bert.first_token_attention(i, layer, hidden) for i in range(copies)]
        hidden, tokens = bert.graph.add("Sum", *first), 1
    else:
        for index in range(copies):
            if kernel.kind.endswith("attention"):
                hidden = bert.attention(index, layer, hidden)
            else:
                hidden = bert.feed_forward(index, hidden)
    return bert.graph.model(hidden, ["batch", tokens, architecture.hidden_size])


def check_activation(shape: EncoderShape) -> None:
    """Refuse an activation that no exported model can have.

    Raises:
        NasError: one that is not in :data:`ACTIVATIONS`.
    """
    if shape.hidden_act not in ACTIVATIONS:
        raise NasError(
            f"hidden_act must be one of {', '.join(ACTIVATIONS)}, not {shape.hidden_act!r}"
        )


class _BertWriter:
    """The parts of BERT, each appended to one graph; values are named by strings."""

    def __init__(self, weights: Weights, hidden_act: str, layer_norm_eps: float) -> None:
        self.graph = GraphBuilder()
        self._weights = weights
        self._hidden_act = hidden_act
        self._epsilon = layer_norm_eps
        self._masks: dict[str, str] = {}

    def embedding(self) -> str:
        """Word, position and segment embeddings, normalized: (batch, tokens, hidden)."""
        if factors_of(self._weights, WORDS) is not None:
            return self._factored_embedding()
        ids, segments = (
            self.graph.add("Cast", name, to=onnx.TensorProto.INT32)
            for name in ("input_ids", "token_type_ids")
        )
        tables = [
            self._weight(f"bert.embeddings.{table}_embeddings.weight")
            for table in ("word", "position", "token_type")
        ]
        norm = self._normalization("bert.embeddings.")
        return self.graph.add(
            "EmbedLayerNormalization",
            *(ids, segments, *tables, *norm),
            unread_outputs=1,  # a mask index that the operator always has
            domain=MICROSOFT,
            epsilon=self._epsilon,
        )

    def attention(self, index: int, layer: Layer, hidden: str) -> str:
        """Self-attention, its output projection, residual and normalization."""
        prefix = f"{layer_prefix(index)}attention."
        projections = [f"{prefix}self.{name}" for name in ("query", "key", "value")]
        if self._any_factored(projections):
            context = self._attended(projections, layer, hidden, hidden)
            return self._residual(f"{prefix}output.", context, hidden)
        weight = np.concatenate([self._weights[f"{p}.weight"] for p in projections]).T
        bias = np.concatenate([self._weights[f"{p}.bias"] for p in projections])
        context = self.graph.add(
            "Attention",
            hidden,
            self.graph.constant(f"{prefix}self.qkv.weight", weight),
            self.graph.constant(f"{prefix}self.qkv.bias", bias),
            self._mask("integer"),
            domain=MICROSOFT,
            num_heads=layer.num_heads,
            mask_filter_value=_MASKED,
        )
        return self._residual(f"{prefix}output.", context, hidden)

    def first_token_attention(self, index: int, layer: Layer, hidden: str) -> str:
        """As :meth:`attention`, for the first token's output only: (batch, 1, hidden)."""
        heads, size, width = layer.num_heads, layer.head_size, layer.qkv_size
        prefix = f"{layer_prefix(index)}attention."
        query, key, value = (f"{prefix}self.{name}" for name in ("query", "key", "value"))
        add, integers = self.graph.add, self.graph.integers

        def constant(name: str, values: FloatArray) -> str:
            return self.graph.constant(f"{name}.first_token", values.astype(np.float32))

        first = add("Slice", hidden, integers(0), integers(1), integers(1))  # (batch, 1, hidden)
        if self._any_factored([query, key, value]):
            context = self._attended([query, key, value], layer, first, hidden)
            return self._residual(f"{prefix}output.", context, first)

        scale = size**-0.5
        w_query = constant(f"{query}.weight", self._weights[f"{query}.weight"].T * scale)
        b_query = constant(f"{query}.bias", self._weights[f"{query}.bias"] * scale)
        per_head = (heads, size, -1)  # (heads, head_size, hidden)
        w_key = constant(f"{key}.weight", self._weights[f"{key}.weight"].reshape(per_head))
        w_value = self._weights[f"{value}.weight"].reshape(per_head).transpose(0, 2, 1)

        queries = add("Add", add("MatMul", first, w_query), b_query)  # (batch, 1, qkv)
        queries = add("Reshape", queries, integers(0, heads, 1, size))
        queries = add("MatMul", queries, w_key)  # (batch, heads, 1, hidden)
        queries = add("Squeeze", queries, integers(2))
        scores = add("MatMul", queries, add("Transpose", hidden, perm=[0, 2, 1]))
        masked = add("Add", scores, self._mask("additive"))  # (batch, heads, tokens)
        mixed = add("MatMul", add("Softmax", masked, axis=-1), hidden)  # (batch, heads, hidden)
        mixed = add("Unsqueeze", mixed, integers(2))
        context = add("MatMul", mixed, constant(f"{value}.weight", w_value))
        context = add("Reshape", context, integers(0, 1, width))
        context = add("Add", context, self._weight(f"{value}.bias"))
        return self._residual(f"{prefix}output.", context, first)

    def feed_forward(self, index: int, hidden: str) -> str:
        """The feed-forward network, residual and normalization, for any number of tokens."""
        prefix = layer_prefix(index)
        inner = self._product(hidden, f"{prefix}intermediate.dense.weight")
        bias = self._weight(f"{prefix}intermediate.dense.bias")
        if self._hidden_act == "relu":
            inner = self.graph.add("Relu", self.graph.add("Add", inner, bias))
        else:
            operator = "BiasGelu" if self._hidden_act == "gelu" else "FastGelu"
            inner = self.graph.add(operator, inner, bias, domain=MICROSOFT)
        return self._residual(f"{prefix}output.", inner, hidden)

    def head(self, hidden: str) -> str:
        """The pooler's tanh of the first token, then the classifier: (batch, num_labels)."""
        index = self.graph.constant("first_token", np.array(0, np.int64))
        pooled = self.graph.add("Gather", hidden, index, axis=1)
        for name in ("bert.pooler.dense", "classifier"):
            if name == "classifier":
                pooled = self.graph.add("Tanh", pooled)
            matrix = self._matrix(f"{name}.weight")
            output = OUTPUT if name == "classifier" else ""
            pooled = self.graph.add(
                "Gemm", pooled, matrix, self._weight(f"{name}.bias"), output=output
            )
        return pooled

    def float_mask(self) -> str:
        """The attention mask as float32, (batch, tokens)."""
        return self.graph.add("Cast", "attention_mask", to=onnx.TensorProto.FLOAT)

    def _mask(self, form: str) -> str:
        """The mask as int32, (batch, tokens), or to be added to scores, (batch, 1, tokens)."""
        if form not in self._masks:
            if form == "integer":
                mask = self.graph.add("Cast", "attention_mask", to=onnx.TensorProto.INT32)
            else:
                one = self.graph.constant("one", np.array(1, np.float32))
                masked = self.graph.constant("masked", np.array(_MASKED, np.float32))
                absent = self.graph.add("Sub", one, self.float_mask())
                mask = self.graph.add("Mul", absent, masked)
                mask = self.graph.add("Unsqueeze", mask, self.graph.integers(1))
            self._masks[form] = mask
        return self._masks[form]

    def _residual(self, prefix: str, inner: str, residual: str) -> str:
        """Linear back to the hidden size, residual, normalization."""
        projected = self._product(inner, f"{prefix}dense.weight")
        norm = self._normalization(prefix)
        bias = self._weight(f"{prefix}dense.bias")
        return self.graph.add(
            "SkipLayerNormalization",
            *(projected, residual, *norm, bias),
            domain=MICROSOFT,
            epsilon=self._epsilon,
        )

    def _factored_embedding(self) -> str:
        """As :meth:`embedding`, if the word table is a sum of Kronecker products."""
        add, constant, integers = self.graph.add, self.graph.constant, self.graph.integers
        factors = factors_of(self._weights, WORDS)
        assert factors is not None, "the caller has looked"
        left, right = factors  # (terms, words, n1), (terms, 1, n2)
        terms, words, n1 = left.shape
        rows = constant("words.left", left.transpose(1, 2, 0).reshape(words, n1 * terms))
        found = add("Reshape", add("Gather", rows, "input_ids"), integers(0, 0, n1, terms))
        found = add("MatMul", found, constant("words.right", right[:, 0]))  # (..., n1, n2)
        found = add("Reshape", found, integers(0, 0, n1 * right.shape[2]))
        segments = self._weight("bert.embeddings.token_type_embeddings.weight")
        found = add("Add", found, add("Gather", segments, "token_type_ids"))
        tokens = add("Slice", add("Shape", "input_ids"), integers(1), integers(2))
        table = self._weight("bert.embeddings.position_embeddings.weight")
        found = add("Add", found, add("Slice", table, integers(0), tokens, integers(0)))
        norm = self._normalization("bert.embeddings.")
        return add("LayerNormalization", found, *norm, axis=-1, epsilon=self._epsilon)

    def _any_factored(self, projections: Sequence[str]) -> bool:
        return any(factors_of(self._weights, f"{p}.weight") is not None for p in projections)

    def _attended(self, projections: Sequence[str], layer: Layer, queried: str, hidden: str) -> str:
        """Attention of tokens of ``queried`` to tokens of ``hidden``, by separate projections."""
        parts = [
            self._product(source, f"{name}.weight")
            for source, name in zip((queried, hidden, hidden), projections, strict=True)
        ]
        bias = np.concatenate([self._weights[f"{name}.bias"] for name in projections])
        return self.graph.add(
            "MultiHeadAttention",
            *parts,
            self.graph.constant(f"{projections[0]}.qkv.bias", bias.astype(np.float32)),
            self._mask("integer"),
            domain=MICROSOFT,
            num_heads=layer.num_heads,
            mask_filter_value=_MASKED,
        )

    def _product(self, inputs: str, name: str) -> str:
        """Inputs times a linear layer's weight, whole or factored; (batch, tokens, outputs)."""
        factors = factors_of(self._weights, name)
        if factors is None:
            return self.graph.add("MatMul", inputs, self._matrix(name))
        add, integers = self.graph.add, self.graph.integers
        left, right = (factor.astype(np.float32, copy=False) for factor in factors)
        terms, m1, n1 = left.shape
        _, m2, n2 = right.shape
        if n1 == m2 == 1:  # columns times rows: two plain products
            inner = add("MatMul", inputs, self.graph.constant(f"{name}.right", right[:, 0].T))
            return add("MatMul", inner, self.graph.constant(f"{name}.left", left[..., 0]))
        inner = add("Reshape", inputs, integers(0, 0, n1, n2))
        if n1 * n2 * m2 + m1 * n1 * m2 <= m1 * n1 * n2 + m1 * n2 * m2:
            first = self.graph.constant(f"{name}.right", right.reshape(terms * m2, n2).T)
            inner = add("MatMul", inner, first)  # (..., n1, terms m2)
            if terms > 1:
                inner = add("Reshape", inner, integers(0, 0, n1, terms, m2))
                inner = add("Transpose", inner, perm=[0, 1, 3, 2, 4])
                inner = add("Reshape", inner, integers(0, 0, terms * n1, m2))
            flat = left.transpose(1, 0, 2).reshape(m1, terms * n1)
            outer = add("MatMul", self.graph.constant(f"{name}.left", flat), inner)
        else:
            first = self.graph.constant(f"{name}.left", left.reshape(terms * m1, n1))
            inner = add("MatMul", first, inner)  # (..., terms m1, n2)
            if terms > 1:
                inner = add("Reshape", inner, integers(0, 0, terms, m1, n2))
                inner = add("Transpose", inner, perm=[0, 1, 3, 2, 4])
                inner = add("Reshape", inner, integers(0, 0, m1, terms * n2))
            flat = right.transpose(0, 2, 1).reshape(terms * n2, m2)
            outer = add("MatMul", inner, self.graph.constant(f"{name}.right", flat))
        return add("Reshape", outer, integers(0, 0, m1 * m2))

    def _normalization(self, prefix: str) -> tuple[str, str]:
        return self._weight(f"{prefix}LayerNorm.weight"), self._weight(f"{prefix}LayerNorm.bias")

    def _weight(self, name: str) -> str:
        return self.graph.constant(name, self._weights[name].astype(np.float32, copy=False))

    def _matrix(self, name: str) -> str:
        """A linear layer's weight as (inputs, outputs), the right operand of a product."""
        return self.graph.constant(name, self._weights[name].astype(np.float32, copy=False).T)
