"""Ways to a database: connection strings, TLS contexts, secrets, tokens, settings."""
