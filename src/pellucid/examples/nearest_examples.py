"""The rows nearest to a row."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.card import Card, param
from ..core.errors import UsageError
from ..core.estimator import Estimator
from ..core.question import Question
from ._rows import Example, Examples, cells, from_row, said
from ._space import space_of


@dataclass(frozen=True, kw_only=True)
class NearestExamples(Estimator):
    """Which other rows are most like this one, and what does the model say of them?

    How: Euclidean distance over standardised numbers, words that differ counting as much as two numbers typically do, and missing cells equal to each other alone; or over a
    layer's standardised activations, `at`. Rows equally far come in the order of the table.
    Units: a distance of 1 is one standard deviation of one column.
    Misleads when: many columns that do not matter weigh as much as those that do; the nearest rows of a sparse table may be far: read the distances.
    Source: Gower 1971 (distances over mixed columns); Papernot and McDaniel 2018, arXiv:1803.04765 (neighbours at layers).
    """

    card = Card(title="Nearest examples", paper="Gower 1971, Biometrics 27; arXiv:1803.04765", cost="1 forward row a row of data", scope="local")
    rows: Any = param(0, "the row whose neighbours are wanted, by its place, or several: (0, 5)")
    count: int = param(5, "how many neighbours", ge=1)
    answer: str = param("any", "whether a neighbour's predicted class may be any, has to be the same, or another", choices=("any", "same", "other"))
    at: Any = param(None, "a layer's name: rows are compared by what it makes of them")

    def fit(self, q: Question) -> Examples:
        wanted = [self.rows] if isinstance(self.rows, int) else list(self.rows)
        for i in wanted:
            if not isinstance(i, int) or not 0 <= i < q.size:
                raise UsageError(f"nearest-examples needs rows from 0 to {q.size - 1}; got {i!r}.")
        s, answers = space_of(q, self.at), said(q)
        kinds, found = np.array(answers), list[Example]()
        if self.answer != "any" and len(set(answers)) > q.size / 2:
            raise UsageError(f"answer={self.answer!r} compares predicted classes; this model's answers are numbers. Leave it out.")
        for i in wanted:
            d = np.sqrt(s.squares(np.array([i]))[:, 0])
            d[i] = np.inf
            if self.answer != "any":
                d[(kinds == kinds[i]) != (self.answer == "same")] = np.inf
            near = np.argsort(d, kind="stable")[: self.count]
            found.append(Example(i, str(q.ids[i]), "itself", float("nan"), 0.0, answers[i], cells(s, i), (), str(q.ids[i])))
            found += [Example(int(j), str(q.ids[j]), "neighbour", float("nan"), float(d[j]), answers[j], cells(s, j), from_row(s, j, i), str(q.ids[i])) for j in near if np.isfinite(d[j])]
        return Examples(examples=tuple(found), space=s.words, against="the row itself", notes=(f"distances in {s.words}",))
