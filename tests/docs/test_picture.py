"""The recording of the demo: its lines, its timing, and its colours."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from docs.generate.picture import LONGEST_PAUSE_SECONDS, PICTURE, Line, draw, record

SVG = "{http://www.w3.org/2000/svg}"
TOUR = [Path(__file__).parents[2] / "examples" / name for name in ("tour.py", "modern_tour.py")]


def texts(svg: str) -> str:
    drawn = "".join(each.text or "" for each in ET.fromstring(svg).iter(f"{SVG}text"))  # noqa: S314 - our own
    return without_spaces(drawn)


def without_spaces(text: str) -> str:
    """Spaces between words of different styles are positions in the picture."""
    return "".join(text.split())


def test_a_step_is_drawn_when_it_came_and_a_long_pause_is_shortened() -> None:
    line = " 1. Ann initializes        instance 1         orders"
    drawn = draw([Line(0.25, "Starting"), Line(60.0, ""), Line(60.5, line)])
    assert without_spaces("$ make demo") in texts(drawn)
    assert without_spaces(line) in texts(drawn)
    delays = [float(delay) for delay in re.findall(r"appear 1ms ([\d.]+)s", drawn)]
    assert delays == [0.25, 0.25 + LONGEST_PAUSE_SECONDS, 0.75 + LONGEST_PAUSE_SECONDS]


def test_both_colour_schemes_style_the_same_classes() -> None:
    light, dark = draw([Line(0.1, "1")]).split("prefers-color-scheme: dark", 1)
    classes = [{*re.findall(r"^\.demo-r\d+", part, flags=re.MULTILINE)} for part in (light, dark)]
    assert classes[0] == classes[1] != set()


def test_a_command_is_recorded_and_its_failure_is_raised() -> None:
    lines = record([sys.executable, "-c", "print('a'); print('b')"])
    assert [each.text for each in lines] == ["a", "b"]
    with pytest.raises(subprocess.CalledProcessError):
        list(record([sys.executable, "-c", "raise SystemExit(3)"]))


def test_the_picture_shows_every_step_of_the_tour() -> None:
    steps = [name for each in TOUR for name in re.findall(r"step\(\"([^\"]+)\"", each.read_text())]
    picture = texts(PICTURE.read_text())
    assert len(steps) > 20
    assert [name for name in steps if without_spaces(name) not in picture] == []
    assert without_spaces("nothing lost") in picture
