"""A question: which model, which rows, what of its answer, at which place, against what. The only road from a method to a model."""

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ._curvature import curvature
from .engine import Count, Engine
from .errors import NotApplicable, UsageError
from .model import Model
from .places import Place
from .planner import Plan
from .points import Points
from .rows import row_seed
from .rules import Rules
from .start import Samples, blur, start_of, tokens_of
from .target import PerRow, Target, as_target, check_rows, of_row, per_row
from .tree import Tree, each, has_rows, is_float, leaves, paths, refill, rows_of, take

__all__ = ["Question", "Samples", "ask", "blur"]


@dataclass(frozen=True, eq=False)
class Question:
    """Why does `model` answer `target` on the rows of `x`, seen at the place `at` (None: the input)?

    `baseline` is what "nothing" looks like, in input space. `ids` name the rows: noise is drawn by name.
    `batch_size` pins the chunk, or replays the plan that an explanation's cost records.
    """

    model: Model
    x: Tree
    target: Target
    places: tuple[Place, ...] = ()
    baseline: Any = 0
    ids: tuple[Any, ...] = ()
    seed: int = 0
    batch_size: int | Plan | None = None
    fan: int = 1
    moved: Tree | None = dataclasses.field(default=None, repr=False)
    rules: Rules | None = dataclasses.field(default=None, repr=False)
    against: Points | None = dataclasses.field(default=None, repr=False)
    origin: "Question | None" = dataclasses.field(default=None, repr=False)
    """The same question without rules, or about its own target, which learns the point as well."""
    chosen: str = ""
    _local: threading.local = dataclasses.field(default_factory=threading.local, repr=False)

    # -- what is known without asking ------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """How many rows."""
        return rows_of(self.x) or 0

    @property
    def at(self) -> str | None:
        """The place in words; None for the input."""
        return ", ".join(map(str, self.places)) or None

    @property
    def engine(self) -> Engine:
        """This thread's engine for this question."""
        if not hasattr(self._local, "engine"):
            moved = tuple(leaves(self.moved)) if self.moved is not None else None
            self._local.engine = Engine(self.model, self.x, self.target, self.places, seed=self.seed, batch_size=self.batch_size, fan=self.fan, moved=moved, rules=self.rules, against=self.against)
        return self._local.engine

    def close(self) -> None:
        """Gives back what the engine holds; the question can still be asked."""
        engine = self._local.__dict__.pop("engine", None)
        if engine is not None:
            engine.close()

    def absorbed(self) -> dict[tuple[str, str], Tensor]:
        """What each operation, (module, name), kept of the relevance that `grad()` sent back by rules: (B,) in units of the target."""
        return dict(self.engine.account.absorbed)

    def cost(self) -> Count:
        """What was spent so far."""
        return self.engine.count

    # -- other questions -------------------------------------------------------------------------------------------

    def _new(self, **changes: Any) -> "Question":
        return dataclasses.replace(self, _local=threading.local(), **{"origin": None} | changes)

    def fresh(self) -> "Question":
        """The same question, asked anew: a stale shadow or a remembered value plays no part."""
        return self._new()

    def unplanned(self) -> "Question":
        """The same, bound to no recorded plan: it may be asked other things."""
        return self._new(batch_size=None if isinstance(self.batch_size, Plan) else self.batch_size)

    def with_target(self, target: Any) -> "Question":
        """The same about another target."""
        return self._new(target=check_rows(as_target(target), self.size))

    def about(self, target: Any) -> "Question":
        """The same about another target, on the same account; where both read one place, they share the outputs."""
        new = self._new(target=check_rows(as_target(target), self.size), origin=self)
        new.engine.count, new.engine.replay, new.engine.lender = self.engine.count, self.engine.replay, self.engine
        if new.engine.read == self.engine.read:
            new.engine.above = self.engine
        return new

    def with_model(self, model: Model) -> "Question":
        """The same of another model of the same structure."""
        return self._new(model=model)

    def with_point(self, z: Tree) -> "Question":
        """The same with the place holding `z`."""
        self.resolved_target()
        fan = self.fan if all(_alike(t, self.fan) for t in leaves(z)) else 1
        new = self._new(moved=z, fan=fan) if self.places else self._new(x=self._placed(z), moved=None, fan=fan)
        new.engine.inherit(self.engine)
        return new

    def with_baseline(self, baseline: Any) -> "Question":
        """The same against another baseline, on the same account."""
        new = self._new(baseline=baseline)
        new.engine.inherit(self.engine)
        new.engine.out, new.engine.fx = self.engine.out, self.engine.fx
        return new

    def at_layer(self, at: Any) -> "Question":
        """The same at another place, on the same account."""
        new = self._new(places=as_places(at, self.model), moved=None)
        new.engine.inherit(self.engine)
        new.engine.out, new.engine.fx, new.engine.above = self.engine.out, self.engine.fx, self.engine
        return new

    def source(self) -> "Question":
        """The same where every path begins: at the input, or at the embedding of integer inputs."""
        return self.at_layer(None if self.engine.slots else list(_embedding(self.model, self.x)[0]))

    def with_rules(self, rules: Rules | None, against: Points | None = None) -> "Question":
        """The same, gradients flowing by `rules`; paired rules compare each point with that of `against` for the same sample and row."""
        new = self._new(rules=rules, against=against, origin=self)
        new.engine.inherit(self.engine)
        new.engine.out, new.engine.fx, new.engine.above = self.engine.out, self.engine.fx, self.engine
        new.engine.share(self.engine)
        new._local.asked_by = self._local
        for known in ("point", "start"):
            if hasattr(self._local, known):
                setattr(new._local, known, getattr(self._local, known))
        return new

    def take(self, rows: Tensor) -> "Question":
        """Those rows, in that order, repeated where asked."""
        t = self.resolved_target()
        targets = per_row([of_row(t, i) for i in rows.tolist()])
        moved = None if self.moved is None else take(self.moved, rows)
        ids = tuple(self.ids[i] for i in rows.tolist())
        part = self._new(x=take(self.x, rows), target=targets, ids=ids, baseline=_rows_of_baseline(self.baseline, rows, self.x), moved=moved, fan=_whole_fans(rows, self.fan))
        part.engine.inherit(self.engine, rows)
        for known in ("point", "start"):
            if hasattr(self._local, known) and part.moved is None:
                setattr(part._local, known, take(getattr(self._local, known), rows))
        return part

    def _placed(self, z: Tree) -> Tree:
        put = dict(zip(self.engine.slots, leaves(z), strict=True))
        return refill(self.x, [put.get(i, v) for i, v in enumerate(leaves(self.x))])

    # -- the point and the baseline ----------------------------------------------------------------------------------

    def pack(self, parts: Sequence[Tensor]) -> Tree:
        """Tensors at the place as the tree people see: one tensor, a tuple, or a mapping by name."""
        if len(parts) == 1:
            return parts[0]
        if self.places:
            return dict(zip(map(str, self.places), parts, strict=True))
        slots = set(self.engine.slots)
        if isinstance(self.x, Mapping):
            return dict(zip((".".join(map(str, p)) for i, (p, _) in enumerate(paths(self.x)) if i in slots), parts, strict=True))
        return tuple(parts)

    @property
    def point(self) -> Tree:
        """What is explained: the float inputs, or the layer's value."""
        if self.moved is not None:
            return self.moved
        if not hasattr(self._local, "point"):
            self._local.point = self.pack(self.engine.points()) if self.origin is None else self.origin.point
        return self._local.point

    @property
    def start(self) -> Tree:
        """The baseline, at the same place as the point."""
        if isinstance(self.baseline, Samples):
            raise NotApplicable("A baseline of many samples is averaged over; this method was given it whole.")
        if not hasattr(self._local, "start"):
            self._local.start = self._start()
        return self._local.start

    def _start(self) -> Tree:
        flat, slots = leaves(self.x), self.engine.slots
        if not slots:
            if isinstance(self.baseline, (int, float)):
                return each(lambda t: torch.full_like(t, float(self.baseline)), self.point)
            return self.pack(self.engine.points(tokens_of(self.baseline, self.x)))
        moved = start_of(self.baseline, tuple(flat[i] for i in slots), self)
        return self.pack(self.engine.points(self._placed(moved)) if self.places else moved)

    # -- asking --------------------------------------------------------------------------------------------------------

    def value(self, z: Tree | Points) -> Tensor:
        """(*lead, B) target values at points `z` of shape (*lead, B, ...), or (n, B) at `Points`."""
        if isinstance(z, Points):
            return self.engine.value(z)
        points, lead = self._stacked(z)
        return self.engine.value(points).reshape(*lead, self.size)

    def outputs(self, z: Tree | Points) -> Tensor:
        """The model's whole outputs (*lead, B, ...) there: one pass serves any number of targets."""
        if isinstance(z, Points):
            return self.engine.outputs(z)
        points, lead = self._stacked(z)
        out = self.engine.outputs(points)
        return out.reshape(*lead, self.size, *out.shape[2:])

    def grad(self, z: Tree | Points | None = None, weights: Tensor | None = None) -> Tree:
        """Gradients of the target: at the point itself (None), at every `z`, or a weighted sum over `Points`.

        `weights` is (n,), (n, B), or (J, n, B) for J sums at once; the sum is streamed, so that memory does not grow with n.
        """
        if z is None:
            return self._grad_here()
        if isinstance(z, Points):
            if weights is None:
                raise UsageError("q.grad needs weights with Points: it streams a weighted sum and keeps no single gradient.")
            return self._folded(z, weights)
        points, lead = self._stacked(z)
        out: list[Tensor] = []

        def keep(g: tuple[Tensor, ...], s: Tensor, rows: Tensor) -> None:
            if not out:
                out.extend(t.new_empty(points.n * self.size, *t.shape[1:]) for t in g)
            for o, t in zip(out, g, strict=True):
                o[s * self.size + rows] = t

        self.engine.grad(points, keep)
        return self.pack([o.reshape(*lead, self.size, *o.shape[1:]) for o in out])

    def _grad_here(self) -> Tree:
        if self.moved is not None:
            return self.grad(self.point)
        point, grads = self.engine.tap()
        self._local.point = self.pack(point)
        if hasattr(self._local, "asked_by"):
            self._local.asked_by.point = self._local.point
        if self.origin is not None:
            self.origin._local.point = self._local.point
        return self.pack(grads)

    def curvature(self, v: Tree | None = None) -> tuple[Tree, Tree]:
        """The gradient at the point and the Hessian times `v`, the point itself unless given: exact, by a double backward."""
        if self.rules is not None:
            raise NotApplicable("A curvature needs plain gradients; a rule has no second derivative. Ask the question without rules.")
        point, grads, bent = curvature(self.engine, None if v is None else tuple(leaves(v)))
        self._local.point = self.pack(point)
        return self.pack(grads), self.pack(bent)

    def _folded(self, points: Points, weights: Tensor) -> Tree:
        w = weights[None, :, None] if weights.ndim == 1 else weights[None] if weights.ndim == 2 else weights
        w = w.expand(len(w), points.n, self.size)
        sums: list[Tensor] = []

        def add(g: tuple[Tensor, ...], s: Tensor, rows: Tensor) -> None:
            if not sums:
                sums.extend(torch.zeros(len(w), self.size, *t.shape[1:], dtype=_wide(t.dtype), device=t.device) for t in g)
            part = w[:, s, rows]
            for total, t in zip(sums, g, strict=True):
                here, flat = part.to(total), t.to(total.dtype).flatten(1)
                for b in rows.unique().tolist():
                    mine = (rows == b).nonzero()[:, 0].to(t.device)
                    total[:, b] += (here[:, mine] @ flat[mine]).reshape(len(w), *t.shape[1:])

        self.engine.grad(points, add)
        done = [t.to(leaf.dtype) for t, leaf in zip(sums, leaves(self.point), strict=True)]
        return self.pack([t if weights.ndim == 3 else t[0] for t in done])

    def stream(self, points: Points, fold: Callable[[tuple[Tensor, ...], Tensor, Tensor], None]) -> None:
        """Hands the gradients at `points`, in order, to `fold(gradients, samples, rows)`: only what that keeps takes memory."""
        self.engine.grad(points, fold)

    def _stacked(self, z: Tree) -> tuple[Points, tuple[int, ...]]:
        """Points that index tensors already there, and their leading dimensions."""
        model = leaves(self.point)
        given = leaves(z)
        if len(given) != len(model) or any(g.shape[g.ndim - p.ndim:] != p.shape for g, p in zip(given, model, strict=True)):
            raise UsageError(f"q.value and q.grad need points shaped like the question's, {[tuple(p.shape) for p in model]} with any leading dimensions; got {[tuple(g.shape) for g in given]}.")
        lead = tuple(given[0].shape[: given[0].ndim - model[0].ndim])
        flat = [g.reshape(-1, *p.shape) for g, p in zip(given, model, strict=True)]
        return Points(len(flat[0]), lambda s, rows: tuple(f[s.to(f.device), rows.to(f.device)] for f in flat)), lead

    # -- helpers for methods -------------------------------------------------------------------------------------------

    def path(self, t: Tensor) -> Points:
        """The straight path from the baseline to the point at fractions `t`, (n,) or (n, B)."""
        start, point = leaves(self.start), leaves(self.point)
        t = (t[:, None] if t.ndim == 1 else t).expand(len(t), self.size)

        def make(s: Tensor, rows: Tensor) -> Tree:
            f = t[s, rows]
            return tuple(torch.lerp(a[rows], b[rows], spread(f.to(a), a)) for a, b in zip(start, point, strict=True))

        return Points(len(t), make)

    def noise(self, s: Tensor, rows: Tensor) -> Tree:
        """Standard normal noise for samples `s` of rows `rows`, the same wherever a row lies in a batch and in every precision."""
        parts = leaves(self.point)
        columns: list[list[Tensor]] = [[] for _ in parts]
        for i, r in zip(s.tolist(), rows.tolist(), strict=True):
            g = torch.Generator().manual_seed(row_seed(self.seed, self.ids[r], i))
            for column, p in zip(columns, parts, strict=True):
                column.append(torch.randn(p.shape[1:], generator=g, dtype=torch.float32).to(p))
        return self.pack([torch.stack(c) for c in columns])

    def resolved_target(self) -> Target:
        """The target in numbers: names and predictions looked up."""
        self.engine.ready()
        return self.engine.target

    def target_values(self) -> Tensor:
        """(B,) the target at the rows themselves."""
        self.engine.ready()
        return self.engine.fx  # type: ignore[return-value]

    def target_names(self) -> tuple[str, ...]:
        """The target in words, a row."""
        t = self.resolved_target()
        labels = self.model.labels if t.reads is None else None
        return tuple(of_row(t, i).text(labels) for i in range(self.size))

    def own_outputs(self) -> Tensor:
        """(B, ...) what the target reads, at the rows themselves."""
        self.engine.ready()
        return self.engine.out  # type: ignore[return-value]


def spread(f: Tensor, like: Tensor) -> Tensor:
    """(n,) numbers shaped to multiply (n, ...) points."""
    return f.reshape(-1, *[1] * (like.ndim - 1))


def _alike(t: Tensor, fan: int) -> bool:
    """Whether the copies of each row hold the same point."""
    groups = t.unflatten(0, (-1, fan))
    return fan == 1 or bool((groups == groups[:, :1]).all())


def _whole_fans(rows: Tensor, fan: int) -> int:
    """The fan that is left when these rows are taken: the same if every row comes with all its copies."""
    if fan == 1 or len(rows) % fan:
        return 1
    groups = rows.reshape(-1, fan)
    return fan if torch.equal(groups, groups[:, :1] // fan * fan + torch.arange(fan)) else 1


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _rows_of_baseline(baseline: Any, rows: Tensor, x: Tree) -> Any:
    """Those rows of a baseline that is given row by row; one that all rows share is left as it is."""
    if isinstance(baseline, (int, float, str, Samples)):
        return baseline
    own = [t for t in leaves(x) if is_float(t) and t.ndim] or [t for t in leaves(x) if has_rows(t)]
    given = [torch.as_tensor(v) for v in leaves(baseline)]
    if len(given) != len(own):
        return baseline
    return refill(baseline, [v.index_select(0, rows.to(v.device)) if v.shape == t.shape else v for v, t in zip(given, own, strict=True)])


def as_places(at: Any, model: Model) -> tuple[Place, ...]:
    """Places from a name, a module of the user's, (layer, "input"), or a list of these."""
    if at is None:
        return ()
    if isinstance(at, list):
        return tuple(p for a in at for p in as_places(a, model))
    names = {i.name: None for i in model.layers()}
    if not names:
        raise NotApplicable(f"A place inside needs a model with layers; {model.name} is a plain callable.")
    if isinstance(at, nn.Module) or (isinstance(at, tuple) and isinstance(at[0], nn.Module)):
        module, side = (at, "output") if isinstance(at, nn.Module) else at
        name = model.layer_name(module)
        if name is None:
            raise UsageError(f"at= needs a layer of {model.name}; got a {type(module).__name__} that is no part of it.")
        at = (name, side)
    return (Place.parse(at, names),)


def ask(model: Model, x: Any, target: Any = None, at: Any = None, baseline: Any = 0, ids: Sequence[Any] | None = None, seed: int = 0, batch_size: int | str | Plan | None = None) -> Question:
    """A question from what a user holds: everything is converted here, once."""
    model, x, baseline = model.posed(x, baseline)
    x = model.prepare(x)
    _check_inputs(x, model.missing)
    size = rows_of(x) or 0
    places = as_places(at, model)
    chosen = ""
    if not places and not any(is_float(v) for v in leaves(x)):
        places, chosen = _embedding(model, x)
    names = tuple(ids) if ids is not None else tuple(range(size))
    if len(names) != size:
        raise UsageError(f"ids need one name a row; got {len(names)} for {size} rows.")
    batch_size = _as_batch_size(batch_size)
    baseline = 0 if baseline is None else baseline
    if isinstance(target, list) and target and not all(isinstance(t, (int, str)) for t in target):
        return _several(Question(model, x, as_target(0), places, baseline, names, seed, batch_size, chosen=chosen), target)
    given = per_row([as_target(t) for t in target]) if isinstance(target, list) else as_target(target)
    return Question(model, x, check_rows(given, size), places, baseline, names, seed, batch_size, chosen=chosen)


def _as_batch_size(given: Any) -> int | Plan | None:
    """A chunk's size, or a plan as an explanation's cost records it."""
    if isinstance(given, str):
        return int(given) if given.isdigit() else Plan.parse(given)
    if given is None or isinstance(given, Plan) or (isinstance(given, int) and not isinstance(given, bool) and given >= 1):
        return given
    raise UsageError(f"batch_size needs to be a whole number of at least 1, or the plan of an earlier explanation (e.cost.plan); got {given!r}.")


def _several(q: Question, targets: list[Any]) -> Question:
    """Every row once a target, next to each other, so that they share the forward pass."""
    n = len(targets)
    rows = torch.arange(q.size).repeat_interleave(n)
    own = [check_rows(as_target(t), q.size) for t in targets]
    if any(t.reads is None and type(t).__name__ == "Predicted" for t in own):
        raise UsageError("A list of targets needs each one named; None (the model's own prediction) cannot be one of them.")
    spread_targets = PerRow(tuple(of_row(own[k], i) for i in range(q.size) for k in range(n)))
    per_row(spread_targets.targets)
    ids = tuple(name for name in q.ids for _ in range(n))
    return q._new(x=take(q.x, rows), target=spread_targets, ids=ids, baseline=_rows_of_baseline(q.baseline, rows, q.x), fan=n)


def _check_inputs(x: Tree, missing: bool = False) -> None:
    tensors = [t for t in leaves(x) if has_rows(t)]
    if not tensors:
        raise UsageError("A question needs at least one input tensor with a batch axis (rows first); got none.")
    counts = {len(t) for t in tensors}
    if len(counts) > 1:
        raise UsageError(f"All inputs need the same number of rows; got {sorted(counts)}. Mark inputs without a batch axis with pel.shared.")
    if counts == {0}:
        raise UsageError("A question needs at least one row; the inputs are empty.")
    for t in tensors:
        fine = torch.isfinite(t) | torch.isnan(t) if missing and is_float(t) else torch.isfinite(t)
        if is_float(t) and not fine.all():
            bad = t[~fine][0]
            raise UsageError(f"Inputs need finite numbers; got {float(bad)} in a tensor of shape {tuple(t.shape)}. Fill or drop missing values first.")


def _embedding(model: Model, x: Tree) -> tuple[tuple[Place, ...], str]:
    """Where integer inputs are explained: the first embedding that the forward pass calls."""
    for info in model.layers(x):
        if "Embedding" in info.kind and info.shape is not None and info.kind == "Embedding":
            return (Place(info.name),), f"integer inputs are explained at the embedding layer {info.name}"
    raise NotApplicable("The inputs are integers and the model calls no nn.Embedding; say at which layer to explain (at=...).")
