"""Tools and a prompt that take several rounds: they answer with a question, and are called again.

(SEP-2322)
"""

from __future__ import annotations

import json
from typing import Any

from mcp.server.mcpserver import Context, UserMessage
from mcp_types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
)

_ASKED = "asked"


def elicitation(ctx: Context) -> str | InputRequiredResult:
    """Greet the user, whose name it asks for."""
    name = _filled_in(ctx, "user_name", "name")
    return _ask(user_name=_ask_name()) if name is None else f"Hello, {name}!"


def sampling(ctx: Context) -> str | InputRequiredResult:
    """Say what the client's model says."""
    said = _sampled(ctx, "capital_question")
    return _ask(capital_question=_sample("What is the capital of France?")) if said is None else said


def list_roots(ctx: Context) -> str | InputRequiredResult:
    """Say which roots the client has."""
    roots = _roots(ctx, "client_roots")
    return _ask(client_roots=ListRootsRequest()) if roots is None else f"Roots: {', '.join(roots)}"


def request_state(ctx: Context) -> str | InputRequiredResult:
    """Ask for a confirmation, and take one only with the state that went out with the question."""
    if ctx.request_state != _ASKED or _filled_in(ctx, "confirm", "ok") is None:
        question = _form("Please confirm", "ok", "boolean")
        return InputRequiredResult(input_requests={"confirm": question}, request_state=_ASKED)
    return "state-ok"


def multiple_inputs(ctx: Context) -> str | InputRequiredResult:
    """Ask the user, the client's model and for its roots, at once."""
    name, greeting = _filled_in(ctx, "user_name", "name"), _sampled(ctx, "greeting")
    roots = _roots(ctx, "client_roots")
    if ctx.request_state != _ASKED or name is None or greeting is None or roots is None:
        requests: dict[str, InputRequest] = {
            "user_name": _ask_name(),
            "greeting": _sample("Generate a greeting", max_tokens=50),
            "client_roots": ListRootsRequest(),
        }
        return InputRequiredResult(input_requests=requests, request_state=_ASKED)
    return f"{greeting} {name}, of {', '.join(roots)}"


def multi_round(ctx: Context) -> str | InputRequiredResult:
    """Ask for a name, then for a color; the name is in the state that goes out with the second question."""
    known: dict[str, Any] = json.loads(ctx.request_state or "{}")
    name = known.get("name") or _filled_in(ctx, "step1", "name")
    color = _filled_in(ctx, "step2", "color")
    if name is None:
        question = _form("Step 1: What is your name?", "name", "string")
        return InputRequiredResult(input_requests={"step1": question}, request_state="{}")
    if color is None:
        question = _form("Step 2: What is your favorite color?", "color", "string")
        state = json.dumps({"name": name})
        return InputRequiredResult(input_requests={"step2": question}, request_state=state)
    return f"{name} likes {color}."


def capabilities(ctx: Context) -> str | InputRequiredResult:
    """Ask for what this client can answer, and nothing else."""
    can, requests = ctx.client_capabilities, dict[str, InputRequest]()
    if can is not None and can.elicitation is not None:
        requests["user_name"] = _ask_name()
    if can is not None and can.sampling is not None:
        requests["greeting"] = _sample("Generate a greeting", max_tokens=50)
    if not requests or ctx.input_responses:
        return f"{len(ctx.input_responses or {})} answers"
    return InputRequiredResult(input_requests=requests)


def prompt(ctx: Context) -> list[UserMessage] | InputRequiredResult:
    """A prompt that asks what it is for."""
    context = _filled_in(ctx, "user_context", "context")
    if context is None:
        return _ask(user_context=_form("What context should the prompt use?", "context", "string"))
    return [UserMessage(f"Use this context: {context}")]


def _ask(**requests: InputRequest) -> InputRequiredResult:
    return InputRequiredResult(input_requests=requests)


def _ask_name() -> ElicitRequest:
    return _form("What is your name?", "name", "string")


def _form(message: str, field: str, kind: str) -> ElicitRequest:
    schema = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _sample(text: str, *, max_tokens: int = 100) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(text=text))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=max_tokens))


def _filled_in(ctx: Context, key: str, field: str) -> Any:
    """Return what the user filled in, or `None`: then the question is to be asked (again)."""
    match (ctx.input_responses or {}).get(key):
        case ElicitResult(action="accept", content=dict() as content):
            return content.get(field)
        case _:
            return None


def _sampled(ctx: Context, key: str) -> str | None:
    match (ctx.input_responses or {}).get(key):
        case CreateMessageResult(content=TextContent() as content):
            return content.text
        case _:
            return None


def _roots(ctx: Context, key: str) -> list[str] | None:
    match (ctx.input_responses or {}).get(key):
        case ListRootsResult(roots=roots):
            return [str(root.uri) for root in roots]
        case _:
            return None
