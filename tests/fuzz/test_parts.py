"""Parts that read a client's text, on any text: they raise nothing but the documented refusals."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.readers.rules import READERS, Rules
from tmcp_serverless.errors import InvalidCursorError
from tmcp_serverless.handshake.addresses import (
    EventId,
    StandaloneId,
    inbox_of,
    inbox_of_question,
    new_question_id,
    new_run,
    request_id_of,
    request_name,
    same_id_as_other_type,
)
from tmcp_serverless.http import (
    HttpOptions,
    HttpProblem,
    Kind,
    OriginPolicy,
    Request,
    classify,
    dump,
    parse,
    path_of,
    sse,
)
from tmcp_serverless.sessions import Cursor
from tmcp_serverless.sessions.addresses import is_minted_id, is_private, is_session_id, is_stream_session_id

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_INDEXED_BYTES = 2_000
SESSION = "a" * 43

fuzzed = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

header_texts = st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=80)
"""What a header holds, as the transports read it: any bytes, taken for Latin-1."""

json_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
json_values: st.SearchStrategy[Any] = st.recursive(
    json_leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
messages = json_values | st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.just("2.0") | json_values,
        "id": st.integers() | st.text() | json_values,
        "method": st.text() | json_values,
        "params": st.dictionaries(st.text(), json_values, max_size=3) | json_values,
        "result": st.dictionaries(st.text(), json_values, max_size=3) | json_values,
        "error": st.fixed_dictionaries({}, optional={"code": json_values, "message": json_values})
        | json_values,
    },
)
request_ids = st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


def near(*forms: str) -> st.SearchStrategy[str]:
    """Return texts of these forms, and others that differ in a character or two."""

    def changed(form: str, place: int, what: str, kept: int) -> str:
        place %= len(form) + 1
        return form[:place] + what + form[place + kept :]

    altered = st.builds(changed, st.sampled_from(forms), st.integers(0, 200), header_texts, st.integers(0, 2))
    return st.sampled_from(forms) | altered | header_texts


session_ids = near(SESSION, f"sse-{SESSION}", "a" * 128, f"{SESSION}/in.rMQ", "")
event_ids = near(
    "rMQ.0123456789ab:12.3", "rMQ.0123456789ab:12.3@89abcdef~", "hab.0123456789ab:1.0", "12.3@+89abcdef"
)
accepts = near("application/json, text/event-stream", "*/*;q=0.1, text/*;q=0", "a/b;q=1;x=y,,;")
origins = near("http://localhost:8000", "https://app.example", "http://[::1]:80", "null", "http://127.1")
hosts = near(
    "evil.example:80",
    "localhost:8000",
    "127.0.0.1",
    "[::ffff:127.0.0.1]:1",
    "app.example:443",
    "a..b",
    "[fe80::1%eth0]",
)


async def nothing() -> Any:
    """Receive a client that has left."""
    return {"type": "http.disconnect"}


def asked(**headers: str) -> Request:
    """Return a request with these headers."""
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/mcp", "headers": pairs}, nothing)


def refusal_by(call: Callable[[], Any]) -> HttpProblem | None:
    """Return the refusal that the call raises, or `None`. Any other error goes through."""
    try:
        call()
    except HttpProblem as problem:
        return problem
    return None


@fuzzed
@given(session_ids)
def test_a_session_id_is_taken_only_if_it_can_name_nothing_else(text: str) -> None:
    if is_session_id(text):
        assert text.isascii()
        assert not is_private(text)
        assert not {"/", ":", "\0", " ", "\n"} & {*text}
        assert len(text) <= 128
    if is_stream_session_id(text) or is_minted_id(text):
        assert is_session_id(text)


@fuzzed
@given(event_ids)
def test_an_event_id_is_read_as_one_stream_of_its_session_or_as_none(text: str) -> None:
    event = EventId.parse(text)
    if event is not None:
        mailbox = event.mailbox(SESSION)
        assert mailbox.startswith(f"{SESSION}/out.")
        assert mailbox.count("/") == 1
        assert EventId.parse(str(event)) == event
        assert len(mailbox.encode()) < LONGEST_INDEXED_BYTES
    standalone = StandaloneId.parse(text)
    assert standalone.cursor != ""
    assert not (standalone.at_least and standalone.cursor is None)


@fuzzed
@given(near("0.0", "12.3", "999999999999999999.0", "-1.0", "1.٣"))
def test_a_cursor_is_two_numbers_that_postgres_can_hold_or_is_refused(text: str) -> None:
    try:
        cursor = Cursor.parse(text)
    except InvalidCursorError:
        pass
    else:
        assert all(0 <= number < 2**63 for number in cursor)
        assert Cursor.parse(str(cursor)) == cursor


@fuzzed
@given(request_ids)
def test_a_request_has_a_name_that_leads_back_to_it(request_id: str | int) -> None:
    name = request_name(request_id)
    assert name.isascii()
    assert "/" not in name
    assert request_id_of(name) in (request_id, None)
    assert type(request_id_of(name)) in (type(request_id), type(None))
    question = new_question_id(name)
    assert inbox_of_question(SESSION, question) == inbox_of(SESSION, name)
    event = EventId(name, new_run(), "12.3")
    assert EventId.parse(str(event)) == event


@fuzzed
@given(near("rMQ", "rImEi", "h0123", "n0123", "r____", "rgIA") | st.text())
def test_a_name_of_any_form_names_a_request_or_none(text: str) -> None:
    found = request_id_of(text)
    assert type(found) in (str, int, type(None))
    if found is not None:
        dump({"id": found})


@fuzzed
@given(st.text() | st.integers().map(str) | st.integers())
def test_ids_of_the_other_type_lead_back(request_id: str | int) -> None:
    other = same_id_as_other_type(request_id)
    if other is not None:
        assert same_id_as_other_type(other) == request_id


@fuzzed
@given(json_values | near("rMQ.0123456789ab0123456789ab", "nab.0123456789ab0123456789ab"))
def test_the_reply_to_a_question_goes_to_its_sessions_inbox_or_nowhere(question_id: Any) -> None:
    inbox = inbox_of_question(SESSION, question_id)
    assert inbox is None or (inbox.startswith(f"{SESSION}/in.") and inbox.count("/") == 1)


@fuzzed
@given(accepts)
def test_accept_is_read_as_two_booleans(text: str) -> None:
    assert [type(each) for each in asked(accept=text).accepts()] == [bool, bool]


@fuzzed
@given(accepts, st.booleans())
def test_accept_means_the_same_with_spaces_and_in_any_case(text: str, upper: bool) -> None:  # noqa: FBT001
    if text.isascii() and text.upper().lower() == text.lower():
        spaced = text.replace(",", " ,\t ").upper() if upper else text.replace(",", " , ")
        assert asked(accept=spaced).accepts() == asked(accept=text).accepts()


@fuzzed
@given(hosts, st.none() | origins, st.sampled_from(["127.0.0.1", "10.0.0.1", "::1", ""]))
def test_an_origin_is_accepted_or_refused(host: str, origin: str | None, server: str) -> None:
    for policy in (
        OriginPolicy(),
        OriginPolicy(allowed_hosts=("app.example:*",), allowed_origins=("https://a",)),
    ):
        for method in ("GET", "POST"):
            refused = refusal_by(
                partial(policy.check, host=host, origin=origin, server=server, method=method)
            )
            assert refused is None or refused.status in (403, 421)


@fuzzed
@given(hosts)
def test_a_foreign_page_is_refused_at_a_loopback_address(host: str) -> None:
    foreign = "https://evil.example"
    with pytest.raises(HttpProblem, match="Invalid Origin"):
        OriginPolicy().check(host=host, origin=foreign, server="127.0.0.1", method="POST")


@fuzzed
@given(messages)
def test_a_message_has_one_kind_or_is_a_400(message: Any) -> None:
    refused = refusal_by(partial(classify, message))
    if refused is not None:
        assert refused.status == 400
        assert len(str(refused)) < 200
        return
    kind, found = classify(message)
    assert found["jsonrpc"] == "2.0"
    assert ("method" in found) == (kind is not Kind.RESPONSE)
    assert (type(found.get("id")) in (str, int)) or kind is not Kind.REQUEST
    assert ("result" in found) != ("error" in found) or kind is not Kind.RESPONSE
    json.loads(dump(found))


@fuzzed
@given(st.binary(max_size=200) | messages.map(lambda value: json.dumps(value).encode("utf-8", "replace")))
def test_a_body_is_json_or_a_400(body: bytes) -> None:
    refused = refusal_by(lambda: asyncio.run(parse(body, HttpOptions())))
    assert refused is None or (refused.status, refused.code) in ((400, -32700), (400, -32602))


@fuzzed
@given(header_texts)
def test_a_length_of_any_form_refuses_no_body_that_is_short(declared: str) -> None:
    request = asked(content_length=declared)
    coroutine = request.body(limit_bytes=1_000)
    with pytest.raises(HttpProblem) as refused:
        coroutine.send(None)
    assert refused.value.status in (400, 413)
    assert refused.value.status == 400 or (declared.isdigit() and int(declared) > 1_000)


@fuzzed
@given(header_texts, header_texts, st.sampled_from(["mcp-session-id", "last-event-id", "accept", "x"]))
def test_a_header_with_two_values_is_a_list_or_a_400(first: str, second: str, name: str) -> None:
    pairs = [(name.encode(), each.encode("latin-1")) for each in (first, second)]
    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": pairs}
    made: list[Request] = []
    refused = refusal_by(lambda: made.append(Request(scope, nothing)))
    if refused is None:
        assert first in made[0].headers[name]
    else:
        assert refused.status == 400
        assert first != second


@fuzzed
@given(st.text(st.characters(exclude_characters="\0")), st.sampled_from(["", "/app", "/app/"]))
def test_a_path_inside_the_application_has_no_slash_at_its_end(path: str, root: str) -> None:
    assert not path_of({"path": path, "root_path": root}).endswith("/")


@pytest.mark.parametrize("rules", READERS, ids=lambda rules: rules.__name__)
@fuzzed
@given(value=json_values)
def test_any_message_is_one_event_for_every_reader(rules: type[Rules], value: Any) -> None:
    message = {"jsonrpc": "2.0", "method": "m", "params": {"value": value}}
    data = dump(message)
    reader = rules()
    found: list[Any] = []
    for line in sse.event(data, id="12.3").decode().split("\n")[:-1]:
        event = reader.line(line)
        if event is not None:
            found.append(reader.message(event))
    assert found == [json.loads(data)]
