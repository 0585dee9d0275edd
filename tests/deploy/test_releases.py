"""When a deployment takes effect: what is asked again, and what is published again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.deploy.test_template import SECRET, USER, template

GUIDE = Path(__file__).parents[2] / "docs" / "deploy-lambda.md"


@pytest.mark.parametrize(
    "changed",
    [
        {"Release": "2"},
        {"DatabaseSecretArn": f"{SECRET}2"},
        {"DatabaseIamUserArn": USER},
        {"DatabaseUrl": "postgresql://h/other"},
        {"DatabaseName": "other"},
    ],
    ids=str,
)
def test_another_database_is_another_reason_to_make_the_tables(changed: dict[str, str]) -> None:
    assert template(Release="1").resource("Schema") != template(**changed).resource("Schema")
    assert template(LogLevel="DEBUG").resource("Schema") == template().resource("Schema")


@pytest.mark.parametrize(
    ("parameters", "objects"),
    [
        ({"Buffered": "true"}, True),
        ({"Buffered": "true", "Release": "1795168800"}, False),
        ({"Buffered": "false"}, False),
    ],
)
def test_the_buffered_function_is_not_deployed_without_a_release(
    parameters: dict[str, str], *, objects: bool
) -> None:
    said = template(**parameters).objections()
    assert bool(said) is objects
    assert all("Release=$(date +%s)" in each for each in said)


def test_every_deployment_of_the_guide_that_has_parameters_is_a_release_of_its_own() -> None:
    guide = GUIDE.read_text().replace("\\\n", "")
    commands = re.findall(r"^.*sam deploy .*--parameter-overrides.*$", guide, re.MULTILINE)
    assert len(commands) >= 2
    assert all("Release=$(date +%s)" in line for line in commands), commands
