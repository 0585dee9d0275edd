"""Tools that talk while they run: they tell the client how far they are, ask it, or leave it alone."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from mcp.server.mcpserver import Context, Elicit, Resolve, Sample
from mcp_types import CreateMessageResult, SamplingMessage, TextContent
from pydantic import BaseModel, Field
from pydantic.config import JsonDict

_PAUSE_SECONDS = 0.05
_AWAY_SECONDS = 0.2


class User(BaseModel):
    """Who somebody is."""

    username: str = Field(description="User's response")
    email: str = Field(description="User's email address")


class Defaults(BaseModel):
    """A form with a default for every primitive type (SEP-1034)."""

    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: Literal["active", "inactive", "pending"] = "active"
    verified: bool = True


def _titled(key: str, *names: str) -> JsonDict:
    return {key: [{"const": f"value{number}", "title": name} for number, name in enumerate(names, 1)]}


class Choices(BaseModel):
    """A form with every way to say what may be chosen (SEP-1330)."""

    untitled_single: Literal["option1", "option2", "option3"] = Field(alias="untitledSingle")
    titled_single: str = Field(
        alias="titledSingle", json_schema_extra=_titled("oneOf", "First Option", "Second Option")
    )
    legacy: str = Field(
        alias="legacyEnum",
        json_schema_extra={"enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]},
    )
    untitled_multi: list[Literal["option1", "option2", "option3"]] = Field(alias="untitledMulti")
    titled_multi: list[str] = Field(
        alias="titledMulti",
        json_schema_extra={"items": _titled("anyOf", "First Choice", "Second Choice")},
    )


async def logging(ctx: Context) -> str:
    """Write three lines into the client's log."""
    await ctx.info("Tool execution started")  # pyright: ignore[reportDeprecated]
    await asyncio.sleep(_PAUSE_SECONDS)
    await ctx.info("Tool processing data")  # pyright: ignore[reportDeprecated]
    await asyncio.sleep(_PAUSE_SECONDS)
    await ctx.info("Tool execution completed")  # pyright: ignore[reportDeprecated]
    return "Tool with logging executed successfully"


async def progress(ctx: Context) -> str:
    """Say three times how far it is."""
    for done in (0, 50, 100):
        await ctx.report_progress(done, 100, f"Completed step {done} of 100")
        await asyncio.sleep(_PAUSE_SECONDS)
    return "Tool with progress executed successfully"


async def reconnection(ctx: Context) -> str:
    """Close the client's connection while it works, and answer when the client is back (SEP-1699)."""
    await ctx.close_sse_stream()
    await asyncio.sleep(_AWAY_SECONDS)
    return "Reconnection test completed"


async def change_tools(ctx: Context) -> str:
    """Tell everybody who listens that the tools have changed."""
    await ctx.notify_tools_changed()
    return "The tools have changed."


async def change_prompts(ctx: Context) -> str:
    """Tell everybody who listens that the prompts have changed."""
    await ctx.notify_prompts_changed()
    return "The prompts have changed."


async def sampling(prompt: str, ctx: Context) -> str:
    """Have the client's model answer."""
    asked = SamplingMessage(role="user", content=TextContent(text=prompt))
    result = await ctx.session.create_message(  # pyright: ignore[reportDeprecated]
        [asked], max_tokens=100, related_request_id=ctx.request_id
    )
    return f"LLM response: {_text_of(result)}"


async def elicitation(message: str, ctx: Context) -> str:
    """Ask the user who they are."""
    return f"User response: {await _filled_in(message, User, ctx)}"


async def elicitation_defaults(ctx: Context) -> str:
    """Ask the user, with a default for everything."""
    return f"Elicitation completed: {await _filled_in('Please check what we know.', Defaults, ctx)}"


async def elicitation_choices(ctx: Context) -> str:
    """Ask the user to choose."""
    return f"Elicitation completed: {await _filled_in('Please choose.', Choices, ctx)}"


def ask_for_user() -> Elicit[User]:
    """Return the question who the user is."""
    return Elicit("Who are you?", User)


async def streaming_elicitation(user: Annotated[User, Resolve(ask_for_user)], ctx: Context) -> str:
    """Greet the user, whom it asks for first in whatever way the client's revision has."""
    await ctx.report_progress(1, 1, "asked")
    return f"Hello, {user.username}!"


def ask_model() -> Sample:
    """Return a question to the client's model."""
    asked = SamplingMessage(role="user", content=TextContent(text="Say something."))
    return Sample([asked], max_tokens=100)


def needs_sampling(said: Annotated[CreateMessageResult, Resolve(ask_model)]) -> str:
    """Repeat what the client's model says: it cannot do without one."""
    return f"LLM response: {_text_of(said)}"


async def _filled_in(message: str, form: type[BaseModel], ctx: Context) -> str:
    answer = await ctx.elicit(message, form)
    content = answer.data.model_dump_json(by_alias=True) if answer.action == "accept" else "{}"
    return f"action={answer.action}, content={content}"


def _text_of(result: CreateMessageResult) -> str:
    return result.content.text if isinstance(result.content, TextContent) else "nothing to read"
