from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.conformance import expected
from tests.conformance.checks import Check, Status, read_checks
from tests.conformance.expected import complaints
from tests.conformance.report import Row
from tests.conformance.suite import LEGS, Run

if TYPE_CHECKING:
    from pathlib import Path

LIFECYCLE = (
    "server-session-initialized-accepted",
    "server-session-delete-accepted",
    "server-session-terminated-returns-404",
)


def run(*checks: Check, status: int | None = 0) -> Run:
    """A run of the leg that has to pass these three checks, and no others."""
    complete = [Check("server-session-lifecycle", id, "SUCCESS") for id in LIFECYCLE]
    return Run(LEGS[0], (*complete, *checks), (), status=status, seconds=1.0, last_line="the end")


def another(status: Status) -> Check:
    return Check("ping", "answered", status, "a reason")


def test_a_run_in_which_everything_passed_is_complete() -> None:
    assert complaints(run(), "three") == []


@pytest.mark.parametrize("status", ["INFO", "SKIPPED", "SUCCESS"])
def test_what_is_not_applicable_keeps_nothing_from_being_complete(status: Status) -> None:
    assert complaints(run(another(status)), "three") == []


@pytest.mark.parametrize("status", ["FAILURE", "WARNING"])
def test_a_failure_and_a_warning_are_said_with_their_reason(status: Status) -> None:
    assert complaints(run(another(status)), "three") == [f"ping:answered: {status}: a reason"]


@pytest.mark.parametrize("status", ["INFO", "SKIPPED"])
def test_a_server_without_sessions_is_not_complete(status: Status) -> None:
    complete = run()
    last = replace(complete.checks[-1], status=status)
    said = complaints(replace(complete, checks=(*complete.checks[:-1], last, another("SUCCESS"))), "three")
    assert said == ["server-session-terminated-returns-404: has not been seen to succeed"]


def test_fewer_checks_than_there_have_to_be_are_not_complete() -> None:
    said = complaints(replace(run(), leg=LEGS[1]), "three")
    assert said[-1] == "3 checks passed, and 56 have to"


def test_the_exit_status_of_the_suite_counts() -> None:
    assert complaints(run(status=1), "three") == ["the suite's exit status is 1: the end"]
    assert complaints(run(status=None), "three") == ["the suite took too long, and was ended"]


def test_what_is_excepted_is_listed_with_its_reason_and_in_its_setting_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(expected, "EXCEPTIONS", {"amnesia": {"ping:answered": "nobody is at home"}})
    failed = run(another("FAILURE"), status=1)
    assert Row.of(failed, "amnesia").excepted == {"ping:answered": "nobody is at home"}
    assert Row.of(failed, "amnesia").complaints == []
    assert Row.of(failed, "three").excepted == {}
    assert Row.of(failed, "three").complaints[0] == "ping:answered: FAILURE: a reason"


def test_what_is_excepted_and_passes_has_to_be_taken_off_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected, "EXCEPTIONS", {"amnesia": {"ping:answered": "nobody is at home"}})
    assert complaints(run(another("SUCCESS")), "amnesia") == ["ping:answered: is excepted, and passed"]


def test_checks_are_read_with_the_name_of_their_scenario(tmp_path: Path) -> None:
    folder = tmp_path / "server-tools-call-image-2026-11-20T22-12-14-574Z"
    folder.mkdir()
    check = {"id": "tools-call-image", "status": "FAILURE", "errorMessage": "no image"}
    (folder / "checks.json").write_text(json.dumps([check]))
    assert read_checks(tmp_path) == [Check("tools-call-image", "tools-call-image", "FAILURE", "no image")]
