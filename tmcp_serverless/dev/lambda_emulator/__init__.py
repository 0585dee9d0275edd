"""Lambda on a laptop: the streaming Runtime API, sandboxes that freeze and are killed, and a front door.

It starts a function's process as the managed runtime would, and gives it one invocation at a time. It passes
the answer on as it is written, stops the process between invocations, and kills it at the deadline.
"""

from tmcp_serverless.dev.lambda_emulator.emulator import LambdaEmulator
from tmcp_serverless.dev.lambda_emulator.function import Function

__all__ = ["Function", "LambdaEmulator"]
