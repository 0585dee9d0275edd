"""Events as the front doors of Lambda send them, and events that are no HTTP requests."""

from __future__ import annotations

import base64
from typing import Any

HEADERS = {
    "accept": "application/json, text/event-stream",
    "content-type": "application/json",
    "host": "abc.lambda-url.eu-central-1.on.aws",
}


def function_url(
    method: str = "POST", headers: dict[str, str] | None = None, body: str = "", *, path: str | None = "/mcp"
) -> dict[str, Any]:
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": HEADERS if headers is None else headers,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abc",
            "domainName": "abc.lambda-url.eu-central-1.on.aws",
            "domainPrefix": "abc",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "test",
            },
            "requestId": "1b0c",
            "routeKey": "$default",
            "stage": "$default",
            "time": "20/Nov/2026:10:00:00 +0000",
            "timeEpoch": 1795168800000,
        },
        "body": body,
        "isBase64Encoded": False,
    }


def http_api(
    method: str = "POST", headers: dict[str, str] | None = None, body: str = "", *, path: str = "/mcp"
) -> dict[str, Any]:
    event = function_url(method, headers, body, path=path)
    event["routeKey"] = event["requestContext"]["routeKey"] = "ANY /{proxy+}"
    event["requestContext"]["domainName"] = "abc.execute-api.eu-central-1.amazonaws.com"
    return event


def rest_api(
    method: str = "POST", headers: dict[str, str] | None = None, body: str = "", *, path: str = "/mcp"
) -> dict[str, Any]:
    headers = HEADERS if headers is None else headers
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": {"proxy": path.strip("/")},
        "stageVariables": None,
        "requestContext": {
            "resourcePath": "/{proxy+}",
            "httpMethod": method,
            "path": f"/Prod{path}",
            "accountId": "123456789012",
            "protocol": "HTTP/1.1",
            "stage": "Prod",
            "domainPrefix": "abc",
            "domainName": "abc.execute-api.eu-central-1.amazonaws.com",
            "requestId": "1b0c",
            "requestTimeEpoch": 1795168800000,
            "identity": {"sourceIp": "192.0.2.1", "userAgent": "test"},
            "apiId": "abc",
        },
        "body": body or None,
        "isBase64Encoded": False,
    }


def http_api_1(
    method: str = "POST", headers: dict[str, str] | None = None, body: str = "", *, path: str = "/mcp"
) -> dict[str, Any]:
    return {"version": "1.0", **rest_api(method, headers, body, path=path)}


def load_balancer(
    method: str = "POST", headers: dict[str, str] | None = None, body: str = "", *, path: str = "/mcp"
) -> dict[str, Any]:
    arn = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/mcp/1"
    return {
        "requestContext": {"elb": {"targetGroupArn": arn}},
        "httpMethod": method,
        "path": path,
        "queryStringParameters": {},
        "headers": HEADERS if headers is None else headers,
        "body": body,
        "isBase64Encoded": False,
    }


def lattice_1(
    method: str = "POST", headers: dict[str, str] | None = None, body: str = "", *, path: str = "/mcp"
) -> dict[str, Any]:
    return {
        "raw_path": path,
        "method": method,
        "headers": {"x-forwarded-for": "10.213.229.10", **(HEADERS if headers is None else headers)},
        "query_string_parameters": {},
        "body": body,
        "is_base64_encoded": False,
    }


def lattice_2(
    method: str = "POST", headers: dict[str, str] | None = None, body: str = "", *, path: str = "/mcp"
) -> dict[str, Any]:
    arn = "arn:aws:vpc-lattice:eu-central-1:123456789012"
    sent = {"x-forwarded-for": "10.213.229.10", **(HEADERS if headers is None else headers)}
    return {
        "version": "2.0",
        "path": path,
        "method": method,
        "headers": {name: [value] for name, value in sent.items()},
        "queryStringParameters": {},
        "body": body,
        "isBase64Encoded": False,
        "requestContext": {
            "serviceNetworkArn": f"{arn}:servicenetwork/sn-0",
            "serviceArn": f"{arn}:service/svc-0",
            "targetGroupArn": f"{arn}:targetgroup/tg-0",
            "identity": {"sourceVpcArn": "arn:aws:ec2:eu-central-1:123456789012:vpc/vpc-0"},
            "region": "eu-central-1",
            "timeEpoch": "1795168800000000",
        },
    }


STREAMING = [function_url, rest_api]
WHOLE = [http_api, http_api_1, load_balancer, lattice_1, lattice_2]
FRONT_DOORS = [function_url, http_api, rest_api, load_balancer, lattice_1, lattice_2]


def in_base64(event: dict[str, Any]) -> dict[str, Any]:
    """The same request, as a front door sends a body that it does not take for text."""
    body = base64.b64encode((event["body"] or "").encode()).decode()
    flag = "is_base64_encoded" if "raw_path" in event else "isBase64Encoded"
    return {**event, "body": body, flag: True}


SCHEDULE = {
    "version": "0",
    "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "account": "123456789012",
    "time": "2026-11-20T10:00:00Z",
    "region": "eu-central-1",
    "resources": ["arn:aws:events:eu-central-1:123456789012:rule/sweep"],
    "detail": {},
}

QUEUE = {
    "Records": [
        {
            "messageId": "19dd0b57",
            "body": "{}",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:queue",
        }
    ]
}

WEB_SOCKET = {
    "requestContext": {"routeKey": "$connect", "eventType": "CONNECT", "connectionId": "a=", "stage": "p"},
    "isBase64Encoded": False,
}

PLAIN: list[Any] = [SCHEDULE, QUEUE, {}, [], None, "text", 1, {"requestContext": None}]
"""No HTTP requests, each of another shape."""

EDGE = {
    "Records": [
        {
            "cf": {
                "config": {"distributionId": "EDFDVBD6EXAMPLE", "eventType": "origin-request"},
                "request": {"clientIp": "192.0.2.1", "headers": {}, "method": "GET", "uri": "/mcp"},
            }
        }
    ]
}
AUTHORIZER = {
    **rest_api("GET"),
    "type": "REQUEST",
    "methodArn": "arn:aws:execute-api:eu-central-1:1:a/p/GET/",
}
APPSYNC = {"arguments": {}, "request": {"headers": {}}, "info": {"fieldName": "f", "parentTypeName": "Query"}}
AGENT = {
    "messageVersion": "1.0",
    "actionGroup": "a",
    "apiPath": "/mcp",
    "httpMethod": "GET",
    "parameters": [],
}
OTHER_CLOUD = {"httpMethod": "POST", "path": "/mcp", "headers": {"host": "mcp.example"}, "body": ""}
OBJECT = {"userRequest": {"url": "https://s3.example/", "headers": {}}, "getObjectContext": {}}

UNKNOWN: list[Any] = [WEB_SOCKET, EDGE, AUTHORIZER, APPSYNC, AGENT, OTHER_CLOUD, OBJECT]
"""HTTP requests, or like them, of front doors that are not served."""
