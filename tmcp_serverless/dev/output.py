"""Output of several processes in one file, and its text so far."""

from __future__ import annotations

import os
import tempfile

__all__ = ["Output"]


class Output:
    """A nameless temporary file that is gone with the last process that holds it."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="tmcp-cluster-", buffering=0)  # noqa: SIM115 - until close()
        self._kept = ""

    @property
    def descriptor(self) -> int:
        """The descriptor that a process gets as its standard output."""
        return self._file.fileno()

    def write(self, line: str) -> None:
        """Add a line of our own."""
        self._file.write(f"{line}\n".encode())

    def text(self) -> str:
        """Return everything written so far, or until it was closed."""
        if self._file.closed:
            return self._kept
        # Not read(): all processes that write share one position with us, and it has to stay at the end.
        size = os.fstat(self.descriptor).st_size
        return os.pread(self.descriptor, size, 0).decode(errors="replace")

    def close(self) -> None:
        """Close the file, and keep its text. Idempotent."""
        self._kept = self.text()
        self._file.close()
