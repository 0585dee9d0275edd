"""A team's shared notes: a small MCP server for real use."""
