"""What template.yaml deploys, for the parameters that it is given."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from local.package import TEMPLATE
from local.template import Template
from tmcp_serverless import Settings

ROOT = Path(__file__).parents[2]
SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:notes-AbCdEf"
KEY = "arn:aws:kms:eu-central-1:123456789012:key/1"
USER = "arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-ABC/notes"
FUNCTIONS = ["StreamingFunction", "BufferedFunction", "SweepFunction", "MigrateFunction"]

EXPAND = """\
import json, sys
from samcli.yamlhelper import yaml_parse
from samtranslator.translator.transform import transform

template = yaml_parse(open(sys.argv[1]).read())
template["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
managed = type("Managed", (), {"load": lambda self: {}})()
print(json.dumps(transform(template, {}, managed), default=str))
"""


def template(**parameters: str) -> Template:
    return Template(TEMPLATE, **{"AccessTokens": "open", "DatabaseSecretArn": SECRET, **parameters})


def run(*command: str | Path) -> str:
    environment = {**os.environ, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "eu-central-1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_sam_validates_and_lints_it(sam_tool: Path) -> None:
    assert "is a valid SAM Template" in run(sam_tool, "validate", "--lint", "--template", TEMPLATE)


def test_cfn_lint_finds_nothing(sam_tool: Path) -> None:
    regions = ["eu-central-1", "us-east-1", "ap-southeast-2"]
    assert run(sam_tool.with_name("cfn-lint"), "--regions", *regions, "--", TEMPLATE) == ""


@pytest.fixture(scope="module")
def expanded(sam_tool: Path) -> dict[str, Any]:
    """What CloudFormation gets: SAM's own transformation of it."""
    output = run(sam_tool.with_name("python"), "-c", EXPAND, TEMPLATE)
    return json.loads(output.splitlines()[-1])["Resources"]


def test_the_rest_api_streams_for_as_long_as_it_can(expanded: dict[str, Any]) -> None:
    api = expanded["RestApi"]["Properties"]
    assert api["EndpointConfiguration"]["Types"] == ["REGIONAL"]
    [method] = api["Body"]["paths"].values()
    integration = method["x-amazon-apigateway-any-method"]["x-amazon-apigateway-integration"]
    assert integration["responseTransferMode"] == "STREAM"
    assert integration["timeoutInMillis"] == 900_000
    assert integration["uri"]["Fn::Sub"].endswith("/response-streaming-invocations")


def test_an_http_api_and_the_schedule_may_invoke_their_functions(expanded: dict[str, Any]) -> None:
    callers = {
        json.dumps(each["Properties"]["FunctionName"]): each["Properties"]["Principal"]
        for each in expanded.values()
        if each["Type"] == "AWS::Lambda::Permission" and each["Properties"]["Principal"] != "*"
    }
    assert callers == {
        '{"Ref": "StreamingFunction"}': "apigateway.amazonaws.com",
        '{"Ref": "BufferedFunctionAliaslive"}': "apigateway.amazonaws.com",
        '{"Ref": "SweepFunction"}': "events.amazonaws.com",
    }


def test_the_tables_come_before_the_functions_that_need_them_and_again_with_new_code(
    expanded: dict[str, Any],
) -> None:
    assert expanded["Schema"]["Properties"]["Code"]["Ref"].startswith("MigrateFunctionVersion")
    for name in ("StreamingFunction", "BufferedFunction", "SweepFunction"):
        variables = expanded[name]["Properties"]["Environment"]["Variables"]
        assert variables["SCHEMA"]["Fn::If"][1] == {"Ref": "Schema"}
    assert "SCHEMA" not in expanded["MigrateFunction"]["Properties"]["Environment"]["Variables"]


def test_another_release_publishes_the_buffered_function_again(expanded: dict[str, Any]) -> None:
    [version] = [
        each["Properties"] for name, each in expanded.items() if name.startswith("BufferedFunctionVersion")
    ]
    assert version["Description"] == {"Fn::Sub": "release ${Release}"}, "CloudFormation replaces it with that"
    # Lambda publishes no version of a function that is as it was.
    variables = [template(Buffered="true", Release=each).variables("BufferedFunction") for each in ("1", "2")]
    assert [each["RELEASE"] for each in variables] == ["1", "2"]


@pytest.mark.parametrize(
    ("migrate", "creates"), [("first-request", True), ("on-deploy", False)], ids=["first", "deploy"]
)
def test_who_makes_the_tables(migrate: str, *, creates: bool) -> None:
    given = template(Migrate=migrate)
    assert given.exists("Schema") is not creates
    settings = Settings.load(environment=given.variables("StreamingFunction"))
    assert settings.create_tables is creates


def test_every_variable_is_a_setting_that_exists() -> None:
    fields = {f"TMCP_{name.upper()}" for name in Settings.fields_by_name()}
    for name in FUNCTIONS:
        variables = template(Buffered="true").variables(name)
        assert {key for key in variables if key.startswith("TMCP_")} <= fields
        settings = Settings.load(environment=variables)
        assert (settings.database_secret, settings.disable_legacy_sse) == (SECRET, True)


def test_every_parameter_is_described_and_used() -> None:
    text = TEMPLATE.read_text()
    for name, said in template().document["Parameters"].items():
        assert len(said.get("Description", "")) > 20, name
        assert re.search(rf"!Ref {name}\b|\$\{{{name}\}}", text), name


def test_there_is_no_default_for_who_may_come_in() -> None:
    assert "Default" not in template().document["Parameters"]["AccessTokens"]


def statements(given: Template) -> dict[str, Any]:
    return {
        policy["PolicyName"]: policy["PolicyDocument"]["Statement"][0]
        for policy in given.resource("Role")["Policies"]
    }


def test_the_functions_may_read_one_secret_and_no_other() -> None:
    allowed = statements(template())
    assert allowed.keys() == {"write-the-log", "read-one-secret"}
    assert allowed["read-one-secret"] == {
        "Effect": "Allow",
        "Action": "secretsmanager:GetSecretValue",
        "Resource": SECRET,
    }
    assert template().resource("Role")["ManagedPolicyArns"] == []


def test_a_key_of_ones_own_may_be_used_for_this_secret_alone() -> None:
    statement = statements(template(DatabaseSecretKmsKeyArn=KEY))["decrypt-that-secret"]
    assert (statement["Action"], statement["Resource"]) == ("kms:Decrypt", KEY)
    assert statement["Condition"]["StringEquals"]["kms:EncryptionContext:SecretARN"] == SECRET


def test_without_a_secret_there_is_no_right_to_read_any() -> None:
    given = template(DatabaseSecretArn="", DatabaseUrl="postgresql://u@h/d", DatabaseIamUserArn=USER)
    assert statements(given).keys() == {"write-the-log", "log-in-as-one-user"}
    assert statements(given)["log-in-as-one-user"]["Resource"] == USER
    assert Settings.load(environment=given.variables("SweepFunction")).database_iam


@pytest.mark.parametrize(
    ("parameters", "objection"),
    [
        ({"DatabaseSecretArn": ""}, "give DatabaseSecretArn, DatabaseUrl, or both"),
        ({"DatabaseIamUserArn": USER}, "give DatabaseSecretArn or DatabaseIamUserArn, not both"),
        ({}, None),
        ({"DatabaseSecretArn": "", "DatabaseUrl": "postgresql://u:p@h/d"}, None),
    ],
)
def test_a_database_has_to_be_named_with_one_way_to_log_in(
    parameters: dict[str, str], objection: str | None
) -> None:
    assert template(**parameters).objections() == ([objection] if objection else [])


SET_ASIDE, EACH = 5, 3


@pytest.mark.parametrize("connections", ["20", "50", "80", "100", "200", "400", "800", "1600"])
def test_reserved_concurrency_is_what_the_databases_connections_allow(connections: str) -> None:
    alone = template(DatabaseConnections=connections)
    assert reserved(alone, "StreamingFunction") == (int(connections) - SET_ASIDE) // EACH
    both = template(DatabaseConnections=connections, Buffered="true")
    half = (int(connections) - SET_ASIDE) // EACH // 2
    assert reserved(both, "StreamingFunction") == reserved(both, "BufferedFunction") == half
    assert (reserved(both, "SweepFunction"), reserved(both, "MigrateFunction")) == (1, 1)


def test_every_number_of_connections_that_may_be_chosen_has_its_sandboxes() -> None:
    document = template().document
    assert set(document["Mappings"]["Sandboxes"]) == set(
        document["Parameters"]["DatabaseConnections"]["AllowedValues"]
    )


@pytest.mark.parametrize("buffered", ["false", "true"])
@pytest.mark.parametrize("connections", ["0", "20", "50", "80", "100", "200", "400", "800", "1600"])
def test_streams_hold_half_of_the_sandboxes_or_as_many_as_is_said(connections: str, buffered: str) -> None:
    given = template(DatabaseConnections=connections, Buffered=buffered)
    sandboxes = reserved(given, "StreamingFunction")
    settings = Settings.load(environment=given.variables("StreamingFunction"))
    assert settings.function_streams == (None if sandboxes is None else sandboxes // 2)
    said = template(DatabaseConnections=connections, Buffered=buffered, StreamSandboxes="3")
    assert Settings.load(environment=said.variables("StreamingFunction")).function_streams == 3


def test_nothing_is_reserved_where_the_account_has_too_little() -> None:
    given = template(DatabaseConnections="0", Buffered="true")
    assert [reserved(given, name) for name in FUNCTIONS] == [None] * 4


def reserved(given: Template, name: str) -> int | None:
    return given.resource(name).get("ReservedConcurrentExecutions")


@pytest.mark.parametrize(
    ("front_door", "rest_api", "function_url"),
    [("rest-api", True, False), ("function-url", False, True), ("both", True, True)],
)
def test_the_front_doors_that_are_open(front_door: str, *, rest_api: bool, function_url: bool) -> None:
    given = template(FrontDoor=front_door)
    assert given.resource("RestApi")["DisableExecuteApiEndpoint"] is not rest_api
    assert [given.exists(name) for name in ("RestApiEndpoint", "RestApiErrors")] == [rest_api] * 2
    urls = ["StreamingUrl", "StreamingUrlPermission", "StreamingInvokePermission", "FunctionUrlEndpoint"]
    assert [given.exists(name) for name in urls] == [function_url] * 4
    assert given.exists("FunctionUrlErrors") is function_url
    assert given.resource("StreamingUrl")["InvokeMode"] == "RESPONSE_STREAM"


def test_streams_end_before_the_invocation_and_the_alarm_knows_the_limit() -> None:
    given = template(TimeoutSeconds="200")
    defaults = {name: said.get("Default") for name, said in given.document["Parameters"].items()}
    assert defaults["StreamSeconds"] + 10 <= 0.95 * defaults["TimeoutSeconds"]
    assert defaults["StreamSeconds"] < 300, "a REST API ends a stream on which nothing comes for five minutes"
    alarm = given.resource("StreamingNearTimeout")
    assert alarm["Metrics"][0]["Expression"] == "longest / (200 * 1000)"
    assert given.resource("StreamingFunction")["Timeout"] == "200"


def test_alarms_go_where_they_are_wanted() -> None:
    topic = "arn:aws:sns:eu-central-1:123456789012:topic"
    alarms = [
        name
        for name, each in template().document["Resources"].items()
        if each["Type"] == "AWS::CloudWatch::Alarm"
    ]
    assert len(alarms) == 8
    for name in alarms:
        assert "AlarmActions" not in template().resource(name)
        assert template(AlarmTopicArn=topic).resource(name)["AlarmActions"] == [topic]


def watched(name: str, given: Template) -> tuple[str, str, list[tuple[str, str]]]:
    alarm = given.resource(name)
    dimensions = [(each["Name"], each["Value"]) for each in alarm["Dimensions"]]
    return alarm["Namespace"], alarm["MetricName"], dimensions


def test_a_5xx_rings_an_alarm_behind_every_front_door() -> None:
    given = template(FrontDoor="both", Buffered="true")
    assert {
        name: watched(name, given) for name in ("RestApiErrors", "FunctionUrlErrors", "BufferedApiErrors")
    } == {
        "RestApiErrors": ("AWS/ApiGateway", "5XXError", [("ApiName", "notes"), ("Stage", "v1")]),
        "FunctionUrlErrors": ("AWS/Lambda", "Url5xxCount", [("FunctionName", "StreamingFunction")]),
        "BufferedApiErrors": ("AWS/ApiGateway", "5xx", [("ApiId", "BufferedApi")]),
    }
    assert not template().exists("BufferedApiErrors")


@pytest.mark.parametrize(
    ("parameters", "accepted"),
    [
        ({}, True),
        ({"SubnetIds": "subnet-1,subnet-2", "SecurityGroupIds": "sg-1"}, True),
        ({"SubnetIds": "subnet-1,subnet-2"}, False),
        ({"SecurityGroupIds": "sg-1"}, False),
    ],
)
def test_subnets_and_security_groups_come_together(parameters: dict[str, str], *, accepted: bool) -> None:
    objection = "give SubnetIds and SecurityGroupIds, both or neither"
    assert template(**parameters).objections() == ([] if accepted else [objection])


def test_the_functions_are_in_a_vpc_if_there_are_subnets() -> None:
    assert "VpcConfig" not in template().resource("StreamingFunction")
    given = template(SubnetIds="subnet-1,subnet-2", SecurityGroupIds="sg-1")
    assert given.resource("StreamingFunction")["VpcConfig"]["SecurityGroupIds"] == "sg-1"
    [policy] = given.resource("Role")["ManagedPolicyArns"]
    assert policy == "arn:aws:iam::aws:policy/service-role/AWSLambdaENIManagementAccess", (
        "and no right to logs"
    )


@pytest.mark.parametrize(("chosen", "applied"), [("true", "PublishedVersions"), ("false", "None")])
def test_the_buffered_function_starts_from_a_snapshot_if_wanted(chosen: str, applied: str) -> None:
    given = template(Buffered="true", SnapStart=chosen)
    assert given.resource("BufferedFunction")["SnapStart"] == {"ApplyOn": applied}
    assert given.resource("BufferedFunction")["AutoPublishAlias"] == "live"
    assert not template().exists("BufferedFunction")


def test_logs_are_json_and_go_with_the_stack() -> None:
    for name in FUNCTIONS:
        logging = template().resource(name)["LoggingConfig"]
        assert (logging["LogFormat"], logging["LogGroup"]) == ("JSON", "Logs")
    assert template().document["Resources"]["Logs"]["DeletionPolicy"] == "Delete"


def test_what_is_built_by_default_is_what_is_deployed_by_default() -> None:
    makefile = (ROOT / "handlers" / "Makefile").read_text()
    parameters = template().document["Parameters"]
    for variable, parameter in (("RUNTIME", "Runtime"), ("ARCHITECTURE", "Architecture")):
        assert f"{variable} ?= {parameters[parameter]['Default']}\n" in makefile
