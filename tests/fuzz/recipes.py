"""Recipes: requests of both eras and of HTTP+SSE, by weight, with the corpus's material, then changed."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

from tests.fuzz.corpus import PRINCIPALS, Corpus, Session, State
from tests.fuzz.grammar import Draw, header_value, json_value, mutated_bytes, mutated_text, text
from tests.fuzz.inputs import Input, Plan, as_input, mutate, whole_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from random import Random

__all__ = ["INSTANCES", "Recipes"]

INSTANCES = 3

_VERSIONS = ("2025-11-25", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05", "1999-01-01")
_MODERN = "2026-07-28"
_META = "io.modelcontextprotocol"
_BOTH = b"application/json, text/event-stream"
_CAPABILITIES: dict[str, Any] = {
    "elicitation": {"form": {}, "url": {}},
    "sampling": {},
    "roots": {"listChanged": True},
}
_URIS = ("fuzz://own", "fuzz://item/a", "fuzz://item/absent", "fuzz://none", "file:///etc/passwd", "")
_NO_SESSION = Session("a" * 43, "2025-11-25")
_NO_STATE = State("v1.AAAA", "ask", ("ask",))
_NO_QUESTION = ("a" * 43, "rMQ.000000000000000000000000")
_NO_EVENT = ("a" * 43, "rMQ.000000000000:1.0")
_ANSWERS: tuple[dict[str, Any], ...] = (
    {"action": "accept", "content": {"word": "yes"}},
    {"action": "decline"},
    {"action": "accept", "content": {"word": 7}},
    {"action": "cancel"},
    {"role": "assistant", "content": {"type": "text", "text": "hello"}, "model": "m"},
    {"roots": [{"uri": "file:///r"}]},
)
_STREAM_SECONDS = (0.05, 0.3, 1.5)


class Recipes:
    """Endless inputs.

    Args:
        random: The source of every choice.
        corpus: Live material; what it holds changes no choice.
        tokens: The principals' bearer tokens.

    """

    def __init__(self, random: Random, corpus: Corpus, tokens: Mapping[str, str]) -> None:
        self._draw = Draw(random)
        self._corpus = corpus
        self._tokens = tokens
        weights: dict[Callable[[str], Plan], int] = {
            self._initialize: 40,
            self._call: 170,
            self._ask: 40,
            self._reply: 60,
            self._request: 140,
            self._notification: 50,
            self._batch: 25,
            self._listen: 25,
            self._resume: 50,
            self._delete: 12,
            self._modern_call: 90,
            self._modern_ask: 40,
            self._modern_retry: 50,
            self._modern_listen: 15,
            self._modern_request: 50,
            self._open_sse: 10,
            self._post_sse: 50,
            self._route: 35,
            self._anything: 60,
            self._garbage: 15,
        }
        self._recipes = list(weights)
        self._bounds = list(accumulate(weights.values()))

    def next(self) -> Input:
        """Return the next input."""
        draw = self._draw
        who = draw.pick((*PRINCIPALS, *PRINCIPALS, *PRINCIPALS, *PRINCIPALS, *PRINCIPALS, "nobody"))
        place = draw.below(self._bounds[-1])
        recipe = next(each for each, bound in zip(self._recipes, self._bounds, strict=True) if place < bound)
        plan = recipe(who)
        plan.who = who
        for _ in range(draw.pick((0, 0, 0, 0, 1, 1, 2, 4))):
            mutate(draw, plan)
        token = self._tokens.get(who, "")
        changed, is_changed = mutated_text(draw, token), draw.chance(0.02)
        if is_changed and changed.strip() != token and "\0" not in changed:
            plan.who, token = "nobody", changed
        if token:
            plan.headers.append((b"authorization", f"Bearer {token}".encode()))
        return as_input(draw, plan, instance=draw.below(INSTANCES))

    def first(self) -> Iterator[list[Input]]:
        """Yield inputs that nothing is done to, in rounds: the later ones use what the earlier ones bring."""
        for recipe in (
            self._initialize,
            self._call,
            self._ask,
            self._modern_call,
            self._modern_ask,
            self._listen,
        ):
            plans: list[Plan] = []
            for who in (*PRINCIPALS, *PRINCIPALS, *PRINCIPALS, *PRINCIPALS):
                plan = recipe(who)
                plan.who = who
                plan.headers.append((b"authorization", f"Bearer {self._tokens[who]}".encode()))
                plans.append(plan)
            yield [whole_input(plan, instance=number % INSTANCES) for number, plan in enumerate(plans)]

    # Parts

    def _post(self, name: str, message: Any, *, session: Session | None = None, **more: Any) -> Plan:
        host = self._draw.pick(
            (b"127.0.0.1", b"127.0.0.1", b"127.0.0.1:80", b"localhost:80", b"localhost", b"mcp.example")
        )
        headers = [(b"host", host), (b"accept", _BOTH), (b"content-type", b"application/json")]
        if session is not None:
            headers.append((b"mcp-session-id", session.id.encode()))
            headers.append((b"mcp-protocol-version", session.version.encode()))
        plan = Plan(name, headers=headers, message=message, session_id=session.id if session else "", **more)
        plan.patience_seconds = self._draw.pick(_STREAM_SECONDS)
        return plan

    def _session(self, who: str) -> Session:
        session: Session = self._corpus.pick(self._draw, self._corpus.sessions, who, _NO_SESSION)
        changed = mutated_text(self._draw, session.id)
        return Session(changed, session.version) if self._draw.chance(0.03) else session

    def _id(self) -> Any:
        return self._draw.pick((1, 2, 3, "1", "a", 7, "x" * 60, 2**53, -1))

    def _tool(self) -> tuple[str, dict[str, Any]]:
        draw = self._draw
        calls: tuple[tuple[str, dict[str, Any]], ...] = (
            ("echo", {"text": text(draw)}),
            ("echo", {"text": "plain"}),
            ("large", {"bytes": draw.pick((1, 1, 1, 70_000, 70_000, 270_000))}),
            ("slow", {"seconds": draw.pick((0, 0.05, 0.3))}),
            ("progress", {"n": draw.pick((0, 3, 20))}),
            ("log", {"text": text(draw)}),
            ("announce", {}),
            ("tell", {"uri": draw.pick(_URIS)}),
            ("fail", {"text": text(draw)}),
            ("leave", {}),
            ("absent", {}),
            ("echo", json_value(draw)),
        )
        return draw.pick(calls)

    def _called(self, name: str, arguments: Any) -> dict[str, Any]:
        token = self._draw.pick(("p", 7, "p"))
        return {"name": name, "arguments": arguments, "_meta": {"progressToken": token}}

    # The handshake era

    def _initialize(self, who: str) -> Plan:
        draw = self._draw
        known, session = draw.chance(0.15), self._session(who)
        params: dict[str, Any] = {
            "protocolVersion": draw.pick(_VERSIONS),
            "capabilities": draw.pick((_CAPABILITIES, _CAPABILITIES, {}, json_value(draw))),
            "clientInfo": draw.pick(({"name": "fuzz", "version": "1"}, json_value(draw))),
        }
        message = {"jsonrpc": "2.0", "id": self._id(), "method": "initialize", "params": params}
        return self._post("initialize", message, session=session if known else None)

    def _call(self, who: str) -> Plan:
        name, arguments = self._tool()
        message = {"jsonrpc": "2.0", "id": self._id(), "method": "tools/call"}
        params = self._called(name, arguments)
        return self._post("call", {**message, "params": params}, session=self._session(who), tool=name)

    def _ask(self, who: str) -> Plan:
        name = self._draw.pick(("ask", "ask", "sample"))
        message = {"jsonrpc": "2.0", "id": self._id(), "method": "tools/call"}
        params = self._called(name, {})
        plan = self._post("ask", {**message, "params": params}, session=self._session(who), tool=name)
        plan.patience_seconds = self._draw.pick((0.05, 1.0, 3.0))
        return plan

    def _reply(self, who: str) -> Plan:
        draw = self._draw
        session_id, question = self._corpus.pick(draw, self._corpus.questions, who, _NO_QUESTION)
        changed, moved, other = mutated_text(draw, question), draw.chance(0.1), self._session(who)
        message = {
            "jsonrpc": "2.0",
            "id": changed if draw.chance(0.1) else question,
            "result": draw.pick((*_ANSWERS, *_ANSWERS, json_value(draw))),
        }
        session = other if moved else Session(session_id, "2025-11-25")
        if session.id.startswith("sse-"):
            plan = self._post("reply", message)
            plan.target = f"/message?session_id={session.id}".encode()
            return plan
        return self._post("reply", message, session=session)

    def _params(self, who: str, method: str) -> Any:
        draw = self._draw
        uri, prompt, level = (
            draw.pick(_URIS),
            draw.pick(("prompt", "absent")),
            draw.pick(("debug", "error", "x")),
        )
        cursor = self._corpus.pick(draw, self._corpus.cursors, who, "1.0")
        strange = draw.chance(0.2)
        match method.partition("/")[0]:
            case "resources" if not method.endswith("list"):
                return {"uri": uri}
            case "prompts" if method == "prompts/get":
                return {"name": prompt, "arguments": {"text": "t"}}
            case "logging":
                return {"level": level}
            case "completion":
                return {
                    "ref": {"type": "ref/prompt", "name": prompt},
                    "argument": {"name": "text", "value": "t"},
                }
            case _:
                return {"cursor": cursor} if strange else {}

    def _method(self) -> str:
        return self._draw.pick(
            (
                "ping",
                "tools/list",
                "resources/list",
                "resources/templates/list",
                "resources/read",
                "resources/subscribe",
                "resources/unsubscribe",
                "prompts/list",
                "prompts/get",
                "logging/setLevel",
                "completion/complete",
                "absent/method",
                "subscriptions/listen",
                "server/discover",
                "tasks/get",
                "",
            )
        )

    def _request(self, who: str) -> Plan:
        method = self._method()
        message = {"jsonrpc": "2.0", "id": self._id(), "method": method, "params": self._params(who, method)}
        return self._post("request", message, session=self._session(who))

    def _notified(self, who: str) -> dict[str, Any]:
        draw = self._draw
        _, question = self._corpus.pick(draw, self._corpus.questions, who, _NO_QUESTION)
        notifications: tuple[tuple[str, dict[str, Any]], ...] = (
            ("initialized", {}),
            ("cancelled", {"requestId": self._id(), "reason": text(draw)}),
            ("cancelled", {"requestId": json_value(draw)}),
            ("progress", {"progressToken": question, "progress": 1}),
            ("progress", {"progressToken": json_value(draw), "progress": text(draw)}),
            ("roots/list_changed", {}),
            ("absent", {"x": json_value(draw)}),
        )
        method, params = draw.pick(notifications)
        return {"jsonrpc": "2.0", "method": f"notifications/{method}", "params": params}

    def _notification(self, who: str) -> Plan:
        return self._post("notification", self._notified(who), session=self._session(who))

    def _batch(self, who: str) -> Plan:
        draw = self._draw
        messages: list[Any] = []
        for _ in range(draw.pick((0, 1, 2, 5, 20))):
            name, arguments = self._tool()
            call = {"jsonrpc": "2.0", "id": self._id(), "method": "tools/call"}
            call["params"] = self._called(name, arguments)
            messages.append(draw.pick((call, call, self._notified(who), json_value(draw))))
        repeated = messages * draw.pick((1, 1, 1, 60))
        session = self._session(who)
        version = draw.pick(("2025-03-26", session.version))
        return self._post("batch", repeated, session=Session(session.id, version))

    def _get(self, name: str, session: Session, event: bytes | None) -> Plan:
        plan = self._post(name, None, session=session)
        plan.method = b"GET"
        if event is not None:
            plan.headers.append((b"last-event-id", event))
        return plan

    def _listen(self, who: str) -> Plan:
        return self._get("listen", self._session(who), None)

    def _resume(self, who: str) -> Plan:
        draw = self._draw
        session_id, event = self._corpus.pick(draw, self._corpus.events, who, _NO_EVENT)
        moved, other = draw.chance(0.15), self._session(who)
        changed, strange = mutated_text(draw, event), header_value(draw)
        value = draw.pick((event, event, event, changed)).encode("latin-1", "replace")
        session = other if moved else Session(session_id, "2025-11-25")
        return self._get("resume", session, strange if draw.chance(0.1) else value)

    def _delete(self, who: str) -> Plan:
        plan = self._post("delete", None, session=self._session(who))
        plan.method = b"DELETE"
        return plan

    # 2026-07-28

    def _modern(self, name: str, method: str, params: Any, *, tool: str = "") -> Plan:
        draw = self._draw
        meta = {
            f"{_META}/protocolVersion": _MODERN,
            f"{_META}/clientInfo": {"name": "fuzz", "version": "1"},
            f"{_META}/clientCapabilities": draw.pick((_CAPABILITIES, _CAPABILITIES, {})),
        }
        message = {"jsonrpc": "2.0", "id": self._id(), "method": method, "params": {**params, "_meta": meta}}
        plan = self._post(name, message, tool=tool)
        named = str(params.get("name", params.get("uri", "")))
        plan.headers.append((b"mcp-protocol-version", _MODERN.encode()))
        plan.headers.append((b"mcp-method", method.encode()))
        if named:
            plan.headers.append((b"mcp-name", named.encode("utf-8", "surrogatepass")))
        return plan

    def _modern_call(self, who: str) -> Plan:
        del who
        name, arguments = self._tool()
        return self._modern("modern call", "tools/call", {"name": name, "arguments": arguments}, tool=name)

    def _modern_ask(self, who: str) -> Plan:
        del who
        name = self._draw.pick(("ask", "ask", "ask", "sample"))
        return self._modern("modern ask", "tools/call", {"name": name, "arguments": {}}, tool=name)

    def _modern_retry(self, who: str) -> Plan:
        draw = self._draw
        state: State = self._corpus.pick(draw, self._corpus.states, who, _NO_STATE)
        changed, spoilt, answer = mutated_text(draw, state.text), draw.chance(0.2), draw.pick(_ANSWERS)
        tool, arguments = draw.pick(("ask", "ask", "ask", "echo")), draw.pick(({}, {}, {}, {"text": "other"}))
        responses: Any = dict.fromkeys(state.keys, answer)
        params = {
            "name": tool,
            "arguments": arguments,
            "inputResponses": draw.pick((responses, responses, {}, json_value(draw))),
            "requestState": changed if spoilt else state.text,
        }
        return self._modern("modern retry", "tools/call", params, tool=tool)

    def _modern_listen(self, who: str) -> Plan:
        del who
        draw = self._draw
        wanted: dict[str, Any] = {
            "toolsListChanged": draw.chance(0.5),
            "resourceSubscriptions": [draw.pick(_URIS)],
            "resourcesListChanged": draw.chance(0.5),
        }
        asked = draw.pick((wanted, wanted, json_value(draw)))
        return self._modern("modern listen", "subscriptions/listen", {"notifications": asked})

    def _modern_request(self, who: str) -> Plan:
        method = self._method()
        return self._modern("modern request", method, self._params(who, method))

    # HTTP+SSE, other routes, and anything

    def _open_sse(self, who: str) -> Plan:
        del who
        plan = self._post("open sse", None)
        plan.method, plan.target = b"GET", b"/sse"
        plan.patience_seconds = self._draw.pick((0.3, 2.0, 4.0))
        return plan

    def _post_sse(self, who: str) -> Plan:
        draw = self._draw
        session = self._corpus.pick(draw, self._corpus.stream_sessions, who, "sse-" + "a" * 43)
        name, arguments = self._tool()
        method = self._method()
        first: dict[str, Any] = {"protocolVersion": "2024-11-05", "capabilities": _CAPABILITIES}
        first["clientInfo"] = {"name": "fuzz", "version": "1"}
        asked: tuple[tuple[str, Any], ...] = (
            ("tools/call", self._called(name, arguments)),
            ("tools/call", self._called("ask", {})),
            ("initialize", first),
            (method, self._params(who, method)),
        )
        chosen, params = draw.pick(asked)
        request = {"jsonrpc": "2.0", "id": self._id(), "method": chosen, "params": params}
        plan = self._post("post sse", draw.pick((request, request, request, self._notified(who))))
        changed = mutated_text(draw, session).encode("ascii", "replace")
        query = changed.replace(b" ", b"+").replace(b"\0", b"%00") if draw.chance(0.05) else session.encode()
        plan.target = b"/message?session_id=" + query
        return plan

    def _route(self, who: str) -> Plan:
        del who
        plan = self._post("route", None)
        plan.method = self._draw.pick((b"GET", b"GET", b"HEAD", b"OPTIONS", b"POST"))
        plan.target = self._draw.pick(
            (
                b"/healthz",
                b"/readyz",
                b"/custom/x",
                b"/.well-known/oauth-protected-resource/mcp",
                b"/absent",
                b"/mcp/absent",
            )
        )
        return plan

    def _anything(self, who: str) -> Plan:
        draw = self._draw
        plan = self._post("anything", json_value(draw, depth=5), session=self._session(who))
        for _ in range(3):
            mutate(draw, plan)
        return plan

    def _garbage(self, who: str) -> Plan:
        del who
        data = self._draw.pick(
            (b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n\r\n", b"\0" * 99)
        )
        changed = mutated_bytes(self._draw, data)
        return Plan("garbage", method=changed[:2_000], target=b"", version=b"")
