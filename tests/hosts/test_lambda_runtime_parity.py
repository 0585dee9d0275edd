"""The streaming loop beside AWS's own runtime client: answers, contexts and their errors."""

from __future__ import annotations

import datetime as dt
import json
import time
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from awslambdaric.bootstrap import create_lambda_context
from awslambdaric.lambda_runtime_exception import FaultException
from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller

from tmcp_serverless.hosts.lambda_streaming.context import LambdaContext
from tmcp_serverless.hosts.lambda_streaming.faults import FaultError
from tmcp_serverless.hosts.lambda_streaming.marshalling import marshal, unmarshal
from tmcp_serverless.hosts.lambda_streaming.runtime_api import Invocation


class Pair(NamedTuple):
    left: Any
    right: Any


ANSWERS: list[Any] = [
    None,
    {"price": Decimal("9.50"), "many": [Decimal("1E+3"), Decimal("-0"), Decimal("NaN"), Decimal("Infinity")]},
    Pair(1, [Pair(Decimal(2), "x")]),
    {3: "int", 2.5: "float", None: "none", True: "bool", b"bytes": b"bytes"},
    ("a tuple", float("nan"), float("inf")),
    "grüße \u2028 😀",
    b"\x00\xff",
    "",
]


@pytest.mark.parametrize("execution", ["AWS_Lambda_python3.11", "AWS_Lambda_python3.13"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_is_written_as_by_awss_runtime(
    monkeypatch: pytest.MonkeyPatch, answer: Any, execution: str
) -> None:
    monkeypatch.setenv("AWS_EXECUTION_ENV", execution)
    theirs, content_type = LambdaMarshaller().marshal_response(answer)
    ours = marshal(answer)
    assert ours[1] == content_type
    theirs = theirs if isinstance(theirs, bytes) else theirs.encode()
    if isinstance(answer, bytes) or "\u2028" not in str(answer):
        assert ours[0] == theirs
    else:  # simplejson escapes two characters that JSON does not ask for
        assert json.loads(ours[0]) == json.loads(theirs)


@pytest.mark.parametrize("answer", [dt.datetime(2026, 1, 1), {1, 2}, {"x": object()}, {(1, 2): 3}])  # noqa: DTZ001  # noqa: E501
def test_what_is_no_json_is_a_marshal_error(answer: Any) -> None:
    with pytest.raises(FaultException) as theirs:
        LambdaMarshaller().marshal_response(answer)
    with pytest.raises(FaultError) as ours:
        marshal(answer)
    assert ours.value.fault.type == theirs.value.exception_type == "Runtime.MarshalError"


def test_half_of_a_surrogate_pair_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EXECUTION_ENV", "AWS_Lambda_python3.13")
    assert marshal("\ud800") == (b'"\\ud800"', "application/json")


def test_an_event_that_is_no_json_is_an_unmarshal_error() -> None:
    with pytest.raises(FaultError, match=r"Runtime\.UnmarshalError"):
        unmarshal(b"{")


def invocation(**fields: str) -> Invocation:
    return Invocation(
        id="1b0c",
        event=b"{}",
        deadline=time.monotonic() + 30,
        trace_id="",
        function_arn="arn:aws:lambda:f",
        **fields,
    )


@pytest.mark.parametrize("tenant", ["", "blue"])
@pytest.mark.parametrize(
    ("client", "identity"),
    [
        ("", ""),
        (
            '{"custom": {"a": 1}, "env": {}, "client": {"app_title": "t"}, "w3c": {"traceparent": "00", "x": 1}}',  # noqa: E501
            "",
        ),
        ('{"custom": {}}', '{"cognitoIdentityId": "i", "cognitoIdentityPoolId": "p"}'),
    ],
)
def test_a_context_says_what_awss_says(client: str, identity: str, tenant: str) -> None:
    deadline = int(time.time() * 1000) + 30_000
    theirs = create_lambda_context(client, identity, deadline, "1b0c", "arn:aws:lambda:f", tenant or None)
    ours = LambdaContext(invocation(client_context=client, cognito_identity=identity, tenant_id=tenant))
    assert ours.w3c() == theirs.w3c()
    assert seen(ours) == seen(theirs)


def seen(context: Any) -> list[Any]:
    names = ["aws_request_id", "invoked_function_arn", "function_name", "log_group_name", "tenant_id"]
    identity, client = context.identity, context.client_context
    return [
        *(getattr(context, name) for name in names),
        identity.cognito_identity_id,
        identity.cognito_identity_pool_id,
        client and (client.custom, client.env, client.client and client.client.app_title),
    ]


def test_a_client_context_that_is_no_json_is_the_invocations_error() -> None:
    with pytest.raises(FaultError, match=r"Runtime\.LambdaContextUnmarshalError"):
        LambdaContext(invocation(client_context="{"))
