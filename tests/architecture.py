"""The picture of the layers in docs/architecture.md, made from the imports.

    python -m tests.architecture           prints it
    python -m tests.architecture --write   puts it into the page

`architecture_test.py` checks that the page has it as the imports are now.
"""

import ast
import sys

from tests import source_tree as tree

PAGE = tree.ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- layers: begin -->", "<!-- layers: end -->"


def imports():
    """{layer: the layers that its files import, itself aside}."""
    found = {layer: set() for layer in tree.LAYERS}
    for path in tree.package_files():
        layer = tree.layer_of_file(path)
        if layer != tree.PACKAGE:  # The root only gathers public names.
            found[layer] |= tree.imported_layers(path)
    known = set(tree.LAYERS)
    return {layer: (found[layer] & known) - {layer} for layer in found}


def reached(layer, edges):
    """All layers that a layer needs, itself aside, by whatever way."""
    below = set(edges[layer])
    for other in edges[layer]:
        below |= reached(other, edges)
    return below


def direct(edges):
    """The edges without those that a longer way stands for, too."""
    return {
        layer: {
            other
            for other in below
            if not any(other in reached(third, edges) for third in below)
        }
        for layer, below in edges.items()
    }


def says(layer):
    """The first line of a layer's docstring."""
    path = tree.ROOT / tree.PACKAGE / layer / "__init__.py"
    if not path.exists():
        path = path.parent.with_suffix(".py")
    return ast.get_docstring(tree.parse(path)).splitlines()[0].rstrip(".")


def picture(edges):
    """A Mermaid graph, the highest layer above."""
    lines = ["```mermaid", "flowchart TD"]
    for layer in reversed(tree.LAYERS):
        text = says(layer).replace("`", "").replace('"', "'")
        lines.append(f'    {layer}["<b>{layer}</b><br>{text}"]')
    shown = direct(edges)
    for layer in reversed(tree.LAYERS):
        for other in reversed(tree.LAYERS):
            if other in shown[layer]:
                lines.append(f"    {layer} --> {other}")
    return "\n".join([*lines, "```"])


def with_picture(text):
    """The page's text, with the picture as it is now."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{picture(imports())}\n{END}{after}"


def main(argv):
    """Prints the picture, or writes it into the page."""
    if argv == ["--write"]:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(with_picture(text), encoding="utf-8")
        return 0
    if argv:
        sys.stderr.write(__doc__)
        return 2
    sys.stdout.write(picture(imports()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
