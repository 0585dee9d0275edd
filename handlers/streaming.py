"""Lambda with streamed answers: every method, behind a REST API or a Function URL.

The kit's own loop runs it: AWS_LAMBDA_EXEC_WRAPPER=/var/task/tmcp_serverless/hosts/lambda-streaming
"""

from handlers.notes.server import handler

__all__ = ["handler"]
