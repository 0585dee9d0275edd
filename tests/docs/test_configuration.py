"""Settings are declared once: the page, the overrides' types and the options classes agree with them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, get_type_hints

import pytest

from docs.generate import configuration
from tmcp_serverless import HttpOptions, Settings, SettingsOverrides, config, overrides
from tmcp_serverless.modern.transport import ModernOptions

FIELDS = Settings.fields_by_name()
ALIASES = {field.alias: name for name, field in Settings.model_fields.items() if field.alias}
HINTS = get_type_hints(Settings, {**vars(config)})
SETTINGS = {name: HINTS[ALIASES.get(name, name)] for name in FIELDS}
"""The settings' types, without their validators."""
OPTIONS = [(each, field) for each in (HttpOptions, ModernOptions) for field in dataclasses.fields(each)]


def test_the_page_of_settings_is_not_stale() -> None:
    assert configuration.PAGE.read_text() == configuration.page(), "run `make docs`"


def test_the_overrides_types_are_not_stale() -> None:
    assert configuration.OVERRIDES.read_text() == configuration.overrides(), "run `make docs`"


def test_every_setting_is_on_the_page_with_a_sentence_of_its_own() -> None:
    sections = re.split(r"^### `TMCP_(\w+)`\n", configuration.page(), flags=re.MULTILINE)[1:]
    sentences = {
        name.lower(): body.split("\n\n")[1] for name, body in zip(sections[::2], sections[1::2], strict=True)
    }
    assert sentences.keys() == FIELDS.keys()
    assert len({*sentences.values()}) == len(FIELDS)


def test_the_page_has_the_defaults_and_the_bounds() -> None:
    page = configuration.page()
    assert "`retry_milliseconds` · integer · default: `1000` · at least `0`" in page
    assert "`doorbell` · `auto` or `listen` or `poll` · default: `auto`" in page
    assert "`replay` · boolean · default: `true`" in page
    assert "`allowed_hosts` · list · default: none" in page


def test_the_overrides_have_the_settings_types() -> None:
    given = get_type_hints(SettingsOverrides, localns={**vars(overrides), "Sequence": Sequence})
    assert given.keys() == FIELDS.keys()
    for name, kind in given.items():
        assert kind == (str | Sequence[str] if SETTINGS[name] == tuple[str, ...] else SETTINGS[name]), name


@pytest.mark.parametrize(("options", "field"), OPTIONS, ids=lambda each: getattr(each, "name", None))
def test_an_option_has_its_settings_name_type_and_default(
    options: type[Any], field: dataclasses.Field[Any]
) -> None:
    setting = SETTINGS[field.name]
    kind = get_type_hints(options, localns={"Sequence": Sequence})[field.name]
    assert kind == (Sequence[str] if setting == tuple[str, ...] else setting)
    assert field.default == FIELDS[field.name].default
