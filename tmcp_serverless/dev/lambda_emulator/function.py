"""The function: the place of its code, and the start of its process."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tmcp_serverless.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Function"]

_TASK = "/var/task/"
"""The folder of the function's code on Lambda; a template names the wrapper by its place there."""

_RUNTIME_FILE = "/var/runtime/bootstrap.py"
"""The program that AWS's own runtime would run. Wrappers replace it."""

_NOT_PASSED_ON = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


@dataclass(frozen=True, slots=True)
class Function:
    """A function for the emulator.

    Its process gets our environment, the variables that Lambda sets, and those in `environment`.
    """

    handler: str
    """`MODULE.NAME`, as in a template."""

    task_root: Path
    """The folder that is the deployed package: the process's working directory and import path."""

    timeout_seconds: float = 60.0
    environment: Mapping[str, str] = field(default_factory=dict[str, str])

    isolated: bool = False
    """True if imports come from the task root and the standard library alone, as on Lambda."""

    exec_wrapper: str | None = None
    """The value of `AWS_LAMBDA_EXEC_WRAPPER`; its `/var/task/` is the task root. The default is the kit's own
    script, unless imports are isolated, for `sam build` leaves that script without its executable bit."""

    name: str = "function"
    memory_mb: int = 1024

    def command(self) -> list[str]:
        """Return the command: the wrapper, with the command of AWS's own runtime.

        Raises:
            ConfigurationError: There is no such wrapper, or it is not executable; in Lambda's words.
        """
        wrapper = self._wrapper()
        if not wrapper.is_file():
            raise ConfigurationError(f"{wrapper}: does not exist")
        if not os.access(wrapper, os.X_OK):
            raise ConfigurationError(f"{wrapper}: is not an executable")
        options = ["-S"] if self.isolated else []
        return [str(wrapper), sys.executable, *options, _RUNTIME_FILE]

    def variables(self, runtime_api: str) -> dict[str, str]:
        """Return the process's environment."""
        inherited = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
        return {
            **inherited,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory_mb),
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{self.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": "local",
            "AWS_LAMBDA_RUNTIME_API": runtime_api,
            "LAMBDA_TASK_ROOT": str(self.task_root),
            "TZ": ":UTC",
            **self.environment,
            "_HANDLER": self.handler,
        }

    def _wrapper(self) -> Path:
        if self.exec_wrapper is not None:
            return self.task_root / self.exec_wrapper.removeprefix(_TASK)
        if self.isolated:
            raise ConfigurationError(
                "A deployed package brings its own wrapper: pass what the template has for "
                "AWS_LAMBDA_EXEC_WRAPPER (--exec-wrapper /var/task/...)."
            )
        return Path(__file__).parents[2] / "hosts" / "lambda-streaming"
