"""The MCP server: four tools, a resource that changes, and a prompt.

When one instance writes a note, clients with streams on other instances are told (`handler.notifier`). That,
and keeping nothing in the process, is all that makes it fit for functions.
"""

import json
import re
from typing import Annotated

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceNotFoundError, ToolError
from mcp.shared.exceptions import NoBackChannelError
from pydantic import BaseModel, Field

from handlers.notes.access import access, author
from handlers.notes.notebook import Note, Notebook
from tmcp_serverless import create_handler, replayable

__all__ = ["handler", "server"]

RECENT = "notes://recent"
_HEADING = re.compile(r"^#{1,6}\s+(?P<title>.+?)\s*$", re.MULTILINE)
_SHOWN = 80

notebook = Notebook()
server = MCPServer(
    "notes",
    version="1.0.0",
    instructions="A team's notes: write, find, import and delete them. Subscribe to notes://recent for news.",
    lifespan=notebook.lifespan,
    **access(),
)


class Consent(BaseModel):
    """What `delete_note` asks the user."""

    sure: bool = Field(description="Really delete this note?")


async def tell(*notes: Note) -> None:
    """Tell every subscribed client that these notes changed, on any instance."""
    for uri in [RECENT, *(f"notes://{note.id}" for note in notes)]:
        await handler.notifier.resource_updated(uri)


@server.tool()
async def write_note(
    title: Annotated[str, Field(min_length=1, max_length=200)],
    text: str,
    tags: Annotated[list[str], Field(max_length=10)] = [],  # noqa: B006 - pydantic copies it
) -> Note:
    """Write a note, for everybody on the team to find."""
    note = await notebook.write(title, text, tags=tags, author=author())
    await tell(note)
    return note


@server.tool()
async def find_notes(words: str = "", tag: str = "") -> list[Note]:
    """Find the newest notes: those that have all the words, and the tag; without either, of all."""
    return await notebook.find(words, tag=tag)


@server.tool()
async def import_notes(document: str, ctx: Context[None], tag: str = "imported") -> list[int]:
    """Make a note of each section of a Markdown document, and say how far it is. Returns the notes' ids."""
    parts = _HEADING.split(document)[1:]
    sections = list(zip(parts[::2], parts[1::2], strict=True))
    if not sections:
        raise ToolError("The document has no headings, so there is nothing to make notes of.")
    written: list[Note] = []
    for done, (title, text) in enumerate(sections, start=1):
        written.append(await notebook.write(title, text.strip(), tags=[tag], author=author()))
        await ctx.report_progress(done, len(sections), f"{done} of {len(sections)}: {title}")
    await tell(*written)
    return [note.id for note in written]


@server.tool()
@replayable  # up to the question it only reads, so it may be run again from the start
async def delete_note(note_id: int, ctx: Context[None]) -> str:
    """Delete a note, after asking the user."""
    note = await notebook.get(note_id)
    if note is None:
        raise ToolError(f"There is no note {note_id}.")
    if ctx.client_capabilities is None or ctx.client_capabilities.elicitation is None:
        raise ToolError("Deleting needs the user's consent, and this client cannot ask.")
    try:
        # The answer is a request of its own, on any instance, and is delivered to this line.
        answer = await ctx.elicit(f"Delete {note.title[:_SHOWN]!r}, by {note.author}?", Consent)
    except NoBackChannelError as error:
        raise ToolError("Deleting needs the user's consent, and no question can be asked here.") from error
    if answer.action != "accept" or not answer.data.sure:
        return f"Note {note_id} stays."
    if not await notebook.delete(note_id):
        raise ToolError(f"Note {note_id} was deleted while you were thinking.")
    await tell(note)
    return f"Note {note_id} is deleted."


@server.resource(RECENT, mime_type="application/json")
async def recent() -> str:
    """List the newest notes, without their texts."""
    found = await notebook.find()
    return json.dumps([note.model_dump(mode="json", exclude={"text"}) for note in found])


@server.resource("notes://{note_id}", mime_type="application/json")
async def one_note(note_id: int) -> str:
    """Show one note."""
    note = await notebook.get(note_id)
    if note is None:
        raise ResourceNotFoundError(f"There is no note {note_id}.")
    return note.model_dump_json()


@server.prompt()
async def digest(tag: str) -> str:
    """Have the model sum up what the team has written under a tag."""
    found = await notebook.find(tag=tag)
    notes = "\n\n".join(f"# {note.title} ({note.author})\n{note.text}" for note in found)
    return f"Sum up these notes for somebody who was away:\n\n{notes}"


handler = create_handler(server)
