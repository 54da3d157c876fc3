"""Numbers from elsewhere: as JSON has them, so that no client's mistake is taken for one."""

from __future__ import annotations

from typing import Any

from pydantic import BeforeValidator


def _number(given: Any) -> Any:
    if isinstance(given, bool | str):
        raise ValueError("write a number")
    return given


NUMBER = BeforeValidator(_number)
"""Refuses ``true`` and ``"4"``. ``4.0`` is a whole number too, as JSON Schema has it: hence none of
pydantic's strict ones. It stands after a number's bounds, else they are missing in the schema."""
