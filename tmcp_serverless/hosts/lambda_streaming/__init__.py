"""AWS Lambda with streamed answers: the kit's own loop over the Runtime API.

The managed Python runtime delivers answers whole. `AWS_LAMBDA_EXEC_WRAPPER` names a script that it starts
instead of itself. `tmcp_serverless/hosts/lambda-streaming` is such a script: it runs this package.
"""
