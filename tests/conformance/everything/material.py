"""Resources, prompts, and what completes their arguments."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from mcp.server.mcpserver import UserMessage
from mcp_types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    EmbeddedResource,
    ImageContent,
    PromptReference,
    ResourceTemplateReference,
    TextResourceContents,
)

from tests.conformance.everything.answers import PNG

if TYPE_CHECKING:
    from mcp.server import MCPServer

_PLACES = ("paris", "park", "party", "lisbon")


def add_material(server: MCPServer) -> None:
    """Give the server its resources, its prompts that only answer, and its completions."""
    server.resource("test://static-text", mime_type="text/plain")(static_text)
    server.resource("test://static-binary", mime_type="image/png")(static_binary)
    server.resource("test://watched-resource", mime_type="text/plain")(watched)
    server.resource("test://template/{id}/data", mime_type="application/json")(data_of)
    server.prompt("test_simple_prompt")(simple)
    server.prompt("test_prompt_with_arguments")(with_arguments)
    server.prompt("test_prompt_with_embedded_resource")(with_resource)
    server.prompt("test_prompt_with_image")(with_image)
    server.completion()(complete)


def static_text() -> str:
    """A text."""
    return "This is the content of the static text resource."


def static_binary() -> bytes:
    """An image."""
    return base64.b64decode(PNG)


def watched() -> str:
    """What clients subscribe to."""
    return "Watched resource content"


def data_of(id: str) -> str:
    """What there is under an id."""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def simple() -> str:
    """A prompt without arguments."""
    return "This is a simple prompt for testing."


def with_arguments(arg1: str, arg2: str) -> str:
    """A prompt with two arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


def with_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803 - the suite's name for it
    """A prompt that has a resource in it."""
    text = "Embedded resource content for testing."
    resource = TextResourceContents(uri=resourceUri, mime_type="text/plain", text=text)
    return [
        UserMessage(EmbeddedResource(resource=resource)),
        UserMessage("Please process the embedded resource above."),
    ]


def with_image() -> list[UserMessage]:
    """A prompt that has an image in it."""
    return [
        UserMessage(ImageContent(data=PNG, mime_type="image/png")),
        UserMessage("Please analyze the image above."),
    ]


async def complete(
    ref: PromptReference | ResourceTemplateReference,  # noqa: ARG001 - the same for all
    argument: CompletionArgument,
    context: CompletionContext | None,  # noqa: ARG001 - the same for all
) -> Completion:
    """Return the places that begin with what has been typed."""
    found = [place for place in _PLACES if place.startswith(argument.value)]
    return Completion(values=found, total=len(found), has_more=False)
