"""Nothing lost, whatever dies: real processes, a real Postgres, and a network that cannot be trusted."""
