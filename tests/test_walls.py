"""The walls of the house: who may import whom, and what no package may do."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("latency", "nas", "supernet")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
TREES = {
    name: ast.parse(path.read_text(encoding="utf-8"), str(path)) for name, path in MODULES.items()
}

# What `latency` may take from `supernet`: the modules that a small device can load.
LIGHT = (
    "supernet.architecture",
    "supernet.batch",
    "supernet.configs",
    "supernet.errors",
    "supernet.factors",
    "supernet.space",
)
# The model that is timed must be the one that is served.
LATENCY_EXCEPTIONS = {"latency.runtimes.torch_parts": ("supernet.student",)}


def imported_names(module: str, tree: ast.AST) -> Iterator[str]:
    """Every dotted name that a module imports, wherever in it the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            source = ".".join([*above, str(node.module)])
            for alias in node.names:
                joined = f"{source}.{alias.name}"
                yield joined if joined in MODULES else source


def is_within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@cache
def imports_of(package: str) -> list[tuple[str, str]]:
    """(importing module, imported name) for every import in a package."""
    return [
        (module, name)
        for module, tree in TREES.items()
        if is_within(module, (package,))
        for name in imported_names(module, tree)
    ]


ROOMS = (
    "settings",
    "tasks",
    "data",
    "terminal",
    "search",
    "store",
    "models",
    "report",
    "cluster",
    "pipeline",
    "service",
    "commands",
    "cli",
)
"""What stands in ``nas``, each before those that may import it."""


def room_of(module: str) -> str | None:
    """Of a module of ``nas``; None of others, and of ``nas`` itself."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] or None if package == "nas" else None


@cache
def runtime_imports() -> dict[str, set[str]]:
    """The modules of ours that each module imports, but for what type checkers alone read."""
    return {
        module: {
            name
            for node in statements_at_runtime(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in imported_names(module, node)
            if name in MODULES and name != module
        }
        for module, tree in TREES.items()
    }


def statements_at_runtime(node: ast.AST) -> Iterator[ast.AST]:
    """Every node of a tree that does not stand below ``if TYPE_CHECKING``."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not is_for_type_checkers(child):
            yield from statements_at_runtime(child)


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def test_every_module_of_nas_is_in_a_room():
    found = {room_of(module) for module in MODULES} - {None}
    assert found == set(ROOMS)
    flat = {path.stem for path in (ROOT / "nas").glob("*.py")}
    assert flat == {"__init__", "cli", "settings"}


def test_rooms_import_only_those_before_them():
    backward = [
        (module, name)
        for module, names in runtime_imports().items()
        for name in names
        if (here := room_of(module)) is not None
        and (there := room_of(name)) is not None
        and ROOMS.index(there) > ROOMS.index(here)
    ]
    assert backward == []


def test_the_drawing_of_the_rooms_is_true():
    arrows: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module, names in runtime_imports().items():
        for name in names:
            if (here := room_of(module)) and (there := room_of(name)) and here != there:
                arrows[here].add(there)
    beyond = {room: set[str]() for room in ROOMS}
    for room in ROOMS:  # each is behind all that it reaches
        for there in arrows[room]:
            beyond[room] |= {there} | beyond[there]
    direct = {
        f"{room} --> {there}"
        for room, theres in arrows.items()
        for there in theres
        if not any(there in beyond[other] for other in theres - {there})
    }
    drawing = (ROOT / "docs" / "design.md").read_text(encoding="utf-8").split("```mermaid")[2]
    drawn = {line.strip() for line in drawing.split("```")[0].splitlines() if "-->" in line}
    assert drawn == direct


def test_no_modules_import_each_other_in_a_circle():
    arrows = runtime_imports()
    graph = TopologicalSorter(arrows)
    try:
        graph.prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_there_is_something_to_hold():
    assert {name.partition(".")[0] for name in MODULES} == set(PACKAGES)


def test_supernet_knows_neither_latency_nor_nas():
    wrong = [pair for pair in imports_of("supernet") if is_within(pair[1], ("latency", "nas"))]
    assert wrong == []


def test_latency_takes_only_the_light_modules_of_supernet():
    wrong = [
        (module, name)
        for module, name in imports_of("latency")
        if is_within(name, ("nas", "supernet"))
        and not is_within(name, LIGHT + LATENCY_EXCEPTIONS.get(module, ()))
    ]
    assert wrong == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_imports_tests_benchmarks_or_configs(package):
    outside = ("tests", "benchmarks", "configs")
    assert [pair for pair in imports_of(package) if is_within(pair[1], outside)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_import_is_of_a_declared_dependency(package):
    declared = {
        normalized(re.split(r"[\[<>=!~; ]", requirement)[0])
        for requirements in (
            PYPROJECT["project"]["dependencies"],
            *PYPROJECT["project"]["optional-dependencies"].values(),
        )
        for requirement in requirements
    }
    distributions = installed()
    wrong = {
        (module, name)
        for module, name in imports_of(package)
        if (top := name.partition(".")[0]) not in sys.stdlib_module_names | set(PACKAGES)
        and not declared & {normalized(found) for found in distributions.get(top, [top])}
    }
    assert wrong == set()


@cache
def installed() -> Mapping[str, list[str]]:
    """The distributions that each importable name comes from."""
    return packages_distributions()


def normalized(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


@pytest.mark.parametrize(
    "statement",
    [
        "import supernet.architecture",
        "import supernet.space, supernet.batch",
        "import supernet.configs",
        "import latency",
        "import latency.cli",
        "import nas.settings",
        "import nas.pipeline.recipe",
        "import nas.service.api.app",
    ],
)
def test_light_modules_load_without_torch_and_transformers(statement):
    listing = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}; {listing}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {"torch", "transformers", "sklearn", "scipy", "pandas", "matplotlib", "onnxruntime"}
    assert heavy & set(json.loads(done.stdout)) == set()


def test_only_settings_reads_environment_variables():
    readers = {
        module
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"})
        or (isinstance(node, ast.alias) and node.name in {"environ", "environb", "getenv"})
    }
    assert readers <= {"nas.settings"}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_unpickles(package):
    picklers = ("pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
    assert [pair for pair in imports_of(package) if is_within(pair[1], picklers)] == []


def test_nothing_from_outside_is_run_as_code():
    unsafe = {
        ("allow_pickle", "True"),
        ("shell", "True"),
        ("trust_remote_code", "True"),
        ("weights_only", "False"),
    }
    wrong = []
    for module, tree in TREES.items():
        for node in (found for found in ast.walk(tree) if isinstance(found, ast.Call)):
            if isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}:
                wrong.append((module, node.lineno, node.func.id))
            wrong += [
                (module, node.lineno, f"{keyword.arg}={ast.unparse(keyword.value)}")
                for keyword in node.keywords
                if (keyword.arg, ast.unparse(keyword.value)) in unsafe
            ]
    assert wrong == []


def test_every_package_is_listed_for_the_wheel():
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == folders | {"nas.configs"}


LATE = {
    "latency.cli": "`--help` answers at once",
    "latency.commands": "`--help` answers at once",
    "nas.commands": "`--help` answers at once",
    "latency.profile": "a bundle on a device has no pydantic, and reads no profile",
    "nas.report.page": "who reads a report by program needs no matplotlib",
    "nas.pipeline": "Ray and Optuna are extras",
    "nas.service.jobs.process": "what answers requests loads no torch",
    "nas.service.uploads": "what answers requests loads no torch; a confined process does",
}
"""Whose functions import modules of ours, and why: what these load is heavy, or not installed."""


def test_modules_of_ours_are_imported_at_the_top():
    hidden = {
        (module, name)
        for module, tree in TREES.items()
        if not is_within(module, tuple(LATE))
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for name in imported_names(module, function)
        if is_within(name, PACKAGES)
    }
    assert hidden == set()
