"""Lambda, once before a release: the kit's tables. By hand (`sam remote invoke`), or as a custom resource."""

from tmcp_serverless.hosts.lambda_tasks import migrate as handler

__all__ = ["handler"]
