"""A team's shared notes: a small MCP server that somebody may really want to use."""
