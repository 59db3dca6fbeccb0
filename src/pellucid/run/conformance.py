"""Does a method keep its word? What every method owes, and what its card promises, tried on small networks.

`pellucid doctor PACKAGE` runs it on the methods of that package; `conform(method)` on any.
"""

import copy
import dataclasses
import inspect
import pickle
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..backends.wrap import wrap
from ..core import catalogue
from ..core.card import Promise
from ..core.errors import NotApplicable, PellucidError, UsageError
from ..core.explanation import Explanation
from ..core.model import STRANGERS
from ..core.procedure import Method, Metric, sum_of
from ..core.target import Custom
from ..core.tree import Tree, leaves
from .trials import PLACES, ROWS, TRIALS, Counted, Trace, Trial

PICTURES, COLUMNS, _ = TRIALS
CLOSE = 1e-9
"""How far two ways to the same double-precision answer may lie apart, relative to its largest value."""


class Broken(PellucidError):
    """A method does not do what it owes or promises."""


@dataclass(frozen=True)
class Finding:
    """What was tried, and what was wrong; nothing where the method keeps its word."""

    duty: str
    fault: str = ""


def conform(method: Method) -> Iterator[Finding]:
    """Every duty in turn, then every promise of the card."""
    for duty, check in DUTIES.items():
        yield _tried(duty, lambda check=check: check(method))
    for promise, check in PROMISES.items():
        if promise in method.card.promises:
            yield _tried(f"promise: {str(promise.name).lower().replace('_', '-')}", lambda check=check: check(method))


def conform_metric(metric: Metric) -> Iterator[Finding]:
    """A metric gives every row of an explanation one number, the same each time, and leaves no trace."""
    net = PICTURES.net()
    trace = Trace(net, PICTURES.x)

    def scores() -> None:
        e = catalogue.make("methods", "saliency")(PICTURES.question(model=wrap(net)))
        try:
            one, two = metric(e).values, metric(e).values
        except NotApplicable:
            return
        _needs(torch.equal(one.nan_to_num(), two.nan_to_num()), "two scores of one explanation differ.")
        _needs(not trace.left(), f"it leaves a trace: {', '.join(trace.left())} changed.")

    yield _tried("scores an explanation", scores)


def _tried(duty: str, check: Callable[[], None]) -> Finding:
    try:
        check()
    except Broken as fault:
        return Finding(duty, str(fault))
    except (PellucidError, pickle.PicklingError, *STRANGERS) as fault:
        return Finding(duty, f"{type(fault).__name__}: {str(fault).strip() or 'no message'}")
    return Finding(duty)


def _needs(holds: Any, sentence: str) -> None:
    if not holds:
        raise Broken(sentence)


# ---------------------------------------------------------------- asking


def _asked(method: Method, trial: Trial, place: str = "input", **changes: Any) -> Explanation | None:
    """The explanation; None where the method says that it cannot answer there."""
    try:
        return method(trial.question(place, **changes))
    except NotApplicable:
        return None


def _answered(method: Method) -> list[tuple[Trial, str, Explanation]]:
    """Where the method answers, and what."""
    found = [(t, p, _asked(method, t, p)) for t in TRIALS for p in PLACES]
    return [(t, p, e) for t, p, e in found if e is not None]


def _same(got: Tree, want: Tree, close: float = CLOSE) -> bool:
    pairs = list(zip(leaves(got), leaves(want), strict=True))
    return all(g.shape == w.shape and float((g - w).abs().max()) <= close * float(w.abs().max()) + 1e-12 for g, w in pairs)


def _equal(a: Tree, b: Tree) -> bool:
    return all(torch.equal(s, t) for s, t in zip(leaves(a), leaves(b), strict=True))


def _some(values: Tree) -> bool:
    return any(bool(v.abs().max() > 0) for v in leaves(values))


# ---------------------------------------------------------------- what every method owes


def value(method: Method) -> None:
    """Two made alike are equal, also after a copy or a pickle, and none can be changed."""
    twin = type(method)(**method.parameters())
    _needs(twin == method and hash(twin) == hash(method), "two methods made alike are not equal; make the class a frozen dataclass of plain parameters.")
    _needs(copy.deepcopy(method) == method and pickle.loads(pickle.dumps(method)) == method, "a copy or a pickle of it is not equal to it.")  # noqa: S301 - our own bytes
    for name in method.parameters():
        try:
            setattr(method, name, getattr(method, name))
        except dataclasses.FrozenInstanceError:
            continue
        raise Broken(f"its parameter {name} can be changed after it was made; write @dataclass(frozen=True, kw_only=True).")


def documented(method: Method) -> None:
    """The docstring asks the question that the method answers, and says how, in which units, and when it misleads."""
    doc = inspect.getdoc(type(method)) or ""
    _needs(doc.partition("\n")[0].endswith("?"), "its docstring needs to begin with the question that it answers, on one line that ends with '?'.")
    lacking = [h for h in ("How:", "Units:", "Misleads when:") if not re.search(rf"^{h} \S", doc, re.MULTILINE)]
    _needs(not lacking, f"its docstring lacks {', '.join(lacking)}")
    silent = [f.name for f in dataclasses.fields(method) if not f.metadata.get("meaning")]
    _needs(not silent, f"its parameters {', '.join(silent)} need a meaning: write them with param(default, meaning).")
    _needs(method.card.title and method.card.cost, "its card needs a title and a cost.")


def refuses(method: Method) -> None:
    """Parameters out of range are refused with a sentence that names them."""
    for f in dataclasses.fields(method):
        for bad in _bad(f):
            try:
                type(method)(**method.parameters() | {f.name: bad})
            except UsageError as told:
                _needs(f.name in str(told), f"it refuses {f.name}={bad!r} without naming it.")
            else:
                raise Broken(f"it accepts {f.name}={bad!r}; call super().__post_init__() where you write your own.")


def _bad(f: "dataclasses.Field[Any]") -> list[Any]:
    ge, le, choices = (f.metadata.get(k) for k in ("ge", "le", "choices"))
    out = [ge - 1, float("nan")] if ge is not None else []
    out += [le + 1] if le is not None else []
    out += ["no such word"] if choices else []
    return [*out, "yes"] if isinstance(f.default, bool) else out


def answers(method: Method) -> None:
    """Finite values, three rows of them, at the input, at a layer and of a neuron of at least one network."""
    found = _answered(method)
    _needs(found, f"it answers none of the networks it is tried on ({', '.join(t.name for t in TRIALS)}), at no place.")
    for trial, place, e in found:
        where = f"at the {place} of {trial.name}"
        parts = leaves(e.values)
        _needs(all(len(v) == ROWS and v.isfinite().all() and not v.requires_grad for v in parts), f"its values {where} need {ROWS} rows of finite numbers that ask for no gradient.")
        _needs(all(v.dtype == torch.float64 for v in parts), f"its values {where} need the model's precision, float64; they have {parts[0].dtype}.")
        _needs(e.signed or all((v >= 0).all() for v in parts), f"its card says unsigned, and its values {where} hold negative numbers.")
    _needs(any(_some(e.values) for _, _, e in found), "it answers everything with zeros.")


def independent(method: Method) -> None:
    """Values do not depend on how the work was cut, on the order of rows, or on a row's neighbours."""
    for trial, place, e in _answered(method):
        where = f"at the {place} of {trial.name}"
        for size in (1, 2, None):
            other = _asked(method, trial, place, batch_size=size)
            _needs(other is not None and _same(other.values, e.values), f"its values {where} depend on the batch size ({size or 'measured'} against 8).")
        order = torch.tensor([2, 0, 1])
        targets = {} if place == "neuron" else {"target": order.tolist()}
        turned = _asked(method, trial, place, x=trial.x[order], ids=tuple("pqr"[i] for i in order.tolist()), **targets)
        _needs(turned is not None and _same(turned.values, _rows(e.values, order)), f"its values {where} depend on the order of the rows.")
        alone = _asked(method, trial, place, x=trial.x[:1], ids=("p",), **({} if place == "neuron" else {"target": 0}))
        _needs(alone is not None and _same(alone.values, _rows(e.values, torch.tensor([0]))), f"its values {where} of a row depend on the other rows.")


def _rows(values: Tree, rows: Tensor) -> list[Tensor]:
    return [v[rows] for v in leaves(values)]


def repeatable(method: Method) -> None:
    """The same seed gives the same bits; another seed gives other values only where the card says random."""
    found = _answered(method)
    for trial, place, e in found:
        again, other = (_asked(method, trial, place, seed=s) for s in (0, 1))
        _needs(again is not None and other is not None and _equal(again.values, e.values), f"two runs with one seed differ at the {place} of {trial.name}; draw noise with q.noise alone.")
        if other is not None and not _equal(other.values, e.values):
            _needs(method.card.random, f"its values at the {place} of {trial.name} depend on the seed; its card needs random=True.")


def rooted(method: Method) -> None:
    """Values depend on the baseline where the card says so, and nowhere else."""
    pairs = [(e, _asked(method, t, p, baseline=0.5)) for t, p, e in _answered(method)]
    differ = any(o is not None and not _equal(o.values, e.values) for e, o in pairs)
    _needs(method.card.baseline or not differ, "its values depend on the baseline; its card needs baseline=True.")


def traceless(method: Method) -> None:
    """Nothing is left on the model, on the inputs or on torch, whether the method answers or not."""
    for trial in TRIALS:
        for place in PLACES:
            net = trial.net()
            trace = Trace(net, trial.x)
            _asked(method, trial, place, model=wrap(net))
            _needs(not trace.left(), f"it leaves a trace {'at' if place != 'neuron' else 'about'} the {place} of {trial.name}: {', '.join(trace.left())} changed.")


def counted(method: Method) -> None:
    """The cost that is told is what the model saw, and no more than the card says."""
    told = re.fullmatch(r"(\d+) forward(?: and (\d+) backward)? rows?", method.card.cost)
    for trial in TRIALS:
        net = Counted(trial.net())
        model = wrap(net)
        model.layers(trial.x)  # listing the layers takes one row, once a model
        net.tally.rows = 0
        e = _asked(method, trial, model=model, at="inner.first" if trial.x.dtype == torch.long else None)
        if e is not None:
            _needs(e.cost.forward_rows == net.tally.rows, f"it tells of {e.cost.forward_rows} forward rows and the model saw {net.tally.rows}; ask through the question alone.")
            spent = e.cost.forward_rows, e.cost.backward_rows
            _needs(not told or all(s <= ROWS * int(t or 0) for s, t in zip(spent, told.groups(), strict=True)), f"it spends {spent} rows on {ROWS}; its card says {method.card.cost!r}.")


def kept(method: Method) -> None:
    """What it found is written to a file and read again with nothing lost."""
    for trial, place, e in _answered(method)[:3]:
        with tempfile.TemporaryDirectory() as folder:
            back = Explanation.load(e.save(Path(folder) / "kept.safetensors"))
        _needs(_equal(back.values, e.values) and back.parameters == e.parameters, f"its values at the {place} of {trial.name} do not survive a file.")


DUTIES: dict[str, Callable[[Method], None]] = {
    "is a value": value, "is documented": documented, "refuses bad parameters": refuses, "answers": answers, "does not depend on the batch": independent,
    "is repeatable": repeatable, "is rooted in the baseline as its card says": rooted, "leaves no trace": traceless, "counts its cost": counted, "survives a file": kept,
}  # fmt: skip


# ---------------------------------------------------------------- what a card promises


def complete(method: Method) -> None:
    """Values sum to the target's change from the baseline."""
    e = _asked(method, COLUMNS)
    if e is not None and e.base is not None:
        change = e.total - e.base
        gap = (sum_of(e.values) - change).abs().max() / change.abs().max()
        _needs(gap < 0.02, f"its values miss {float(gap):.1%} of the target's change on a smooth network.")


def local(method: Method) -> None:
    """A channel or a column that the network does not read gets exactly zero."""
    for trial in (PICTURES, COLUMNS):
        net = trial.net()
        with torch.no_grad():
            net.get_parameter("first.weight")[:, 1] = 0
        e = _asked(method, trial, model=wrap(net), baseline=0.3)
        if e is not None and isinstance(e.values, Tensor) and e.values.shape == trial.x.shape:
            _needs(e.values[:, 1].abs().max() == 0 and _some(e.values), f"what the network for {trial.name} does not read gets values up to {float(e.values[:, 1].abs().max()):.2g}.")


def linear(method: Method) -> None:
    """Twice the target, twice the values."""
    for trial in (PICTURES, COLUMNS):
        one, two = (_asked(method, trial, target=Custom(f)) for f in (_once, _twice))
        if one is not None and two is not None:
            _needs(_same(two.values, [2 * v for v in leaves(one.values)]), f"twice the target does not give twice the values on {trial.name}.")


def _once(out: Tensor) -> Tensor:
    return out[:, 1]


def _twice(out: Tensor) -> Tensor:
    return 2 * out[:, 1]


def symmetric(method: Method) -> None:
    """Two columns that play the same part, with the same number in them, get the same value."""
    net, x = COLUMNS.net(), COLUMNS.x.clone()
    with torch.no_grad():
        net.get_parameter("first.weight")[:, 3] = net.get_parameter("first.weight")[:, 1]
    x[:, 3] = x[:, 1]
    e = _asked(method, COLUMNS, model=wrap(net), x=x)
    if e is not None:
        _needs(_same(e.values[:, 3], e.values[:, 1]), "two columns that play the same part get different values.")


class _Otherwise(nn.Module):
    """The same function as the network for columns: hidden units in another order and of the other sign, a layer more."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.same, self.first, self.a, self.out = nn.Identity(), *(copy.deepcopy(net.get_submodule(n)) for n in ("first", "a", "out"))
        order = torch.tensor([3, 1, 7, 5, 0, 2, 6, 4])
        with torch.no_grad():
            for before, after in ((self.first, self.a), (self.a, self.out)):
                before.weight.copy_(-before.weight[order])
                before.bias.copy_(-before.bias[order])
                after.weight.copy_(-after.weight[:, order])

    def forward(self, x: Tensor) -> Tensor:
        h = torch.sinh(self.first(self.same(x))) / torch.cosh(self.first(x))
        return self.out(torch.tanh(self.a(h)))


def invariant(method: Method) -> None:
    """Two networks that compute the same function get the same values."""
    one, two = (_asked(method, COLUMNS, model=wrap(net)) for net in (COLUMNS.net(), _Otherwise(COLUMNS.net()).eval()))
    if one is not None and two is not None:
        _needs(_same(two.values, one.values, 1e-6), "two networks that compute the same function get different values.")


PROMISES: dict[Promise, Callable[[Method], None]] = {
    Promise.COMPLETE: complete, Promise.LOCAL: local, Promise.LINEAR: linear, Promise.SYMMETRIC: symmetric, Promise.IMPLEMENTATION_INVARIANT: invariant,
}  # fmt: skip
