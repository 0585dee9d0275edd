"""Lambda, on a schedule: expired rows are removed. `{"limit": 1000}` bounds the rows of each kind."""

from tmcp_serverless.hosts.lambda_tasks import sweep as handler

__all__ = ["handler"]
