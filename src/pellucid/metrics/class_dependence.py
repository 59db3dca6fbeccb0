"""Class dependence: is it another map for another class, or for a network that has learnt nothing?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..backends.torch_module import TorchModel
from ..backends.wrap import wrap
from ..core.agreement import agreement
from ..core.card import Card, param
from ..core.errors import Cancelled, CannotComplete, NotApplicable
from ..core.evidence import Cost, Reading
from ..core.explanation import Explanation
from ..core.procedure import Method, Metric, Scores
from ..core.target import Label, PerRow, Probability, of_row
from ._fidelity import gini
from ._permuted import permuted, rows_needed
from ._subject import Subject, known, live, mean_of, on_grid, scores
from ._verdict import Cuts

TITLE = "Another class, another map"
MEANING = "Rank correlation with the same method's map for a class that the model finds of middling likelihood; 1: the same map."
TITLE_NETWORK = "Another network, another map"
MEANING_NETWORK = "Mean rank correlation with the same method's maps of copies of the network whose weights were shuffled; 1: the same map."


@dataclass(frozen=True, kw_only=True)
class ClassDependence(Metric):
    """Does the map change with the class that is asked about?

    How: the same method explains a far class, the one of the median output, and the two maps are compared by rank correlation.
    Where there is no other class, copies of the network with shuffled weights stand in, and BatchNorm is estimated again so that they are alive.
    Misleads when: the two classes do rest on the same parts; near classes (tabby, tiger cat) do, which is why a far one is asked.
    Source: Adebayo et al., 2018, for the shuffled networks.
    """

    card = Card(title="Another class, another map", paper="arXiv:1810.03292", better="lower", cost="one more explanation; three, of shuffled networks, where there is no other class", random=True)
    near: float = param(1.0, "classes within this much of the target's output are not far", ge=0, unit="output units")
    networks: int = param(3, "shuffled networks where there is no other class", ge=1)

    def score(self, e: Explanation) -> Scores:
        """The rank correlation, a row; NaN where a row has no far class."""
        found = self.read(live(e), Cuts())
        return Scores(scores(found.rows, found.verdict, found.sentence), found.sentence)

    def read(self, s: Subject, cuts: Cuts) -> Reading:
        """The reading, named after what was varied: "class-dependence" or "network-dependence"."""
        if s.method is None:
            return _missing("The map was made elsewhere: its method cannot be asked about another class.")
        far = far_classes(s, self.near)
        try:
            return self._classes(s, s.method, far, cuts) if any(c is not None for c in far) else self._networks(s, s.method, cuts)
        except Cancelled:
            raise
        except (NotApplicable, CannotComplete) as why:
            return _missing(str(why))

    def _classes(self, s: Subject, method: Method, far: list[int | None], cuts: Cuts) -> Reading:
        own = s.q.resolved_target()
        asked = [of_row(own, i) if c is None else type(of_row(own, i))(c) for i, c in enumerate(far)]  # type: ignore[call-arg]
        other = method(s.q.with_target(PerRow(tuple(asked))))
        rows = tuple(None if c is None else v for c, v in zip(far, agreement(s.maps(), on_grid(other, s.grid)).tolist(), strict=True))
        blind = mean_of(rows)
        name = f"the map of {Label(far[0]).text(s.q.model.labels)}" if far[0] is not None and s.size == 1 else "maps of far classes"
        words = f"Compared with {name}: {'hardly any change' if blind > cuts.near_blind else 'it changes with the class'} ({blind:.2f})."
        if blind > cuts.blind:
            words = f"The same map for every class ({blind:.2f}): it shows the input, not the decision."
        return Reading("class-dependence", TITLE, blind, rows, "rank correlation", _verdict(blind, cuts.near_blind, cuts.blind), words, MEANING, other.cost)

    def _networks(self, s: Subject, method: Method, cuts: Cuts) -> Reading:
        if not isinstance(s.q.model, TorchModel):
            return _missing("There is no other class to ask about, and this model has no weights that could be shuffled.")
        alike, cost, own = [], Cost(), s.maps()
        for k in range(self.networks):
            maps, spent = _of_shuffled(s, s.q.model, method, k)
            cost = cost + spent
            alike.append([v if gini(m) >= cuts.gini else None for m, v in zip(maps, agreement(own, maps).tolist(), strict=True)])
        rows = tuple(mean_of(column) if known(column) else None for column in zip(*alike, strict=True))
        value = mean_of(rows)
        if not known(rows):
            return _missing("The networks with shuffled weights give an empty map here, so that they cannot be compared with.")
        words = (
            f"Compared with {self.networks} networks with shuffled weights: {'hardly any change' if value > cuts.network else 'the map depends on what was learnt'} ({value:.2f})."
        )
        return Reading("network-dependence", TITLE_NETWORK, value, rows, "rank correlation", _verdict(value, cuts.network, cuts.network_blind), words, MEANING_NETWORK, cost)


def far_classes(s: Subject, near: float) -> list[int | None]:
    """A far class for each row; None where the target is no class or there are not three."""
    target, out = s.q.resolved_target(), s.q.own_outputs()
    if target.reads is not None or out.ndim != 2 or out.shape[1] < 3:
        return [None] * s.size
    mine = [of_row(target, i) for i in range(s.size)]
    return [far_class(y, t.index, near) if isinstance(t, (Label, Probability)) and isinstance(t.index, int) else None for y, t in zip(log_odds(out), mine, strict=True)]


def log_odds(out: Tensor) -> Tensor:
    """Outputs on the scale of logits: the logarithm of what is a probability already."""
    out = out.detach().double().cpu()
    probable = bool((out >= 0).all()) and bool(((out.sum(1) - 1).abs() < 1e-3).all())
    return out.clamp_min(1e-12).log() if probable else out


def far_class(y: Tensor, target: int, near: float) -> int | None:
    """The class nearest the median output, of those that differ from the target's output by more than `near`."""
    distance = (y - y.median()).abs()
    distance[(y - y[target]).abs() <= near] = float("inf")
    distance[target] = float("inf")
    best = int(distance.argmin())
    return best if torch.isfinite(distance[best]) else None


def _of_shuffled(s: Subject, model: TorchModel, method: Method, k: int) -> tuple[Tensor, Cost]:
    shuffled = permuted(model.module, s.q.x, seed=s.q.seed + k)
    other = wrap(shuffled, labels=model.labels, preprocess=model.preprocess, name=f"{model.name}, weights shuffled", output=model.output)
    again = method(s.q.with_target(s.q.resolved_target()).with_model(other))
    return on_grid(again, s.grid), again.cost + Cost(forward_rows=rows_needed(model.module))


def _verdict(value: float, near: float, blind: float) -> str:
    return "bad" if value > blind else "doubtful" if value > near else "good"


def _missing(why: str) -> Reading:
    return Reading("class-dependence", TITLE, None, (), "rank correlation", "not applicable", why, MEANING)
