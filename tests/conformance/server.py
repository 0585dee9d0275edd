"""The everything-server: what the official suite asks of a server under test, under the names it uses.

It knows nothing of instances, streams or Postgres; `create_handler` is all that makes it run on many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.server import MCPServer

from tests.conformance.everything import answers, rounds, talk
from tests.conformance.everything.material import add_material
from tmcp_serverless import create_handler

if TYPE_CHECKING:
    from collections.abc import Callable

_TOOLS: dict[str, Callable[..., Any]] = {
    "test_simple_text": answers.simple_text,
    "test_image_content": answers.image,
    "test_audio_content": answers.audio,
    "test_embedded_resource": answers.embedded_resource,
    "test_multiple_content_types": answers.mixed,
    "test_error_handling": answers.failing,
    "test_mirrored_header": answers.mirrored,
    "test_tool_with_logging": talk.logging,
    "test_logging_tool": talk.logging,
    "test_tool_with_progress": talk.progress,
    "test_reconnection": talk.reconnection,
    "test_trigger_tool_change": talk.change_tools,
    "test_trigger_prompt_change": talk.change_prompts,
    "test_sampling": talk.sampling,
    "test_elicitation": talk.elicitation,
    "test_elicitation_sep1034_defaults": talk.elicitation_defaults,
    "test_elicitation_sep1330_enums": talk.elicitation_choices,
    "test_streaming_elicitation": talk.streaming_elicitation,
    "test_missing_capability": talk.needs_sampling,
    "test_input_required_result_elicitation": rounds.elicitation,
    "test_input_required_result_sampling": rounds.sampling,
    "test_input_required_result_list_roots": rounds.list_roots,
    "test_input_required_result_request_state": rounds.request_state,
    "test_input_required_result_tampered_state": rounds.request_state,
    "test_input_required_result_multiple_inputs": rounds.multiple_inputs,
    "test_input_required_result_multi_round": rounds.multi_round,
    "test_input_required_result_capabilities": rounds.capabilities,
}

server = MCPServer(
    "everything", version="1", tools=[answers.contact_tool("json_schema_2020_12_tool")], log_level="ERROR"
)
for _name, _function in _TOOLS.items():
    server.add_tool(_function, _name, structured_output=False)
add_material(server)
server.prompt("test_input_required_result_prompt")(rounds.prompt)

# A server on loopback names itself: a page whose name was made to point here is then refused.
handler = create_handler(server, allowed_hosts=("127.0.0.1:*", "localhost:*"))
