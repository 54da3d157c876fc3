"""Spaces, targets and whatever else is configured: by name or path, checked where it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from latency.target import Target
from nas.settings import config_folder
from supernet.errors import NasError
from supernet.space import SearchSpace


def load_space(name: str) -> SearchSpace:
    """The search space of a name under ``configs/spaces``, or of a YAML file's path.

    Raises:
        NasError: no such configuration, not YAML, or a key or value that is not accepted.
    """
    return SearchSpace.from_dict(read_config("spaces", name))


def load_target(name: str) -> Target:
    """The target of a name under ``configs/targets``, or of a YAML file's path.

    Raises:
        NasError: no such configuration, not YAML, or a key or value that is not accepted.
    """
    return Target.from_dict(read_config("targets", name))


def config_names(kind: str) -> list[str]:
    """The names that ``configs/<kind>`` offers."""
    return sorted(path.stem for path in (config_folder() / kind).glob("*.yaml"))


def read_config(kind: str, name: str) -> dict[str, Any]:
    """The content of a configuration: its name under ``configs/<kind>``, or a YAML file's path.

    Raises:
        NasError: no such configuration, unreadable, not YAML, or not keys and values.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        known = config_names(kind)
        if name not in known:
            raise NasError(
                f"{kind[:-1]} {name!r} is unknown; known are {', '.join(known)}, "
                "or give the path of a .yaml file"
            )
        path = config_folder() / kind / f"{name}.yaml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise NasError(f"{kind[:-1]} {name}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise NasError(
            f"{kind[:-1]} {name}: not valid YAML: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(data, dict):
        raise NasError(f"{kind[:-1]} {name}: needs keys and values, not {data!r}")
    return data
