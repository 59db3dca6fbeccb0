"""Trees of scikit-learn as nodes that can be read and drawn."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UsageError
from ..core.estimator import Fitted
from ._answers import Fidelity, Floats

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Node:
    """One node: where `question` is true the way goes to `yes`, else to `no` (-1: a leaf). `answer` is the mean over its rows, or the share of each class."""

    number: int
    parent: int
    depth: int
    question: str
    otherwise: str
    yes: int
    no: int
    rows: int
    share: float
    answer: tuple[float, ...]
    error: float

    @property
    def leaf(self) -> bool:
        """Whether nothing more is asked."""
        return self.yes < 0


@dataclass(frozen=True, kw_only=True, eq=False)
class TreeSummary(Fitted):
    """A tree in the place of a model. `fidelity` is None where the tree is the model itself."""

    nodes: tuple[Node, ...] = ()
    labels: tuple[str, ...] = ()
    name: str = ""
    fidelity: Fidelity | None = None
    importance: tuple[tuple[str, float], ...] = ()
    model: Any = field(default=None, repr=False)
    """The estimator of scikit-learn behind it."""

    def path(self, number: int) -> list[str]:
        """The conditions from the root to a node."""
        out, node = list[str](), self.nodes[number]
        while node.parent >= 0:
            above = self.nodes[node.parent]
            out.append(above.question if above.yes == node.number else above.otherwise)
            node = above
        return out[::-1]

    def said(self, node: Node) -> str:
        """A node's answer in words."""
        if self.labels:
            k = int(np.argmax(node.answer))
            return f"{self.labels[k]} ({node.answer[k]:.0%})"
        return f"{node.answer[0]:.4g}".replace("-", "−")

    def table(self) -> list[dict[str, Any]]:
        return [{
            "if": " and ".join(self.path(n.number)) or "always", "rows": n.rows, "share": n.share, "answer": self.labels[int(np.argmax(n.answer))] if self.labels else n.answer[0],
            **({f"share of {label}": v for label, v in zip(self.labels, n.answer, strict=True)} if self.labels else {"standard error": n.error}),
        } for n in self.nodes if n.leaf]  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "fidelity": self.fidelity.to_dict() if self.fidelity else None, "importance": dict(self.importance)}


def read_nodes(tree: Any, matrix: Any, y: Floats, told: Any, own: Floats | None = None) -> tuple[Node, ...]:
    """The nodes of a fitted tree, numbered from the root, with the rows of `matrix` in them. `told(feature, goes left, rows, threshold)` puts a split into words:
    (left, right, whether the left one is the question). `own` are the tree's own answers, (nodes, K), where they are not those of the rows."""
    inside = np.asarray(tree.decision_path(matrix).todense(), dtype=bool)
    t, out = tree.tree_, list[Node]()

    def grow(at: int, parent: int, depth: int) -> int:
        here = np.flatnonzero(inside[:, at])
        answer = own[at] if own is not None else y[here].mean(0)
        error = float(y[here].std(0).max() / np.sqrt(len(here))) if len(here) > 1 else 0.0
        number = len(out)
        facts = {"number": number, "parent": parent, "depth": depth, "rows": len(here), "share": len(here) / len(y), "answer": tuple(map(float, answer)), "error": error}
        out.append(Node(question="", otherwise="", yes=-1, no=-1, **facts))
        left, right = int(t.children_left[at]), int(t.children_right[at])
        if left >= 0:
            words = told(int(t.feature[at]), inside[here, left], here, float(t.threshold[at]))
            yes, no = (left, right) if words[2] else (right, left)
            first, second = words[:2] if words[2] else words[1::-1]
            ways = {"yes": grow(yes, number, depth + 1), "no": grow(no, number, depth + 1)}
            out[number] = Node(question=first, otherwise=second, **ways, **facts)
        return number

    grow(0, -1, 0)
    return tuple(out)


def one_output(tree: Any) -> None:
    """Refuses a tree that answers several questions at once."""
    if isinstance(getattr(tree, "n_classes_", 1), (list, np.ndarray)) and np.size(tree.n_classes_) > 1:
        raise UsageError("A tree that answers several questions at once is shown one answer at a time; this one has several outputs.")
