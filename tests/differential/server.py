"""The servers under test: an `MCPServer` and a lowlevel `Server`, both with everything that MCP has.

The tools have the same names in both, so that most interactions run against both.
"""

from .everything import build_everything
from .lowlevel import build_lowlevel

__all__ = ["BUILDERS", "KINDS"]

BUILDERS = {"everything": build_everything, "lowlevel": build_lowlevel}
KINDS = tuple(BUILDERS)
