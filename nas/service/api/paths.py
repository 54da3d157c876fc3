"""Paths of what has actions: ``/searches/{search_id}`` ends where ``:cancel`` would begin."""

from __future__ import annotations

import re

from starlette.convertors import StringConvertor, register_url_convertor


class _Bare(StringConvertor):
    regex = "[^/:]+"


register_url_convertor("bare", _Bare())


def bare(path: str) -> str:
    """A path whose last parameter takes no action's name in.

    So that a method which an action does not take is told so, and not that the id is malformed.

    >>> bare("/searches/{search_id}")
    '/searches/{search_id:bare}'
    """
    return re.sub(r"}$", ":bare}", path)
