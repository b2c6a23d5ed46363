"""A tree in a file: YAML, or JSON, which is YAML too.

A list of edges, one for each node but the root, with periods or without:

```yaml
- {child: ps:1, parent: ps:0, up_period: 100, down_period: 100}
- {child: ps:2, parent: ps:0, up_period: 100, down_period: 100}
- {child: worker:0, parent: ps:1}
- {child: worker:1, parent: ps:1}
- [worker:2, ps:2, 10, 10]
- [worker:3, ps:2]
```
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from tf_elastic import extras
from tf_elastic.core import topology
from tf_elastic.core.topology import ONE_WAY
from tf_elastic.core.topology import Edge
from tf_elastic.core.topology import Scheme
from tf_elastic.core.topology import Topology
from tf_elastic.core.topology import TopologyError


class _Row(NamedTuple):
    """An edge of the file."""

    line: int  # from 1
    given: dict[str, Any]  # by the names of `Edge`


def read(
    path: str | os.PathLike[str], scheme: Scheme | None = None
) -> Topology:
    """Reads a tree.

    Args:
        path: of the file.
        scheme: the periods of those edges for which the file has none; None
            if it has all.

    Raises:
        TopologyError: it is none; the message begins with the file and the
            line at fault.
        MissingExtraError: there is no package to read YAML.
        OSError: it can't be read.
    """
    name = os.fspath(path)
    rows = _rows(name, pathlib.Path(path).read_text(encoding="utf-8"))
    lines = {row.given["child"]: row.line for row in rows}
    try:
        return _made(rows, scheme)
    except TopologyError as error:
        # The last mention of a node that is there twice; of a root, where it
        # is a parent.
        lines = {**{row.given["parent"]: row.line for row in rows}, **lines}
        found = [lines[node] for node in error.nodes if node in lines]
        line = f"line {max(found)}: " if found else ""
        raise TopologyError(f"{name}, {line}{error}", error.nodes) from error


def _made(rows: list[_Row], scheme: Scheme | None) -> Topology:
    edges = [Edge(r.given["child"], r.given["parent"], 1) for r in rows]
    shape = Topology(edges)
    for parent in (shape.root, *shape.inner):
        children = shape.children(parent)
        if len(children) == 1:
            raise TopologyError(
                "A node must have at least 2 children: with one it does "
                f"nothing that the child does not. Received: {children[0]!r} "
                f"alone below {parent!r}. Put it below the parent of "
                f"{parent!r}.",
                children,
            )
    usual = {}
    if scheme is not None:
        parents = {edge.child: edge.parent for edge in edges}
        usual = {
            e.child: e for e in topology.from_parents(parents, scheme).edges
        }
    made = []
    for row in rows:
        child = row.given["child"]
        if child not in usual and "up_period" not in row.given:
            raise TopologyError(
                f"An edge must have an `up_period`. Received: none of "
                f"{child!r}.",
                [child],
            )
        as_usual = usual[child]._asdict() if child in usual else {}
        made.append(Edge(**{**as_usual, **row.given}))
    return Topology(made, ONE_WAY if scheme is None else scheme.protocol)


def _rows(name: str, text: str) -> list[_Row]:
    extras.require("yaml", f"The tree {name}")
    import yaml

    try:
        content = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise TopologyError(f"{name} is no YAML: {error}") from error
    if not isinstance(content, yaml.SequenceNode) or not content.value:
        raise TopologyError(
            f"{name} must be a list of edges, such as '- {{child: worker:0, "
            "parent: ps:1, up_period: 10, down_period: 10}'."
        )
    rows = []
    for item in content.value:
        line = item.start_mark.line + 1
        value = yaml.SafeLoader("").construct_document(item)
        try:
            rows.append(_Row(line, _edge(value)))
        except TopologyError as error:
            raise TopologyError(f"{name}, line {line}: {error}") from error
    return rows


def _edge(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        if len(value) not in range(2, len(Edge._fields) + 1):
            raise TopologyError(
                "An edge must be [child, parent], with up_period and "
                f"down_period or without. Received: {value!r:.80}."
            )
        value = dict(zip(Edge._fields, value, strict=False))
    if not isinstance(value, Mapping):
        raise TopologyError(
            "An edge must be a mapping of child, parent, up_period and "
            f"down_period, or a list of them. Received: {value!r:.80}."
        )
    for key in value:
        if key not in Edge._fields:
            raise TopologyError(
                f"An edge has {', '.join(Edge._fields)}. Received: {key!r}."
            )
    for key in ("child", "parent"):
        if not isinstance(value.get(key), str) or not value[key]:
            raise TopologyError(
                f"`{key}` of an edge must be a name. Received: "
                f"{key}={value.get(key)!r}."
            )
    return dict(value)
