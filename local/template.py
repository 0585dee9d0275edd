"""`template.yaml` with its parameters filled in: the part of CloudFormation that it uses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = ["NO_VALUE", "Template"]

NO_VALUE = object()
"""Stands for `AWS::NoValue`: the property is left out."""

_PSEUDO = {
    "AWS::NoValue": NO_VALUE,
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
    "AWS::StackName": "notes",
    "AWS::URLSuffix": "amazonaws.com",
}

_FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "Fn::And": all,
    "Fn::EachMemberEquals": lambda pair: all(each == pair[1] for each in pair[0].split(",")),
    "Fn::Equals": lambda pair: str(pair[0]) == str(pair[1]),
    "Fn::GetAtt": lambda names: ".".join(names) if isinstance(names, list) else names,
    "Fn::Join": lambda pair: pair[0].join(pair[1] if isinstance(pair[1], list) else [pair[1]]),
    "Fn::Not": lambda single: not single[0],
    "Fn::Or": any,
}


class Template:
    """A template with values for its parameters; a parameter without one has its default.

    Args:
        path: Of the template, in YAML.
        **parameters: By their names.
    """

    def __init__(self, path: Path, **parameters: str) -> None:
        self.document: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - safe
        self._parameters = {name: said.get("Default") for name, said in self.document["Parameters"].items()}
        self._parameters |= parameters

    def resource(self, name: str) -> dict[str, Any]:
        """Return the properties of a function or another resource, with those of the globals added."""
        properties = self.document["Resources"][name].get("Properties", {})
        if self.document["Resources"][name]["Type"] == "AWS::Serverless::Function":
            properties = _merged(self.document["Globals"]["Function"], properties)
        return self._resolved(properties)

    def exists(self, name: str) -> bool:
        """Return `True` if the resource or output is made with these parameters."""
        found = self.document["Resources"].get(name) or self.document["Outputs"][name]
        return "Condition" not in found or self._holds(found["Condition"])

    def variables(self, name: str) -> dict[str, str]:
        """Return the environment of a function."""
        return {key: str(value) for key, value in self.resource(name)["Environment"]["Variables"].items()}

    def objections(self) -> list[str]:
        """Return the failed assertions of the template's rules for these parameters."""
        return [
            assertion["AssertDescription"]
            for rule in self.document["Rules"].values()
            for assertion in rule["Assertions"]
            if not self._resolved(assertion["Assert"])
        ]

    def _holds(self, condition: str) -> bool:
        return bool(self._resolved(self.document["Conditions"][condition]))

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, list):
            return [found for each in value if (found := self._resolved(each)) is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            [(function, argument)] = value.items()
            if function in ("Ref", "Condition") or function.startswith("Fn::"):
                return self._call(function, argument)
        resolved = {key: self._resolved(each) for key, each in value.items()}
        return {key: each for key, each in resolved.items() if each is not NO_VALUE}

    def _call(self, function: str, argument: Any) -> Any:
        if function == "Fn::If":
            condition, *branches = argument
            return self._resolved(branches[0 if self._holds(condition) else 1])
        found = self._resolved(argument)
        if function in _FUNCTIONS:
            return _FUNCTIONS[function](found)
        match function:
            case "Ref":
                return self._named(found)
            case "Condition":
                return self._holds(found)
            case "Fn::Sub":
                return re.sub(r"\$\{([\w:.]+)\}", lambda match: str(self._named(match[1])), found)
            case "Fn::FindInMap":
                mapping, first, second = found
                return self.document["Mappings"][mapping][first][second]
            case _:
                raise ValueError(f"{function} is not known here")

    def _named(self, name: str) -> Any:
        known: Mapping[str, Any] = {**_PSEUDO, **self._parameters}
        return known.get(name, name)


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms, such as `!Ref`, as the long ones."""


def _long_form(loader: _Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    function = tag if tag in ("Ref", "Condition") else f"Fn::{tag}"
    if isinstance(node, yaml.SequenceNode):
        return {function: loader.construct_sequence(node, deep=True)}
    if isinstance(node, yaml.MappingNode):
        return {function: loader.construct_mapping(node, deep=True)}
    return {function: loader.construct_scalar(node)}  # pyright: ignore[reportArgumentType] - a scalar node


_Loader.add_multi_constructor("!", _long_form)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both_are_mappings = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both_are_mappings else value
    return merged
