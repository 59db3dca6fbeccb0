"""Tree SHAP: exact Shapley values of tree ensembles."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..core.card import Card, Needs, Promise, param
from ..core.ensemble import Ensemble, Floats, Ints, TreeSum
from ..core.errors import CannotComplete, NotApplicable, UsageError
from ..core.players import Players
from ..core.procedure import Method, Values
from ..core.question import Question, Samples
from ..core.target import Label, Output, of_row
from ..core.tree import leaves
from ._tree_values import Weighing, against, along_paths, answers, compiled, interactions

NEAR = 1e-6
"""How nearly the values must sum to the answer, in units of it or of one."""


@dataclass(frozen=True, kw_only=True)
class TreeSHAP(Method):
    """Which columns made this forest answer so, exactly?

    How: Shapley values in the scale in which trees add up (probability for forests, log-odds for boosting; the result says which). What an absent column
    holds is either what the trees' own training rows held at the split ("paths"), or what the rows of a background hold (baseline=pel.Samples(rows),
    all of them, however many: cost does not grow with them). Numeric splits, sets of categories and missing values are read from the library's own
    dump and checked against its predictions. With `interactions` every pair's share as well (along the paths).
    Units: those of the trees' sum; values sum to the answer less the mean answer (`index="shapley"`; Banzhaf and beta values sum to nothing in particular).
    Misleads when: columns depend on each other: "paths" then credits a column for what it tells of others, a background mixes rows that never occur.
    Source: Lundberg et al. 2020, arXiv:1905.04610; quadrature on trees after Li, Yu, Low 2026, arXiv:2602.11623; pattern tables after Nadel, Wettenstein 2026,
    arXiv:2511.09376; Beta values: Kwon, Zou 2022, arXiv:2110.14049.
    """

    card = Card(title="Tree SHAP", paper="arXiv:1905.04610", needs=Needs.TREES, promises=Promise.COMPLETE | Promise.LOCAL,
                cost="no model rows but those that check the answer", baseline=True, samples=True)
    absent: str = param("auto", "what an absent column holds: what training rows held at each split, or what background rows hold (auto: if any are given)", choices=("auto", "paths", "background"))
    index: str = param("shapley", "how coalitions of each size count", choices=("shapley", "banzhaf", "beta"))
    alpha: float = param(16.0, "of index='beta': above beta, small coalitions count more", ge=1)
    beta: float = param(1.0, "of index='beta'", ge=1)
    interactions: bool = param(False, "every pair of columns as well")
    mixed: str = param("refuse", "columns that a preprocessing step mixes, as PCA does: refused, or joined to one player", choices=("refuse", "join"))

    def attribute(self, q: Question) -> Values:
        if q.places or len(leaves(q.point)) != 1 or leaves(q.point)[0].ndim != 2:
            raise NotApplicable(f"Tree SHAP needs rows of a table at the input of {q.model.name}; got {'a layer' if q.places else [tuple(p.shape) for p in leaves(q.point)]}.")
        found, told = q.model.trees(q.x), q.model.features(q.x)
        names = told or ((tuple(f"column {j}" for j in range(found.columns)),) * q.size)
        trees, player = found.grouped(self.mixed == "join", [n.partition(" = ")[0] for n in names[0]], "Tree SHAP")
        z, weights = found.read(q.x), self._read_by(q, trees)
        background = self._background(q, found)
        per_output = along_paths(trees, z, self._weighing()) if background is None else against(trees, z, background, self._weighing())
        own, base = answers(trees, z), trees.expected() if background is None else _mean(trees, background)
        values, total, start = np.einsum("bfk,bk->bf", per_output, weights), (own * weights).sum(1), weights @ base
        if self.index == "shapley":
            _check(values, total - start)
        pairs = self._pairs(trees, z, weights, background)
        shared = torch.from_numpy(values[:, player] / np.bincount(player)[player])
        labels = torch.from_numpy(player).expand(q.size, -1) if trees.players < found.columns else None
        players = Players(_joined(names, player), torch.from_numpy(values), interactions=pairs, labels=labels,
                          absent="a background row's" if background is not None else "what training rows held at each split")
        notes = (*self._notes(found.scale, background), *found.notes)
        return Values(shared.to(leaves(q.point)[0]), notes=notes, base=torch.from_numpy(start), total=torch.from_numpy(total), players=players)

    def _weighing(self) -> Weighing:
        return Weighing(half=True) if self.index == "banzhaf" else Weighing(self.alpha, self.beta) if self.index == "beta" else Weighing()

    def _background(self, q: Question, found: TreeSum) -> Floats | None:
        given = isinstance(q.baseline, (Samples, Tensor)) and getattr(q.baseline, "given", True)
        if self.absent == "paths" or (self.absent == "auto" and not given):
            return None
        if not given:
            raise UsageError("Tree SHAP with absent='background' needs its rows: baseline=pel.Samples(rows), a DataFrame, or one row as a tensor.")
        rows = torch.as_tensor(q.baseline.parts[0] if isinstance(q.baseline, Samples) else leaves(q.start)[0]).double()
        if not rows.numel():
            raise UsageError("A background needs at least one row; this one has none.")
        if isinstance(q.x, Mapping):
            return found.read({"present": rows, "row": torch.zeros(len(rows), dtype=torch.long)})
        return found.read(rows.reshape(-1, found.columns))

    def _read_by(self, q: Question, trees: Ensemble) -> Floats:
        """(rows, outputs): how the target reads what the trees add up to."""
        target, k, classes = q.resolved_target(), trees.outputs, len(q.model.labels or ())
        if classes == 1:
            raise NotApplicable(f"Tree SHAP explains why one class rather than another; {q.model.name} knows one class only, {q.model.labels[0]!r}. Fit it on rows of several.")  # type: ignore[index]
        weights = np.zeros((q.size, k))
        for i in range(q.size):
            own = of_row(target, i)
            if isinstance(own, Output) and k == 1:
                weights[i, 0] = 1.0
            elif isinstance(own, Label) and isinstance(own.index, int) and k == 1 and own.index < max(classes, 1):
                weights[i, 0] = -1.0 if classes == 2 and own.index == 0 else 1.0  # two classes share one score
            elif isinstance(own, Label) and isinstance(own.index, int) and own.index < k:
                weights[i, own.index] = 1.0
            else:
                raise NotApplicable(f"Tree SHAP explains one output, a sum over trees; got {own.text(q.model.labels)}. Use a class as target, or shapley, which asks any model.")
        return weights

    def _pairs(self, trees: Ensemble, z: Floats, weights: Floats, background: Floats | None) -> Tensor | None:
        if not self.interactions:
            return None
        if background is not None or self.index != "shapley":
            raise NotApplicable("Tree SHAP gives Shapley interactions along the trees' paths only. Leave the background and the index out.")
        if not compiled():
            raise NotApplicable("Interactions of trees need numba: pip install 'pellucid[trees]'.")
        return 2 * torch.from_numpy(np.einsum("bfgk,bk->bfg", interactions(trees, z), weights) * (1 - np.eye(trees.players)))

    def _notes(self, scale: str, background: Floats | None) -> tuple[str, ...]:
        absent = "an absent column follows the trees' own training rows" if background is None else f"an absent column holds a background row's, the mean over {len(background)}"
        slow = () if compiled() else ("numba is not installed, so that plain numpy did the work: pip install 'pellucid[trees]' is about ten times faster",)
        return (absent, *((f"values are in {scale}",) if scale else ()), *slow)


def _joined(names: tuple[tuple[str, ...], ...], player: Ints) -> tuple[tuple[str, ...], ...]:
    """The players' names: columns that are one player are named together."""
    if player.max(initial=-1) + 1 == len(player):
        return names
    own = [np.flatnonzero(player == p) for p in range(int(player.max()) + 1)]
    return tuple(tuple(" + ".join(row[j] for j in at) for at in own) for row in names)


def _mean(trees: Ensemble, background: Floats) -> Floats:
    """(outputs,) the mean answer over rows that are prepared already."""
    return np.asarray(answers(trees, background).mean(0))


def _check(values: Floats, rise: Floats) -> None:
    """Values that miss the trees' own answer are refused, never shown."""
    off = np.abs(values.sum(1) - rise)
    if not (off <= NEAR * np.maximum(1.0, np.abs(rise))).all():
        raise CannotComplete(f"Tree SHAP's values miss the answer by {off.max():.3g}. This is a fault of the method; please report the model.")
