"""Run a Python MCP server on functions and containers: every request on another process, nothing lost."""
