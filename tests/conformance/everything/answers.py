"""Tools that answer, and say nothing before: every kind of content, an error, and two special schemas."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp_types import AudioContent, EmbeddedResource, ImageContent, TextContent, TextResourceContents
from pydantic import Field

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
"""One red pixel, in base64."""

WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
"""A sound file's header without a single sample, in base64."""

_ADDRESS = {
    "$anchor": "addressDef",
    "type": "object",
    "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
}
_CONTACT_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": _ADDRESS},
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def simple_text() -> str:
    """Answer with text."""
    return "This is a simple text response for testing."


def image() -> ImageContent:
    """Answer with an image."""
    return ImageContent(data=PNG, mime_type="image/png")


def audio() -> AudioContent:
    """Answer with a sound."""
    return AudioContent(data=WAV, mime_type="audio/wav")


def embedded_resource() -> EmbeddedResource:
    """Answer with a resource in the answer itself."""
    return _embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")


def mixed() -> list[TextContent | ImageContent | EmbeddedResource]:
    """Answer with text, an image and a resource."""
    return [
        TextContent(text="Multiple content types test:"),
        image(),
        _embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ]


def failing() -> str:
    """Fail."""
    raise ToolError("This tool intentionally returns an error for testing")


def mirrored(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    """Answer with an argument that clients mirror into an HTTP header (SEP-2243)."""
    return region


def contact_tool(name: str) -> Tool:
    """Return a tool whose input schema has what JSON Schema 2020-12 has, and Python's types have not."""
    tool = Tool.from_function(_contact, name=name, description="Tool with JSON Schema 2020-12 features")
    return tool.model_copy(update={"parameters": _CONTACT_SCHEMA})


def _contact(
    name: str = "",
    address: dict[str, str] | None = None,
    contactMethod: str = "email",  # noqa: N803 - the suite's name for it
    phone: str = "",
    email: str = "",
) -> str:
    street = (address or {}).get("street", "an unknown street")
    return f"{name} of {street} by {contactMethod}: {phone or email}"


def _embedded(uri: str, mime_type: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(resource=TextResourceContents(uri=uri, mime_type=mime_type, text=text))
