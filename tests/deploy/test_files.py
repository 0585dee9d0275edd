"""Files that only other programs read: Cloud Run's service, the compose file, SAM's configuration."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml

from local import up
from local.package import TEMPLATE
from local.template import Template
from tmcp_serverless import Settings
from tmcp_serverless.postgres import schema

ROOT = Path(__file__).parents[2]
FIELDS = {f"TMCP_{name.upper()}" for name in Settings.fields_by_name()}


@pytest.fixture(scope="module")
def service() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "service.yaml").read_text())


@pytest.fixture(scope="module")
def container(service: dict[str, Any]) -> dict[str, Any]:
    [container] = service["spec"]["template"]["spec"]["containers"]
    return container


def test_streams_on_cloud_run_end_before_the_request_does(
    service: dict[str, Any], container: dict[str, Any]
) -> None:
    spec = service["spec"]["template"]["spec"]
    settings = Settings.load(environment=variables_of(container))
    assert spec["timeoutSeconds"] == 3600
    assert settings.stream_max_seconds < spec["timeoutSeconds"] - 60
    assert spec["containerConcurrency"] > 80


def variables_of(container: dict[str, Any]) -> dict[str, str]:
    """Return what is there before the names in `${...}` are filled in."""
    values = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    return {name: value for name, value in values.items() if not value.startswith("${")}


def test_cloud_runs_variables_are_settings_and_its_secrets_are_secrets(container: dict[str, Any]) -> None:
    names = {each["name"] for each in container["env"]}
    assert {name for name in names if name.startswith("TMCP_")} <= FIELDS
    secret = {each["name"] for each in container["env"] if "valueFrom" in each}
    assert secret == {"TMCP_DATABASE_URL", "NOTES_TOKENS"}


def test_cloud_run_asks_what_is_answered(container: dict[str, Any]) -> None:
    settings = Settings()
    assert container["startupProbe"]["httpGet"]["path"] == settings.ready_path
    assert container["livenessProbe"]["httpGet"]["path"] == settings.health_path
    ports = {container[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe")}
    assert ports == {container["ports"][0]["containerPort"]} == {8080}


def test_cloud_run_starts_fast_and_opens_no_more_connections_than_it_says(
    service: dict[str, Any], container: dict[str, Any]
) -> None:
    annotations = service["spec"]["template"]["metadata"]["annotations"]
    assert annotations["run.googleapis.com/startup-cpu-boost"] == "true"
    assert annotations["run.googleapis.com/cloudsql-instances"] == "${CLOUD_SQL_INSTANCE}"
    each = 2 * Settings.load(environment=variables_of(container)).database_connections + 1
    assert each * int(annotations["autoscaling.knative.dev/maxScale"]) == 18


def test_every_name_that_is_to_be_filled_in_is_in_the_guide() -> None:
    wanted = set(re.findall(r"\$\{(\w+)\}", (ROOT / "service.yaml").read_text()))
    guide = (ROOT / "docs" / "deploy-cloud-run.md").read_text()
    assert all(re.search(rf"export {name}=", guide) for name in wanted), wanted


def test_every_parameter_that_the_guide_names_exists() -> None:
    guide = (ROOT / "docs" / "deploy-lambda.md").read_text()
    named = set(re.findall(r"(?<![\w-])([A-Z][a-z]+(?:[A-Z][a-z]+)*)=[^'=]", guide))
    assert named >= {"DatabaseSecretArn", "AccessTokens", "FrontDoor", "Buffered", "SubnetIds"}
    assert named <= Template(TEMPLATE).document["Parameters"].keys()


async def test_what_the_guide_removes_is_all_that_was_made(empty_database_url: str) -> None:
    guide = (ROOT / "docs" / "deploy-lambda.md").read_text()
    [sql] = re.findall(r"```sql\n(.*?)```", guide, re.DOTALL)
    await schema.migrate(empty_database_url)
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute((ROOT / "handlers" / "notes" / "schema.sql").read_text())
        count = (
            "SELECT (SELECT count(*) FROM pg_tables WHERE schemaname = 'public')"
            " + (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace)"
        )
        assert await connection.fetchval(count) > 0
        await connection.execute(sql)
        assert await connection.fetchval(count) == 0
    finally:
        await connection.close()


def test_the_database_of_the_compose_file_is_for_this_machine_alone() -> None:
    compose = yaml.safe_load((ROOT / "local" / "compose.yaml").read_text())
    postgres = compose["services"]["postgres"]
    assert [port.partition(":")[0] for port in postgres["ports"]] == ["127.0.0.1"]
    assert postgres["healthcheck"]["test"][1] == "pg_isready"
    container = compose["services"]["container"]
    assert (ROOT / "local" / container["build"]["context"] / "Dockerfile").resolve() == ROOT / "Dockerfile"
    assert container["depends_on"]["postgres"]["condition"] == "service_healthy"


def test_sam_local_uses_that_database() -> None:
    compose = yaml.safe_load((ROOT / "local" / "compose.yaml").read_text())
    variables = json.loads((ROOT / "local" / "env.json").read_text())["Parameters"]
    user, password, name = (
        compose["services"]["postgres"]["environment"][f"POSTGRES_{part}"]
        for part in ("USER", "PASSWORD", "DB")
    )
    assert variables["TMCP_DATABASE_URL"] == f"postgresql://{user}:{password}@postgres/{name}"
    assert "tmcp-local" in compose["networks"]["default"]["name"]
    defined = Template(TEMPLATE, AccessTokens="open").variables("BufferedFunction")
    assert variables.keys() <= defined.keys(), "SAM passes on what the template has, and no more"


def test_sams_configuration_says_what_every_deployment_needs() -> None:
    found = tomllib.loads((ROOT / "samconfig.toml").read_text())["default"]["deploy"]["parameters"]
    assert (found["resolve_s3"], found["capabilities"]) == (True, "CAPABILITY_IAM")


def test_the_script_says_what_is_there_and_what_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert up.main(["--check"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in printed] == ["Docker", "Compose", "SAM", "PostgreSQL"]


def test_without_docker_the_database_is_the_embedded_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    nothing = [up.Found(name, there=False, said="") for name in ("Docker", "Compose", "SAM", "PostgreSQL")]
    monkeypatch.setattr(up, "look", lambda: nothing)
    monkeypatch.setattr(up.signal, "pause", interrupted)
    monkeypatch.setattr(up.signal, "signal", _ignored)
    assert up.main([]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"export TMCP_DATABASE_URL=postgresql://\S+", printed)
    assert printed.rstrip().endswith("Stopping.")


def _ignored(*arguments: object) -> None:
    del arguments


def sam_commands(text: str) -> list[tuple[str, str | None]]:
    """Return SAM's commands, each with the processor that it is told."""
    commands = re.findall(r"\bsam (?:build|local \S+(?: \w+)?) +--.*", text.replace("\\\n", ""))
    found = [(each, re.search(r"--parameter-overrides .*\bArchitecture=(\w+)", each)) for each in commands]
    return [(each, match and match[1]) for each, match in found]


def test_every_command_of_sam_is_told_the_processor() -> None:
    commands = sam_commands((ROOT / "local" / "README.md").read_text())
    assert len(commands) == 4
    assert {processor for _, processor in commands} == {"x86_64"}, commands


@pytest.mark.parametrize(("processor", "machine"), [("aarch64", "arm64"), ("x86_64", "x86_64")])
def test_with_docker_the_database_is_the_container(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    processor: str,
    machine: str,
) -> None:
    monkeypatch.setattr(up.platform, "machine", lambda: processor)
    docker = tmp_path / "docker"
    docker.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n'
        'case "$*" in *port*) echo 127.0.0.1:54321;; *version*) echo 28.0;; esac\n'
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert up.main([]) == 0
    assert "up --detach --wait postgres" in (tmp_path / "called").read_text()
    printed = capsys.readouterr().out
    assert "TMCP_DATABASE_URL=postgresql://tmcp:tmcp@127.0.0.1:54321/tmcp" in printed
    assert {processor for *_, processor in sam_commands(printed)} == {machine}
