"""How many small faults the fast tests catch, of a random sample put into the code one at a time.

    python -m tests.stress.mutation
    python -m tests.stress.mutation --count 30 --seed 5 --work /tmp/mutation

A mutant is the code with one change: another comparison, an argument less, a constant one higher.
The script copies the tracked files, and collects all fast tests in a server process. For each
mutant it forks the server, replaces the changed function in the fork, and runs the tests of that
module and of what imports it, up to the first that fails. A change to what runs at import (a
constant, a default value) gets a process that imports everything anew. A mutant that no test fails
on has survived.

Each verdict is a line of ``verdicts.jsonl`` in the working folder, so a second run goes on where
the first was stopped. The summary counts a survivor as equivalent if
``benchmarks/results/mutation.json`` calls it so, with a reason.

Hypothesis tries 25 examples of each property, and a mutant's tests end after a minute of
processor time, so the share that is caught is a lower bound. mutmut 3 mutates neither decorated
functions nor default values of fields; cosmic-ray imports everything anew for each mutant, and has
no operators for arguments.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import gc
import importlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import hypothesis
import pytest

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks" / "results" / "mutation.json"

MUTATED = (
    "supernet/**/*.py",
    "latency/**/*.py",
    "nas/search/**/*.py",
    "nas/pipeline/**/*.py",
    "nas/tasks/*.py",
    "nas/service/access/*.py",
    "nas/service/api/auth.py",
    "nas/service/api/paging.py",
    "nas/service/api/rates.py",
    "nas/service/database/revisions.py",
    "nas/service/devices/tasks.py",
    "nas/service/searches/*.py",
    "nas/service/upkeep/retention.py",
)
EXCLUDED = (  # what is only looked at, and what needs a GPU
    "latency/drawing.py",
    "latency/plots.py",
    "latency/progress.py",
    "latency/runtimes/torch_cuda_graphs.py",
)

HEAVY = (
    "torch", "transformers", "accelerate", "scipy.optimize", "scipy.stats", "sklearn.metrics",
    "onnx", "onnxruntime", "pandas", "pyarrow", "matplotlib.pyplot", "optuna", "sqlalchemy",
    "alembic", "fastapi", "dbos", "httpx2", "hypothesis", "rich", "typer",
)  # fmt: skip
"""What the forking process imports; none of it may import the code under test."""

COMPARISONS = {
    "Lt": "<=", "LtE": "<", "Gt": ">=", "GtE": ">", "Eq": "!=", "NotEq": "==",
    "Is": "is not", "IsNot": "is", "In": "not in", "NotIn": "in",
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], ast.operator] = {
    ast.Add: ast.Sub(), ast.Sub: ast.Add(), ast.Mult: ast.Div(), ast.Div: ast.Mult(),
    ast.FloorDiv: ast.Div(), ast.Mod: ast.Mult(), ast.Pow: ast.Mult(), ast.MatMult: ast.Mult(),
    ast.BitAnd: ast.BitOr(), ast.BitOr: ast.BitAnd(),
}  # fmt: skip
NAMES = {
    "min": "max", "any": "all", "ceil": "floor", "argmin": "argmax", "p50_ms": "p95_ms",
    "zeros": "ones", "max": "min", "all": "any", "floor": "ceil", "argmax": "argmin",
    "p95_ms": "p50_ms", "ones": "zeros", "mean": "sum",
}  # fmt: skip

TYPED = {"isinstance", "issubclass", "getattr", "setattr", "hasattr", "map", "filter"}
UNLIKE = (ast.Starred, ast.Lambda, ast.Constant, ast.JoinedStr, ast.GeneratorExp)
"""Calls and arguments that no one swaps by mistake, since any run of them would fail."""


@dataclass(frozen=True)
class Mutant:
    """One small fault: ``source[start:end]`` of a file becomes ``text``.

    Args:
        within: the innermost function or class, by qualified name.
        function: the outermost function, by qualified name and first line; empty for what runs
            when the module is imported.
    """

    file: str
    line: int
    within: str
    function: str
    kind: str
    start: int
    end: int
    text: str
    change: str

    @property
    def name(self) -> str:
        return f"{self.file}:{self.within}: {self.change}"


@dataclass(frozen=True)
class Site:
    """Where a file may be changed, and how."""

    finder: Finder
    node: ast.expr | ast.stmt
    kind: str
    new: str | Callable[[Any], None]
    line: int
    within: str
    function: str


class Finder(ast.NodeVisitor):
    """Every place in a file where a mutant may be.

    Left out are docstrings, messages of errors, annotations, decorators, and f-strings.
    """

    def __init__(self, file: str, source: str) -> None:
        self.file = file
        self.source = source
        self.found: list[Site] = []
        self._within: list[str] = []
        self._function = ""
        lines = source.splitlines(keepends=True)
        self._starts = [0]
        for line in lines:
            self._starts.append(self._starts[-1] + len(line))
        self._lines = lines
        self.visit(ast.parse(source))

    def _offset(self, line: int, column: int) -> int:
        text = self._lines[line - 1].encode()[:column].decode()
        return self._starts[line - 1] + len(text)

    def _add(
        self,
        node: ast.expr | ast.stmt,
        kind: str,
        new: str | Callable[[Any], None],
        at: ast.AST | None = None,
    ) -> None:
        """Note a change: of a node's text, or of a copy of the node."""
        line = getattr(at or node, "lineno", node.lineno)
        self.found.append(Site(self, node, kind, new, line, ".".join(self._within), self._function))

    def mutant(self, site: Site) -> Mutant:
        """What comes of a change."""
        node, new = site.node, site.new
        if isinstance(new, str):
            text = new
        else:
            changed = copy.deepcopy(node)
            new(changed)
            text = ast.unparse(changed)
        return Mutant(
            self.file,
            site.line,
            site.within,
            site.function,
            site.kind,
            self._offset(node.lineno, node.col_offset),
            self._offset(node.end_lineno or 0, node.end_col_offset or 0),
            text,
            f"{ast.unparse(node)} -> {text}",
        )

    # Where names are

    def _scope(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self._within.append(node.name)
        outer = self._function
        if not isinstance(node, ast.ClassDef):
            self.visit(node.args)  # defaults are made where the function is
            if not outer:
                first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
                self._function = f"{'.'.join(self._within)}:{first}"
        for one in node.body:
            if not _is_docstring(one):
                self.visit(one)
        self._function = outer
        self._within.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._scope(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._scope(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._scope(node)

    def visit_Module(self, node: ast.Module) -> None:
        for one in node.body:
            if not _is_docstring(one):
                self.visit(one)

    def visit_arguments(self, node: ast.arguments) -> None:
        for default in (*node.defaults, *node.kw_defaults):
            if isinstance(default, ast.Constant) and isinstance(default.value, str):
                self._add(default, "default", repr(default.value + "XX"))
            elif default is not None:
                self.visit(default)

    # Statements

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" in ast.unparse(node.test):
            return
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._add(node, "statement", "pass")

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self._add(node, "statement", "pass")
        self.generic_visit(node)

    def visit_Continue(self, node: ast.Continue) -> None:
        self._add(node, "statement", "pass")

    def visit_Break(self, node: ast.Break) -> None:
        self._add(node, "statement", "pass")

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._add(node, "statement", "pass")
        if (other := ARITHMETIC.get(type(node.op))) is not None:
            self._add(node, "arithmetic", lambda new: setattr(new, "op", other))
        self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(isinstance(one, ast.Name) and one.id == "__all__" for one in node.targets):
            return
        if all(isinstance(one, ast.Attribute | ast.Subscript) for one in node.targets):
            self._add(node, "statement", "pass")
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
                self._add(node.value, "default", repr(node.value.value + "XX"))
            self.visit(node.value)

    # Expressions

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Python 3.11 does not say where its parts are."""

    def visit_Compare(self, node: ast.Compare) -> None:
        for index, op in enumerate(node.ops):
            other = ast.parse(f"a {COMPARISONS[type(op).__name__]} b", mode="eval").body
            assert isinstance(other, ast.Compare)
            change = partial(_compare, index=index, op=other.ops[0])
            self._add(node, "comparison", change, node.comparators[index])
        for one in (node.left, *node.comparators):
            self._key(one)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if (other := ARITHMETIC.get(type(node.op))) is not None and not _is_text(node):
            self._add(node, "arithmetic", lambda new: setattr(new, "op", other), node.right)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._add(node, "boolean", lambda new: setattr(new, "op", other), node.values[1])
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        kind = "not" if isinstance(node.op, ast.Not) else "arithmetic"
        self._add(node, kind, f"({ast.unparse(node.operand)})")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._add(node, "constant", str(not value))
        elif isinstance(value, int | float):
            step = -1 if isinstance(value, int) and (node.lineno + node.col_offset) % 2 else 1
            self._add(node, "constant", repr(value + step))

    def visit_Call(self, node: ast.Call) -> None:
        for index, keyword in enumerate(node.keywords):
            if keyword.arg is not None:
                self._add(node, "keyword", partial(_drop, index=index), keyword.value)
        if ast.unparse(node.func) not in TYPED:
            for index, pair in enumerate(pairwise(node.args)):
                if not any(isinstance(one, UNLIKE) for one in pair):
                    self._add(node, "swapped", partial(_swap, index=index), pair[0])
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "pop") and node.args:
            self._key(node.args[0])
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in NAMES and isinstance(node.ctx, ast.Load):
            self._add(node, "name", NAMES[node.id])

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in NAMES and isinstance(node.ctx, ast.Load):
            self._add(node, "name", lambda new: setattr(new, "attr", NAMES[node.attr]))
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self._key(node.slice)
        self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> None:
        for key in node.keys:
            self._key(key)
        self.generic_visit(node)

    def _key(self, node: ast.expr | None) -> None:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            self._add(node, "key", repr(node.value + "XX"))


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _compare(node: ast.Compare, index: int, op: ast.cmpop) -> None:
    node.ops[index] = op


def _drop(call: ast.Call, index: int) -> None:
    del call.keywords[index]


def _swap(call: ast.Call, index: int) -> None:
    call.args[index : index + 2] = reversed(call.args[index : index + 2])


def _is_text(node: ast.expr) -> bool:
    """Whether an operation joins strings."""
    return any(
        isinstance(one, ast.JoinedStr)
        or (isinstance(one, ast.Constant) and isinstance(one.value, str))
        for one in ast.walk(node)
    )


def sites_of(tree: Path) -> list[Site]:
    """Every place in the code under test, in a fixed order."""
    found: list[Site] = []
    paths = sorted({path for pattern in MUTATED for path in tree.glob(pattern)})
    for path in paths:
        file = path.relative_to(tree).as_posix()
        if file not in EXCLUDED:
            found += Finder(file, path.read_text()).found
    return found


def applied(source: str, mutant: Mutant) -> str:
    return source[: mutant.start] + mutant.text + source[mutant.end :]


def drawn(tree: Path, count: int, seed: int) -> Iterator[Mutant]:
    """A sample of mutants, no two of them of one line."""
    sites = sites_of(tree)
    random.Random(seed).shuffle(sites)
    lines: set[tuple[str, int]] = set()
    for site in sites:
        place = site.finder.file, site.line
        if len(lines) < count and place not in lines:
            mutant = site.finder.mutant(site)
            if _compiles(tree, mutant):
                lines.add(place)
                yield mutant


def _compiles(tree: Path, mutant: Mutant) -> bool:
    source = (tree / mutant.file).read_text()
    try:
        compile(applied(source, mutant), mutant.file, "exec")
    except SyntaxError:
        return False
    return source[mutant.start : mutant.end] != mutant.text


# Running the tests on a mutant

EXAMPLES = 25
"""Of each property, which Hypothesis tries."""

PATIENCE_S = 60.0
"""Of processor time: after so long without a failure a mutant has survived."""

HANGS_S = 900.0
"""Of waiting, after which a mutant counts as caught."""

NOT_HERE = 77
"""A forked server's status where a change needs everything imported anew."""
IMPATIENT = 78
"""Likewise, where no test has failed for so long."""

FAULT = 70
"""A fork's status where an error reached its end."""

PYTEST = ("-q", "-m", "not slow", "-p", "no:cacheprovider", "--hypothesis-seed=0")

hypothesis.settings.register_profile(
    "few",
    deadline=None,
    max_examples=EXAMPLES,
    database=None,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
)


def copied(work: Path) -> Path:
    """A copy of the tracked files, in which mutants may be written."""
    tree = work / "tree"
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, files.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    return tree


def _enter(tree: Path) -> None:
    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree)
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path[:] = [
        str(tree),
        *(one for one in sys.path if Path(one) not in (ROOT, Path(__file__).parent)),
    ]


END_TO_END = (
    "tests/nas/pipeline/test_small_search.py",
    "tests/nas/pipeline/test_small_distillation.py",
)
"""Fast tests that run most of the code through the command line, and import little of it."""


def tests_for(mutant: Mutant, tree: Path) -> list[str]:
    """The files of tests to run: the module's own first, those beside it, whole runs, all others.

    Where no test names it, those that name what names it.
    """
    own = f"test_{Path(mutant.file).name}"
    tests = sorted(path.relative_to(tree).as_posix() for path in tree.glob("tests/**/test_*.py"))
    reached, files = {mutant.file}, [one for one in tests if Path(one).name == own]
    for _ in range(3):
        named = re.compile("|".join(map(_naming, sorted(reached))))
        found = [one for one in tests if named.search((tree / one).read_text())]
        files = list(dict.fromkeys([*files, *found]))
        if found:
            break
        reached = {
            path.relative_to(tree).as_posix()
            for package in ("supernet", "latency", "nas")
            for path in tree.glob(f"{package}/**/*.py")
            if named.search(path.read_text())
        }
    if not mutant.file.startswith("nas/service/"):
        files = list(dict.fromkeys([*files, *END_TO_END]))
    beside = Path(mutant.file).parent.name

    def place(file: str) -> tuple[bool, bool, bool, str]:
        return Path(file).name != own, beside not in file, file not in END_TO_END, file

    return sorted(files, key=place)


def _naming(file: str) -> str:
    """Matches whatever names a module: an import of it, or its file."""
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    package, _, name = module.rpartition(".")
    return (
        rf"{re.escape(module)}\b|from {re.escape(package)} import [^(]*\b{name}\b"
        rf"|\b{name}\.py\b|import_module\(.*{name}"
    )


class Server:
    """A pytest plugin: collects once, then forks for each mutant that comes through a pipe."""

    def __init__(self, pipe: Connection, tree: Path) -> None:
        self._pipe = pipe
        self._tree = tree

    def pytest_configure(self) -> None:
        hypothesis.settings.load_profile("few")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        functions = self._functions()
        gc.collect()
        gc.freeze()
        self._pipe.send("ready")
        while (asked := self._pipe.recv()) is not None:
            mutant, names = asked
            self._pipe.send(forked(partial(self._run, session, functions, mutant, names)))
        return True

    def _functions(self) -> dict[tuple[str, str], list[types.FunctionType]]:
        """Every function of the code under test, by file and by qualified name and first line."""
        gc.unfreeze()
        found = defaultdict(list)
        for one in gc.get_objects():
            if type(one) is types.FunctionType:
                code = one.__code__
                if code.co_filename.startswith(f"{self._tree}/"):
                    file = code.co_filename.removeprefix(f"{self._tree}/")
                    found[file, f"{code.co_qualname}:{code.co_firstlineno}"].append(one)
        return dict(found)

    def _run(
        self,
        session: pytest.Session,
        functions: dict[tuple[str, str], list[types.FunctionType]],
        mutant: Mutant,
        names: list[str],
    ) -> int:
        found = functions.get((mutant.file, mutant.function), [])
        if not found:
            return NOT_HERE
        path = self._tree / mutant.file
        code = _code_of(compile(path.read_text(), str(path), "exec"), mutant.function)
        for function in found:
            if code is None or len(code.co_freevars) != len(function.__code__.co_freevars):
                return NOT_HERE
            function.__code__ = code
        items = _chosen(session.items, names)
        if not items:
            return 0
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                (self._tree.parent / "failed").write_text(item.nodeid)
                return 1
            if time.process_time() > PATIENCE_S:
                return IMPATIENT
        return 0


def _code_of(module: types.CodeType, function: str) -> types.CodeType | None:
    for one in module.co_consts:
        if isinstance(one, types.CodeType):
            if f"{one.co_qualname}:{one.co_firstlineno}" == function:
                return one
            if found := _code_of(one, function):
                return found
    return None


def forked(work: Callable[[], int]) -> int | None:
    """The status of a function run in a process of its own; None where it never ends.

    All that the process has started ends with it.
    """
    child = os.fork()
    if not child:
        status = FAULT
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (int(4 * PATIENCE_S), int(4 * PATIENCE_S) + 5))
            status = work()
        finally:
            os._exit(status)
    deadline, code = time.monotonic() + HANGS_S, None
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if code is None:
        os.waitpid(child, 0)
    return None if code in (-signal.SIGXCPU, -signal.SIGKILL) else code


class Chosen:
    """A pytest plugin: some of the files that were collected, the likeliest to fail first."""

    def __init__(self, names: list[str], told: Path) -> None:
        self._names = names
        self._told = told

    def pytest_configure(self) -> None:
        hypothesis.settings.load_profile("few")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = _chosen(items, self._names)

    def pytest_runtest_logfinish(self) -> None:
        if time.process_time() > PATIENCE_S:
            pytest.exit("no test has failed", returncode=IMPATIENT)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome == "failed" and not self._told.exists():
            self._told.write_text(report.nodeid)


def _chosen(items: list[pytest.Item], files: list[str]) -> list[pytest.Item]:
    """The tests of some files, in the files' order."""
    place = {file: number for number, file in enumerate(files)}
    found = [(place.get(item.nodeid.partition("::")[0]), item) for item in items]
    return [
        item
        for _, item in sorted(
            ((number, item) for number, item in found if number is not None),
            key=lambda pair: pair[0],
        )
    ]


def anew(names: list[str], told: Path, output: Path) -> int:
    """Run tests in this process, which has imported none of the code yet."""
    out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    return int(pytest.main(["-x", *PYTEST, *names], plugins=[Chosen(names, told)]))


def serve(pipe: Connection, tree: Path, output: Path) -> int:
    out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    return int(pytest.main([*PYTEST, "tests"], plugins=[Server(pipe, tree)]))


def run_sample(work: Path, count: int, seed: int) -> None:
    """Append the verdict on each mutant of a sample to ``verdicts.jsonl``."""
    tree, log, told = copied(work), work / "verdicts.jsonl", work / "failed"
    done = set()
    if log.exists():
        done = {json.loads(line)["name"] for line in log.read_text().splitlines()}
    _enter(tree)
    for module in HEAVY:
        importlib.import_module(module)
    for name in [one for one in sys.modules if one.partition(".")[0] == "tests"]:
        del sys.modules[name]  # those of the copy count
    assert not {"supernet", "latency", "nas"} & set(sys.modules), "the code must be imported anew"
    gc.collect()
    gc.freeze()
    ours, theirs = Pipe()
    server = os.fork()
    if not server:
        os._exit(serve(theirs, tree, work / "server"))
    assert ours.recv() == "ready"
    for number, mutant in enumerate(drawn(tree, count, seed), start=1):
        if mutant.name in done:
            continue
        names = tests_for(mutant, tree)
        started, path = time.monotonic(), tree / mutant.file
        source, before = path.read_text(), path.stat().st_mtime
        told.unlink(missing_ok=True)
        code: int | None = 0
        try:
            path.write_text(applied(source, mutant))
            # Compiled files go by the second and the size, neither of which need change.
            os.utime(path, (before, before + 10 + number))
            if names:
                ours.send((mutant, names))
                code = ours.recv()
                if code == NOT_HERE:
                    code = forked(partial(anew, names, told, work / "output"))
        finally:
            path.write_text(source)
            os.utime(path, (before, before))
        assert code != FAULT, f"the runner itself failed on {mutant}"
        survived = code in (0, int(pytest.ExitCode.NO_TESTS_COLLECTED), IMPATIENT)
        by = told.read_text() if told.exists() else f"exit {code}"
        row = {"name": mutant.name, "number": number, **asdict(mutant)} | {
            "verdict": "survived" if survived else "caught",
            "by": by,
            "seconds": round(time.monotonic() - started, 1),
        }
        with log.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{number:4} {row['verdict']:8} {row['seconds']:6} {mutant.name[:150]}", flush=True)
    ours.send(None)
    os.waitpid(server, 0)


# What came out


def report(work: Path, output: Path | None) -> None:
    """Print the counts by package, and write them and the survivors to ``output``."""
    from benchmarks.result_files import origin, write_result  # which imports the code under test

    rows = [json.loads(line) for line in (work / "verdicts.jsonl").read_text().splitlines()]
    known = json.loads(RESULT.read_text())["survivors"] if RESULT.exists() else []
    reasons = {(one["file"], one["within"], one["change"]): one["verdict"] for one in known}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    survivors = []
    for row in rows:
        verdict = row["verdict"]
        if verdict == "survived":
            place = row["file"], row["within"], row["change"]
            told = reasons.get(place, "not caught")
            kept = ("file", "line", "within", "kind", "change")
            survivors.append({name: row[name] for name in kept} | {"verdict": told})
            verdict = "equivalent" if told.startswith("equivalent") else verdict
        for package in (_package(row["file"]), "all"):
            counts[package][verdict] += 1
    packages = {name: _shares(counts[name]) for name in sorted(counts)}
    for name, found in packages.items():
        print(f"{name:14} {found}")
    if output is not None:
        told = origin() | {"mutants": len(rows), "packages": packages, "survivors": survivors}
        write_result(output, told)


def _package(file: str) -> str:
    parts = file.split("/")
    return "/".join(parts[:2]) if parts[0] == "nas" else parts[0]


def _shares(found: Counter[str]) -> dict[str, float]:
    counted = found["caught"] + found["survived"]
    kinds: dict[str, float] = {kind: found[kind] for kind in ("caught", "survived", "equivalent")}
    return kinds | {"percent": round(100 * found["caught"] / counted, 1) if counted else 100.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=300, help="mutants (default: 300)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "tailorbert-mutation",
        help="folder for the copy and the verdicts; a second run goes on there",
    )
    parser.add_argument("--output", type=Path, help="JSON file for counts and survivors")
    given = parser.parse_args()
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    run_sample(work, given.count, given.seed)
    report(work, given.output)


if __name__ == "__main__":
    main()
