"""Reads configurations of spaces, targets and recipes, by name or by path, as plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from supernet.errors import NasError
from supernet.space import SearchSpace


def config_folder() -> Path:
    """The folder that holds ``spaces/``, ``recipes/`` and ``targets/``.

    In a checkout it is beside the packages, where people edit it. In an installed wheel it is in
    ``nas``.

    Raises:
        NasError: neither exists, so the installation is damaged.
    """
    root = Path(__file__).parent.parent
    for folder in (root / "nas" / "configs", root / "configs"):
        if (folder / "spaces").is_dir():
            return folder
    raise NasError(f"no configs folder in {root}: reinstall tailorbert")


def config_names(kind: str) -> list[str]:
    """The names of the configurations in ``configs/<kind>``."""
    return sorted(path.stem for path in (config_folder() / kind).glob("*.yaml"))


def load_space(name: str) -> SearchSpace:
    """The search space of a name under ``configs/spaces``, or of a YAML file's path.

    Raises:
        NasError: no such configuration, not YAML, or a key or value that is not accepted.
    """
    return SearchSpace.from_dict(read_config("spaces", name))


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
                f"{kind.removesuffix('s')} {name!r} is unknown; known are {', '.join(known)}, "
                "or give the path of a .yaml file"
            )
        path = config_folder() / kind / f"{name}.yaml"
    return read_mapping(path, f"{kind.removesuffix('s')} {name}")


def read_mapping(path: Path, what: str) -> dict[Any, Any]:
    """The keys and values of a YAML file, or a JSON one, which is YAML too.

    Args:
        what: names the file in errors.

    Raises:
        NasError: unreadable, not YAML, or not keys and values.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise NasError(f"{what}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise NasError(f"{what}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise NasError(f"{what}: needs keys and values, not {data!r}")
    return data
