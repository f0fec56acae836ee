"""What TensorFlow and LiteRT say about an error, without the traces that they wrap it in."""

import re


def first_line(error: Exception) -> str:
    """Returns the line of a runtime's error that names the cause."""
    text = str(error)
    # A failed op of a graph: the cause is the line above the node, at the end of a long trace.
    of_node = re.search(r"(\S.*)\n\s*\[\[\{\{node ([^}]*)\}\}\]\]", text)
    if of_node:
        return f"{of_node[1]} (node {of_node[2]})"
    return re.sub(r"\{\{[^}]*\}\}\s*|\s*\[Op:.*", "", text).strip().split("\n")[0]
