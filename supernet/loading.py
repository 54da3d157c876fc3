"""Classifiers from files: each weight of an encoder comes from the file, or nothing is loaded.

``transformers`` makes random weights where a file has none, and passes over what it does not know.
Either may well be right for a head, and never is for an encoder.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from supernet.errors import NasError, error_line, shown

_ENCODER = re.compile(r"(^|\.)(embeddings|encoder\.layer|transformer\.layer)\.")
"""Matches the names of an encoder's weights, for any model type and wrapper."""

_FIRST = re.compile(
    r"(?P<before>.*?)(?P<base>\w+\.)?embeddings\.word_embeddings\.weight", re.DOTALL
)

_USELESS = re.compile(
    r"(.*\.)?(cls|lm_head|generator_predictions|generator_lm_head|discriminator_predictions"
    r"|vocab_transform|vocab_layer_norm|vocab_projector|qa_outputs|pooler|position_ids)(\..*)?"
)
"""Matches weights that may be left over: heads of other tasks, a pooler, position ids."""


def load_config(place: str | PathLike[str], subject: str, **options: Any) -> PretrainedConfig:
    """A model's configuration.

    Args:
        place: a folder, or a hub id.
        subject: name of the model in messages.
        options: of ``AutoConfig.from_pretrained``.

    Raises:
        NasError: there is no configuration, or it is not a model's.
    """
    try:
        return AutoConfig.from_pretrained(place, **options)
    except MemoryError:
        raise
    except Exception as error:  # of many kinds, from two libraries
        if isinstance(error, OSError) and not Path(place).is_dir():
            raise NasError(
                f"{subject} is neither a model folder here nor a hub id that can be reached"
            ) from error
        raise NasError(f"{subject}: config.json cannot be read: {error_line(error)}") from error


class Loadable(Protocol):
    """A class of ``transformers`` with ``from_pretrained``."""

    def from_pretrained(self, place: str | PathLike[str], **options: Any) -> Any: ...


def load_whole(
    of: Loadable,
    place: str | PathLike[str],
    subject: str,
    *,
    new_head: bool = False,
    **options: Any,
) -> Any:
    """A model in float32 whose weights all come from the file, and which uses all of the file.

    What a wrapper has put before all names, as ``module.`` or ``0.auto_model.``, is taken off.

    Args:
        of: the class whose ``from_pretrained`` loads it.
        place: a folder, or a hub id.
        subject: what is loaded, for messages.
        new_head: whether the head is to be new: then that of the file, the pooler besides, may be
            absent, of another shape or another model's.
        options: of ``from_pretrained``.

    Raises:
        NasError: the file is unreadable; or weights are absent, of another shape than the
            configuration says, not finite, or not the model's; their names are told.
    """
    model, told = _loaded(of, place, subject, options)
    wrapper = _wrapper(told["missing_keys"], told["unexpected_keys"], model)
    if wrapper:
        model, told = _loaded(of, place, subject, options | {"key_mapping": wrapper})
    _check(subject, told, new_head)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise NasError(f"{subject}: weight {name} holds numbers that are not finite")
    return model


def _loaded(
    of: Loadable, place: str | PathLike[str], subject: str, options: dict[str, Any]
) -> tuple[PreTrainedModel, dict[str, Any]]:
    try:
        model, told = of.from_pretrained(
            place,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are told below
            **options,
        )
    except MemoryError:
        raise
    except Exception as error:  # of many kinds, from three libraries
        raise NasError(f"{subject} does not load: {error_line(error)}") from error
    model.config.return_dict = True  # a configuration of old may ask for tuples
    return model, told


def _wrapper(
    missing: Collection[str], unexpected: Collection[str], model: PreTrainedModel
) -> dict[str, str] | None:
    """Pattern and replacement for the names in a file, if a wrapper changed them all."""
    base = f"{model.base_model_prefix}."
    words = [name for name in unexpected if name.endswith("embeddings.word_embeddings.weight")]
    own = {name for name in model.state_dict() if name.startswith(base)}
    if len(words) != 1 or not own <= set(missing):
        return None  # no wrapper, for that changes all names
    match = _FIRST.fullmatch(words[0])
    assert match is not None
    before, last = match["before"], match["base"] or ""
    if last == base:
        return {f"^{re.escape(before)}": ""} if before else None
    return {f"^{re.escape(before + last)}(?=embeddings|encoder|transformer|pooler)": base}


def _check(subject: str, told: dict[str, Any], new_head: bool) -> None:
    """Refuse a model whose weights do not match the file."""

    def matters(name: str) -> bool:
        return not new_head or bool(_ENCODER.search(name))

    changed = sorted(key for key in told["mismatched_keys"] if matters(key[0]))
    if changed:
        name, there, wanted = changed[0]
        raise NasError(
            f"{subject}: {name} is of shape {tuple(there)} in the file, and {tuple(wanted)} by "
            f"config.json{_more(changed)}; correct the one that is wrong"
        )
    missing = sorted(filter(matters, told["missing_keys"]))
    left = sorted(
        name for name in told["unexpected_keys"] if not _USELESS.fullmatch(name) and matters(name)
    )
    adapted = next((name for name in told["unexpected_keys"] if ".lora_" in name), None)
    if adapted:
        raise NasError(
            f"{subject} holds an adapter ({adapted}): merge it first, with peft's "
            "model.merge_and_unload().save_pretrained(FOLDER)"
        )
    if missing:
        found = f", but {_some(left)}" if left else ""
        raise NasError(f"{subject}: the file has no {_some(missing)}{found}")
    if left:
        raise NasError(f"{subject}: the model that config.json describes has no {_some(left)}")


def _more(names: Collection[object]) -> str:
    return f", and {len(names) - 1} others differ" if len(names) > 1 else ""


def _some(names: Iterable[str]) -> str:
    first, *others = (name if name.isprintable() else shown(name) for name in names)
    return f"{first} (and {len(others)} more)" if others else first
