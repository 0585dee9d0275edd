"""The notes server itself: what its tools do, who may come in, and its one table."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from handlers.notes.access import TokenList
from tests.deploy.fresh import fresh
from tests.support.client import Client
from tests.support.modern import ModernClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

ANN, BOB = "ann-0123456789abcdef", "bob-0123456789abcdef"
TOKENS = f"ann:{ANN}, bob:{BOB}"


@pytest.fixture
async def module(monkeypatch: pytest.MonkeyPatch, database_url: str) -> AsyncGenerator[Any]:
    variables = {"TMCP_DATABASE_URL": database_url, "NOTES_TOKENS": TOKENS}
    with fresh(monkeypatch, "notes.server", **variables) as module:
        yield module
        await module.handler.aclose()


async def client_of(module: Any, token: str, **capabilities: Any) -> Client:
    client = Client(module.handler.app)
    client.always["authorization"] = f"Bearer {token}"
    return await client.initialize(capabilities=capabilities)


async def test_a_note_is_found_by_its_words_and_its_tag_and_bears_its_authors_name(module: Any) -> None:
    ann = await client_of(module, ANN)
    written = json.loads(await ann.call("write_note", title="Tea", text="We are out of it", tags=["kitchen"]))
    assert (written["author"], written["tags"]) == ("ann", ["kitchen"])
    await ann.call("write_note", title="Coffee", text="There is some")
    for arguments in ({"words": "out TEA"}, {"tag": "kitchen"}, {"words": "tea", "tag": "kitchen"}):
        assert [note["id"] for note in await found(ann, **arguments)] == [written["id"]]
    assert await found(ann, words="tea coffee") == []
    assert [note["title"] for note in await found(ann)] == ["Coffee", "Tea"]


async def found(client: Client, **arguments: str) -> list[dict[str, Any]]:
    result = await client.result("tools/call", {"name": "find_notes", "arguments": arguments})
    return result["structuredContent"]["result"]


async def test_an_import_says_how_far_it_is(module: Any) -> None:
    ann = await client_of(module, ANN)
    arguments = {"document": "before\n# One\nfirst\n## Two  \n\nsecond\n", "tag": "week"}
    params = {"name": "import_notes", "arguments": arguments, "_meta": {"progressToken": 1}}
    exchange = await ann.ask("tools/call", params)
    told = [message["params"] for message in exchange.messages if "method" in message]
    assert [(each["progress"], each["total"], each["message"]) for each in told] == [
        (1, 2, "1 of 2: One"),
        (2, 2, "2 of 2: Two"),
    ]
    assert [(note["title"], note["text"]) for note in await found(ann, tag="week")] == [
        ("Two", "second"),
        ("One", "first"),
    ]


async def test_what_cannot_be_done_is_said(module: Any) -> None:
    ann = await client_of(module, ANN)
    assert "no headings" in await ann.call("import_notes", document="text")
    assert "There is no note 7" in await ann.call("delete_note", note_id=7)
    await ann.call("write_note", title="Tea", text="")
    assert "this client cannot ask" in await ann.call("delete_note", note_id=1)
    error = (await ann.ask("resources/read", {"uri": "notes://7"})).messages[-1]["error"]
    assert "There is no note 7" in error["message"]


@pytest.mark.parametrize(("sure", "left"), [(True, 0), (False, 1)])
async def test_a_note_is_deleted_with_the_users_consent(module: Any, *, sure: bool, left: int) -> None:
    ann = await client_of(module, ANN, elicitation={})
    await ann.call("write_note", title="Tea", text="")
    params = {"name": "delete_note", "arguments": {"note_id": 1}}
    message = {"jsonrpc": "2.0", "id": "d", "method": "tools/call", "params": params}
    async with ann.send("POST", message) as exchange:
        [asked] = await exchange.count(1)
        assert asked["params"]["message"] == "Delete 'Tea', by ann?"
        answer = {"action": "accept", "content": {"sure": sure}}
        response = await ann.post({"jsonrpc": "2.0", "id": asked["id"], "result": answer})
        assert response.status == 202
        await exchange.whole()
    assert len(await found(ann)) == left


async def test_a_client_without_a_session_is_asked_all_the_same(
    monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    variables = {"TMCP_DATABASE_URL": database_url, "NOTES_TOKENS": "open"}
    with fresh(monkeypatch, "notes.server", **variables) as module:
        client = ModernClient(module.handler.app)
        await client.call("write_note", title="Tea", text="")
        asked = await client.call("delete_note", note_id=1)
        [key] = asked["inputRequests"]
        answer = {key: {"action": "accept", "content": {"sure": True}}}
        exchange = await client.answer(asked, answer, "delete_note", note_id=1)
        assert exchange.messages[-1]["result"]["content"][0]["text"] == "Note 1 is deleted."
        await module.handler.aclose()


async def test_a_note_that_is_written_is_told_to_whom_it_concerns(module: Any) -> None:
    ann, bob = await client_of(module, ANN), await client_of(module, BOB)
    await ann.result("resources/subscribe", {"uri": "notes://recent"})
    async with ann.listen() as stream:
        await bob.call("write_note", title="Tea", text="secret")
        [told] = await stream.count(1)
        assert (told["method"], told["params"]["uri"]) == (
            "notifications/resources/updated",
            "notes://recent",
        )
    [content] = (await ann.result("resources/read", {"uri": "notes://recent"}))["contents"]
    [listed] = json.loads(content["text"])
    assert (listed["title"], listed["author"]) == ("Tea", "bob")
    assert "text" not in listed
    prompt = await ann.result("prompts/get", {"name": "digest", "arguments": {"tag": ""}})
    assert "# Tea (bob)\nsecret" in prompt["messages"][0]["content"]["text"]


async def test_nobody_comes_in_without_a_token_and_nobody_into_anothers_session(module: Any) -> None:
    ann = await client_of(module, ANN)
    for token, status in (("", 401), ("Bearer wrong", 401), (f"Bearer {BOB}", 404)):
        ann.always["authorization"] = token
        assert (await ann.ask("tools/list")).status == status


@pytest.mark.parametrize("listed", ["ann", "ann:", ":0123456789abcdef", "ann:short", "ann:0123456789abcdef,"])
def test_a_list_of_tokens_that_is_none_is_refused_when_it_is_read(listed: str) -> None:
    with pytest.raises(ValueError, match=r"NOTES_TOKENS is NAME:TOKEN.*secrets\.token_urlsafe"):
        TokenList(listed)


@pytest.mark.parametrize(("tokens", "warns"), [("", True), ("open", False)])
async def test_an_open_notebook_is_wanted_or_warned_of(
    monkeypatch: pytest.MonkeyPatch,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
    tokens: str,
    *,
    warns: bool,
) -> None:
    variables = {"TMCP_DATABASE_URL": database_url, "NOTES_TOKENS": tokens}
    with fresh(monkeypatch, "notes.server", **variables) as module:
        client = await Client(module.handler.app).initialize()
        assert json.loads(await client.call("write_note", title="Tea", text=""))["author"] == "somebody"
        await module.handler.aclose()
    assert ("NOTES_TOKENS is not set" in caplog.text) is warns


async def test_twenty_at_once_make_the_table_and_a_role_without_ddl_uses_it(
    monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setenv("TMCP_DATABASE_URL", database_url)
    with fresh(monkeypatch, "notes.notebook") as module:
        books = [module.Notebook() for _ in range(20)]

        async def write(book: Any) -> None:
            async with book.lifespan(None):
                await book.write("Tea", "", tags=[], author="ann")

        await asyncio.gather(*map(write, books))
        admin = await asyncpg.connect(database_url)
        role = f"reader_{urlsplit(database_url).path.strip('/')}"
        try:
            await admin.execute(
                f"CREATE ROLE {role} LOGIN PASSWORD 'reads'; GRANT SELECT ON team_notes TO {role}; "
                "REVOKE CREATE ON SCHEMA public FROM public"
            )
            place = urlsplit(database_url).netloc.rpartition("@")[2]
            url = urlsplit(database_url)._replace(netloc=f"{role}:reads@{place}").geturl()
            monkeypatch.setenv("TMCP_DATABASE_URL", url)
            book = module.Notebook()
            async with book.lifespan(None):
                assert len(await book.find()) == 20
        finally:
            await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
            await admin.close()
