"""What an operator edits and starts: the example settings, compose.yaml and the Dockerfile."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from nas.service.settings import ServiceSettings, load_service
from supernet.configs import config_folder, config_names, read_config
from supernet.errors import NasError

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
NAS = ("serve", "worker")


def keys(data: Any, above: str = "") -> set[str]:
    """The dotted names of a mapping's values."""
    if not isinstance(data, dict) or not data:
        return {above}
    return set().union(*(keys(value, f"{above}.{key}") for key, value in data.items()))


@pytest.fixture(autouse=True)
def _no_database_of_the_environment(monkeypatch):
    for name in ("NAS_DATABASE_URL", "NAS_DATABASE_URL_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_local_is_every_default():
    assert load_service("local") == load_service() == ServiceSettings()
    shown = keys(read_config("service", "local"))
    assert shown == keys(json.loads(ServiceSettings().model_dump_json()))


@pytest.mark.parametrize("word", ["off", '"off"'])
def test_off_is_a_word_though_yaml_reads_it_as_false(word, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"auth: {word}\n")
    assert load_service(str(tmp_path / "mine.yaml")).auth == "off"


@pytest.mark.parametrize("name", [None, "local", "team"])
def test_the_environment_names_a_database_where_nothing_else_does(name, monkeypatch, tmp_path):
    url, other = "postgresql://nas:secret@db/nas", "postgresql://nas@elsewhere/nas"
    (tmp_path / "url").write_text(f"{url}\n")
    monkeypatch.setenv("NAS_DATABASE_URL_FILE", str(tmp_path / "url"))
    assert load_service(name).database == url
    assert load_service(name, database=other).database == other


@pytest.mark.parametrize("name", ["local", "team"])
def test_every_key_has_a_comment_above_its_block(name):
    text = (config_folder() / "service" / f"{name}.yaml").read_text(encoding="utf-8")
    for block in text.split("\n\n"):
        lines = [line.strip() for line in block.splitlines() if not line.strip().endswith(":")]
        assert lines[0].startswith("#"), block


def test_team_asks_for_tokens_and_keeps_no_secret():
    team = load_service("team", database="postgresql://nas@postgres/nas")
    assert team.needs_token
    assert set(config_names("service")) == {"local", "team"}
    assert "database" not in read_config("service", "team")


def test_tokens_are_asked_for_wherever_others_may_come():
    assert not load_service().needs_token
    for given in ({"host": "::"}, {"hosts": ["nas.example"]}, {"proxies": ["127.0.0.1"]}):
        assert ServiceSettings(**given).needs_token


def test_an_unknown_name_is_one_line():
    with pytest.raises(NasError, match="service 'absent' is unknown; known are local, team"):
        load_service("absent")


def test_compose_declares_what_it_uses():
    services = COMPOSE["services"]
    assert {s for one in services.values() for s in one.get("secrets", ())} == set(
        COMPOSE["secrets"]
    )
    used = {v.partition(":")[0] for one in services.values() for v in one.get("volumes", ())}
    assert used == set(COMPOSE["volumes"])
    for one in services.values():
        for other, how in one.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert "test" in services[other]["healthcheck"]


def test_compose_starts_the_server_without_a_worker_and_workers_apart():
    services = COMPOSE["services"]
    assert services["serve"]["command"] == ["serve", "--config", "team", "--no-worker"]
    assert services["worker"]["command"] == ["worker", "--config", "team"]
    assert "container_name" not in services["worker"]  # which could not be scaled
    data = str(load_service("team").data)
    for name in NAS:
        assert services[name]["volumes"] == [f"data:{data}"]
        assert services[name]["environment"]["NAS_CACHE"].startswith(data)


def test_compose_holds_no_secret():
    for one in COMPOSE["services"].values():
        for name, value in one["environment"].items():
            if re.search("PASSWORD|URL|TOKEN", name):
                assert name.endswith("_FILE")
                assert value.removeprefix("/run/secrets/") in one["secrets"]
    assert "/secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "!secrets" not in (ROOT / ".dockerignore").read_text(encoding="utf-8")


def test_the_image_listens_where_the_service_does_and_without_root():
    port = load_service("team").port
    lines = DOCKERFILE.splitlines()
    assert f"EXPOSE {port}" in lines
    assert f"http://127.0.0.1:{port}/healthz" in DOCKERFILE
    assert lines.index("USER nas") < lines.index('ENTRYPOINT ["nas"]')
    assert COMPOSE["services"]["serve"]["ports"] == [f"127.0.0.1:{port}:{port}"]
