"""AWS Lambda, answers delivered as they are written: our own loop over the Runtime API.

The managed Python runtime delivers answers whole. `AWS_LAMBDA_EXEC_WRAPPER` names a script that it starts
instead of itself; `tmcp_serverless/hosts/lambda-streaming` is one, which runs this package.
"""
