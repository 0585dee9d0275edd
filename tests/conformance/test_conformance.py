"""The shorter form of `make conformance`: three instances, without the requirement sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.report import Row, print_heading, print_row
from tests.conformance.settings import SETTINGS, serving
from tests.conformance.suite import LEGS, Leg, install_suite, run_leg
from tests.support.node import NoNodeError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

INSTALL_SECONDS = 200.0
SETTING = "three"
SHORT = [leg for leg in LEGS if leg.requirements is None]


@pytest.fixture(scope="module")
def url(postgres_url: str) -> Generator[str]:
    try:
        install_suite(seconds=INSTALL_SECONDS)
    except NoNodeError as error:
        pytest.skip(str(error))
    with serving(SETTINGS[SETTING], postgres_url) as url:
        yield url


@pytest.mark.parametrize("leg", SHORT, ids=[leg.name for leg in SHORT])
def test_the_official_suite_finds_nothing_wrong(leg: Leg, url: str, tmp_path: Path) -> None:
    run = run_leg(leg, url, tmp_path / "results")
    row = Row.of(run, SETTING)
    print_heading(SETTING, SETTINGS[SETTING].title)
    print_row(row, run.seconds)
    assert row.complaints == []
