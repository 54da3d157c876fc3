"""The reference is whole and true: every option, key and field, with its default."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer
import yaml
from pydantic import BaseModel, TypeAdapter

from latency import cli as latency_cli
from latency.accuracy import PredictorErrors
from latency.fingerprint import Fingerprint
from latency.target import Target
from nas import cli as nas_cli
from nas.data.summary import DataSummary
from nas.models.finetune_settings import FinetuneSettings
from nas.pipeline.recipe import Distillation, General, Race, Recipe
from nas.report.record import Calibration, Candidate, Raced, Report
from nas.search.front import Point
from nas.search.registry import SEARCHERS
from nas.search.settings import SearchSettings
from nas.service.settings import ServiceSettings
from supernet.configs import config_names
from supernet.distill.augmentation import Augmentation
from supernet.distill.stage import DistillStage, Losses, Mixup, Replacement
from supernet.sandwich_settings import SandwichSettings
from supernet.space import SearchSpace
from supernet.training_settings import TrainingSettings

DOCS = Path(__file__).parent.parent / "docs"
REFERENCE = (DOCS / "reference.md").read_text(encoding="utf-8")
SEARCH = (DOCS / "search.md").read_text(encoding="utf-8")


def commands(program: str, group: Any) -> dict[str, Any]:
    """Each command by all its words; those of groups within a group too."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        words = f"{program} {name}"
        found |= commands(words, command) if hasattr(command, "commands") else {words: command}
    return found


COMMANDS = commands("nas", typer.main.get_command(nas_cli.app)) | commands(
    "latency", typer.main.get_command(latency_cli.app)
)

SETTINGS = {
    "## Recipes": Recipe,
    "### finetune": FinetuneSettings,
    "### training": TrainingSettings,
    "### supernet": SandwichSettings,
    "### general": General,
    "### search": SearchSettings,
    "### race": Race,
    "### distill": Distillation,
    "### stages": DistillStage,
    "### losses": Losses,
    "### mixup": Mixup,
    "### replacement": Replacement,
    "### augmentation": Augmentation,
    "## Spaces": SearchSpace,
    "## Targets": Target,
}
REQUIRED = "required"


def section(heading: str) -> str:
    """The text under a heading, up to the next."""
    lines = REFERENCE.splitlines()
    start = lines.index(heading) + 1
    end = next((i for i in range(start, len(lines)) if lines[i].startswith("#")), len(lines))
    return "\n".join(lines[start:end])


def tables(text: str) -> list[dict[str, list[str]]]:
    """For each table its rows: the other cells by every code word of the first."""
    found: list[dict[str, list[str]]] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("|---"):
            found.append({})
        elif line.startswith("| `"):
            found[-1].update(dict.fromkeys(re.findall(r"`([^`]+)`", cells[0]), cells[1:]))
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_commands(name: str) -> None:
    (documented,) = tables(section(f"### `{name}`"))
    expected = {}
    for parameter in COMMANDS[name].params:
        is_argument = parameter.param_type_name == "argument"
        default = "none" if parameter.default is None else f"`{parameter.default}`"
        options = [*parameter.opts, *parameter.secondary_opts]
        for word in [parameter.name.upper()] if is_argument else options:
            expected[word] = REQUIRED if parameter.required else default
    assert {word: cells[0] for word, cells in documented.items()} == expected


def defaults(settings: type) -> dict[str, tuple[Any, Any]]:
    """(type, default) of each key; the default is :data:`REQUIRED` where there is none."""
    if issubclass(settings, BaseModel):
        return {
            name: (field.annotation, REQUIRED if field.is_required() else field.default)
            for name, field in settings.model_fields.items()
        }
    hints = get_type_hints(settings)
    return {
        field.name: (
            hints[field.name],
            REQUIRED if field.default is dataclasses.MISSING else field.default,
        )
        for field in dataclasses.fields(settings)
        if field.init
    }


@pytest.mark.parametrize("heading", SETTINGS)
def test_settings(heading: str) -> None:
    documented = tables(section(heading))[-1]
    expected = defaults(SETTINGS[heading])
    assert set(documented) == set(expected)
    for name, (annotation, default) in expected.items():
        cell = documented[name][1].strip("`")
        if default == REQUIRED or heading == "## Spaces":
            continue
        assert TypeAdapter(annotation).validate_python(yaml.safe_load(cell)) == default, name
    required = {name for name, cells in documented.items() if cells[1] == REQUIRED}
    if heading != "## Spaces":  # from_dict requires what the constructor has a default for
        assert required == {name for name, (_, d) in expected.items() if d == REQUIRED}


def test_searchers() -> None:
    listed = section("### search").partition("\nAlgorithms: ")[2]
    assert set(re.findall(r"`([^`]+)`", listed)) - set(defaults(SearchSettings)) == set(SEARCHERS)
    (described,) = tables(SEARCH.partition("## Other searchers\n")[2].partition("\n## ")[0])
    assert list(described) == list(SEARCHERS)


def test_spaces_require_what_the_reference_says() -> None:
    documented = tables(section("## Spaces"))[-1]
    whole = SearchSpace(
        "all", (1,), (8,), (2,), (8,), (16,), (4,), uniform=False, compression=(1, 2)
    ).to_dict()
    optional = {name for name, cells in documented.items() if cells[1] != REQUIRED}
    assert set(documented) == set(whole)
    SearchSpace.from_dict({name: whole[name] for name in set(whole) - optional})


def test_sections_of_a_services_settings() -> None:
    """Their keys are in configs/service/local.yaml, which test_service_configs holds true."""
    (documented,) = tables(section("### The service's settings"))
    fields = ServiceSettings.model_fields.items()
    sections = {
        name
        for name, field in fields
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    assert set(documented) == sections


@pytest.mark.parametrize("kind", ["spaces", "targets"])
def test_shipped_configurations(kind: str) -> None:
    assert sorted(tables(section(f"## {kind.title()}"))[0]) == config_names(kind)


def test_shipped_recipes() -> None:
    named = re.findall(r"`([^`]+)`", section("## Recipes"))
    assert set(config_names("recipes")) <= set(named)


def test_report_fields() -> None:
    (documented,) = tables(section("### report.json"))
    assert set(documented) == {field.name for field in dataclasses.fields(Report)} | {
        "met",
        "speedup",
    }


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("device", Fingerprint),
        ("front", Point),
        ("candidates", Candidate),
        ("race", Raced),
        ("data_summary", DataSummary),
        ("calibration", Calibration),
    ],
)
def test_fields_of_report_objects(field: str, kind: type) -> None:
    (documented,) = tables(section("### report.json"))
    words = re.findall(r"`([^`]+)`", documented[field][-1])
    assert words == [item.name for item in dataclasses.fields(kind)]


def test_predictor_errors() -> None:
    text = section("### report.json").partition("\n\n`predictor_errors`")[2]
    words = re.findall(r"`([^`]+)`", text)
    assert words == [item.name for item in dataclasses.fields(PredictorErrors)]


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http:", "https:")):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.is_file(), target
        if anchor:
            assert anchor in anchors(linked), target


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
