"""Record `python -m examples.demo` as docs/demo.svg: `make picture`.

The recording plays with the timing of the run; `LONGEST_PAUSE_SECONDS` bounds its pauses. Colours follow
the reader's preference for light or dark. Renderers without CSS animation show the last frame.
"""

import io
import itertools
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

__all__ = ["PICTURE", "Line", "draw", "record"]

PICTURE = Path(__file__).parents[1] / "demo.svg"
TITLE = "make demo"
COLUMNS = 136
LONGEST_PAUSE_SECONDS = 1.0
STEP = re.compile(r"^( ?\d+\.) (.{22}) (instances? \d+(?:, \d+)*)(.*)$")
"""A step's number, name, instances and result, as `examples/guide.py` prints them."""

_ANSI_LIGHT = [
    (36, 41, 47),
    (207, 34, 46),
    (17, 99, 41),
    (77, 45, 0),
    (9, 105, 218),
    (130, 80, 223),
    (27, 124, 131),
]
_ANSI_DARK = [
    (110, 118, 129),
    (255, 123, 114),
    (63, 185, 80),
    (210, 153, 34),
    (88, 166, 255),
    (188, 140, 255),
]
LIGHT = TerminalTheme((246, 248, 250), (31, 35, 40), [*_ANSI_LIGHT, (87, 96, 106)], None)
DARK = TerminalTheme((13, 17, 23), (230, 237, 243), [*_ANSI_DARK, (57, 197, 207), (177, 186, 196)], None)
TEMPLATE = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
{styles}
.{unique_id}-matrix {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px;
}}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: system-ui, sans-serif; }}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of output, and the second at which it came."""

    seconds: float
    text: str


def record(command: list[str]) -> Iterator[Line]:
    """Run a command and yield the lines that it writes.

    Raises:
        subprocess.CalledProcessError: The command failed.

    """
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own demo
        for line in process.stdout or ():
            sys.stdout.write(line)
            yield Line(time.monotonic() - began, line.rstrip("\n"))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def draw(lines: Iterable[Line]) -> str:
    """Return the recording as SVG."""
    recorded = [Line(0.0, "$ make demo"), *lines]
    light, dark = (_svg(recorded, theme) for theme in (LIGHT, DARK))
    styles = [
        _frame_rules(LIGHT),
        *_timing(recorded),
        f"@media (prefers-color-scheme: dark) {{\n{_text_rules(dark)}\n{_frame_rules(DARK)}\n}}",
        "@media (prefers-reduced-motion: reduce) { .demo-matrix text { animation: none !important } }",
    ]
    return light.replace("</style>", "\n".join([*styles, "</style>"]), 1)


def _svg(lines: list[Line], theme: TerminalTheme) -> str:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), highlight=False)
    for line in lines:
        console.print(_coloured(line.text), no_wrap=True, overflow="ellipsis")
    return console.export_svg(title=TITLE, theme=theme, code_format=TEMPLATE, unique_id="demo")


def _coloured(text: str) -> Text:
    if (step := STEP.match(text)) is None:
        return Text(text, style="bold" if text[:1] == "$" or "nothing lost" in text else "")
    number, name, instances, result = step.groups()
    return Text.assemble((number, "white"), " ", (name, "bold"), " ", (instances, "blue"), result)


def _text_rules(svg: str) -> str:
    return "\n".join(
        re.findall(r"^\.demo-r\d+ .*$", svg.replace("    .demo-r", ".demo-r"), flags=re.MULTILINE)
    )


def _frame_rules(theme: TerminalTheme) -> str:
    """CSS for the window, whose colours rich writes as attributes."""
    return (
        f"svg > rect {{ fill: {theme.background_color.hex} }}\n"
        f".demo-title {{ fill: {theme.foreground_color.hex} }}"
    )


def _timing(lines: list[Line]) -> Iterator[str]:
    """Yield a CSS rule for each line that comes later than the first."""
    yield "@keyframes appear { from { opacity: 0 } to { opacity: 1 } }"
    shown = 0.0
    for row, (before, line) in enumerate(itertools.pairwise(lines), start=1):
        shown += min(line.seconds - before.seconds, LONGEST_PAUSE_SECONDS)
        yield f'text[clip-path="url(#demo-line-{row})"] {{ animation: appear 1ms {shown:.2f}s backwards }}'


def main() -> None:
    """Record the demo and write the picture."""
    PICTURE.write_text(draw([*record([sys.executable, "-m", "examples.demo"])]))
    sys.stdout.write(f"\nWrote {PICTURE}\n")


if __name__ == "__main__":
    main()
