"""Lambda, answers delivered as they are written: every method, behind a REST API or a Function URL.

It is run by our own loop: AWS_LAMBDA_EXEC_WRAPPER=/var/task/tmcp_serverless/hosts/lambda-streaming
"""

from handlers.notes.server import handler

__all__ = ["handler"]
