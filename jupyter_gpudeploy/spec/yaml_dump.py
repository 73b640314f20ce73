"""Plain values as YAML that a person can read and every reader understands alike.

YAML 1.1 (PyYAML, older Go) and 1.2 (`spec.yaml`) disagree about `no`, `1e-3`, `0o17` and `12:30`: a text that either
would take for something else is quoted. Keys keep their order. Short lists and short mappings in lists take one line,
as people write them: `command: [python3, -u, boot.py]`, `- {name: HOME, value: /gpudeploy/home}`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from jupyter_gpudeploy.spec.yaml import scalar

if TYPE_CHECKING:
    from yaml.nodes import MappingNode, Node, SequenceNode

WIDTH = 100
_ODD = frozenset("\t\r\x85\u2028\u2029\ufeff")
"""Tabs, and what YAML 1.1 takes for the end of a line."""
_LETTERS_THAT_ARE_BOOLEANS = frozenset("yYnN")


def dump_yaml(value: Any) -> str:  # noqa: ANN401 - any JSON
    """Return one YAML document. `spec.yaml.load` of it gives an equal value. Raises ValueError for what is no JSON."""
    try:
        text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6)
    except yaml.YAMLError as error:
        raise ValueError(f"this cannot be written as YAML: {error}") from None
    return text


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 - PyYAML's signature
        """Write everything out: `&id001` says nothing to a person."""
        return True

    def represent_text(self, data: str) -> Node:
        """Quote what is no text to some reader; show lines as lines."""
        style = None
        if not _ODD.isdisjoint(data) or ("'" in data and "\n" not in data) or _is_ambiguous(data):
            style = '"'
        elif "\n" in data and not any(line.endswith(" ") for line in data.split("\n")):
            style = "|"
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    def represent_items(self, data: list[Any] | tuple[Any, ...]) -> SequenceNode:
        """Put short items on one line."""
        node = self.represent_sequence("tag:yaml.org,2002:seq", data)
        if all(isinstance(item, yaml.ScalarNode) for item in node.value):
            node.flow_style = _is_short(node.value)
        for item in node.value:
            if isinstance(item, yaml.MappingNode):
                _shorten(item)
        return node


def _is_ambiguous(text: str) -> bool:
    plain = text.replace("_", "")  # Go reads 1_000 as a number
    return text in _LETTERS_THAT_ARE_BOOLEANS or not isinstance(scalar(text), str) or not isinstance(scalar(plain), str)


def _is_short(scalars: list[Node]) -> bool:
    texts = [str(node.value) for node in scalars]
    return sum(len(text) + 2 for text in texts) <= WIDTH and not any("\n" in text for text in texts)


def _shorten(node: MappingNode) -> None:
    """Put a mapping on one line when it is short and holds no list."""
    mappings, scalars = [node], []
    for mapping in mappings:
        for key, value in mapping.value:
            if isinstance(value, yaml.MappingNode):
                mappings.append(value)
            elif not isinstance(value, yaml.ScalarNode):
                return
            scalars += [key, value]
    if _is_short([part for part in scalars if isinstance(part, yaml.ScalarNode)]):
        for mapping in mappings:
            mapping.flow_style = True


_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.add_representer(list, _Dumper.represent_items)
_Dumper.add_representer(tuple, _Dumper.represent_items)
