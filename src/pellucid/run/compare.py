"""`pel.compare`: several methods on the same rows, chunk by chunk, tested by one pool of masks."""

import contextlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..backends.load import model_of
from ..backends.text import posed, text_masker
from ..core import catalogue
from ..core.errors import NotApplicable, UnknownName, UsageError
from ..core.evidence import Cost
from ..core.model import Model
from ..core.procedure import Method, Metric
from ..core.progress import Progress, Watcher, report, watching
from ..core.provenance import provenance
from ..core.question import Question, ask
from ..core.tree import leaves, rows_of, take
from ..metrics._verdict import Cuts, Facts, judge, judge_rows
from ._compared_rows import Chunk, Chunks, Runner
from .comparison import Compared, Comparison, Shown
from .store import Store

CHUNK, PICTURES = 4, 3
DEFAULT = ("mask-fidelity", "class-dependence")


def compare(
    model: Any, inputs: Any, *, methods: Sequence[Any] | Mapping[str, Any], metrics: Sequence[str | Metric] = DEFAULT, target: Any = None, at: Any = None, baseline: Any = None,
    ids: Sequence[Any] | None = None, groups: Sequence[Any] | None = None, seed: int = 0, batch_size: Any = None, controls: bool = True, chunk: int = CHUNK, pictures: int = PICTURES,
    store: str | Path | None = None, resume: bool = True, progress: Watcher | None = None, **parameters: Any,
) -> Comparison:
    """Which method explains this model best on these rows, and where do methods disagree?

    `methods` are names, Methods, (name, parameters) pairs, or a mapping from labels to these; other keywords are parameters for those methods that take them.
    `metrics` are names or Metrics; mask fidelity brings two more scores, and with it every line gets a verdict. Every score stays by itself.
    `inputs` may be anything `explain` takes, a torch Dataset, or an iterable of batches (a DataLoader): `chunk` rows are held at a time.
    `groups` say which rows belong together (a patient, a photo): they count once in intervals and tests.
    With `store`, a directory, finished chunks are kept there, and a run that was stopped goes on from them unless `resume` is False.
    """
    lines, scorers = named_methods(methods, parameters), named_metrics(metrics)
    if chunk < 1 or pictures < 0:
        raise UsageError(f"compare needs chunk of at least 1 and pictures of at least 0; got {chunk} and {pictures}.")
    masker = text_masker(parameters.get("masker"))
    setting = Setting(model_of(model), target, at, baseline, seed, batch_size, masker)
    runner = Runner(lines, scorers, controls, seed)
    batches = chunked(inputs, chunk)
    with contextlib.ExitStack() as stack:
        room = Path(store) if store is not None else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pellucid-compare-")))
        held = Chunks.at(room, resume)
        stack.enter_context(watching(progress))
        asked = _run(setting, runner, batches, ids, target, held)
        found = _gathered(setting, runner, held, asked, groups, pictures)
        if store is not None:
            with Store.create(room) as kept:
                kept.write_json("comparison.json", found.to_dict())
        return found


@dataclass(frozen=True)
class Setting:
    """What every chunk's question has in common."""

    model: Model
    target: Any
    at: Any
    baseline: Any
    seed: int
    batch_size: Any
    masker: Any

    def ask(self, rows: Any, ids: Sequence[Any], target: Any, at: int) -> Question:
        """The question of one chunk, its own predictions looked up."""
        baseline = _rows_of(self.baseline, at, len(ids), rows)
        model, x, start = posed(self.model, rows, baseline, self.masker)
        q = ask(model, x, target, self.at, start, ids, self.seed, self.batch_size)
        if q.size != len(ids):
            raise UsageError(f"compare needs as many rows as ids; a chunk of {len(ids)} gave {q.size} rows.")
        return q.with_target(q.resolved_target())


@dataclass(frozen=True)
class Batches:
    """Inputs a few rows at a time; `total` is 0 where it is not known beforehand."""

    parts: Iterable[Any]
    total: int


def chunked(inputs: Any, size: int) -> Batches:
    """Inputs cut into chunks: tensors, arrays, trees, lists of pictures or texts, tables, datasets; an iterable of batches comes as it is."""
    if hasattr(inputs, "iloc"):
        return Batches((inputs.iloc[i : i + size] for i in range(0, len(inputs), size)), len(inputs))
    if isinstance(inputs, (str, Path)) or hasattr(inputs, "getbands"):
        return Batches([[inputs]], 1)
    if isinstance(inputs, (list, tuple)) and inputs and not any(isinstance(t, Tensor) for t in leaves(inputs)):
        return Batches((inputs[i : i + size] for i in range(0, len(inputs), size)), len(inputs))
    if not isinstance(inputs, (Tensor, Mapping, list, tuple)) and hasattr(inputs, "__getitem__") and hasattr(inputs, "__len__") and not hasattr(inputs, "dtype"):
        return Batches((_stacked([_only_x(inputs[k]) for k in range(i, min(i + size, len(inputs)))]) for i in range(0, len(inputs), size)), len(inputs))
    if hasattr(inputs, "__iter__") and not isinstance(inputs, (Tensor, Mapping, list, tuple)) and not hasattr(inputs, "dtype"):
        own = getattr(inputs, "dataset", None)
        return Batches((_only_x(b) for b in inputs), len(own) if own is not None and hasattr(own, "__len__") else 0)
    tree = torch.as_tensor(inputs) if hasattr(inputs, "dtype") and not isinstance(inputs, Tensor) else inputs
    total = rows_of(tree) or 0
    return Batches((take(tree, torch.arange(i, min(i + size, total))) for i in range(0, total, size)), total)


def _only_x(item: Any) -> Any:
    """A data set's (x, y) without its y."""
    return item[0] if isinstance(item, (tuple, list)) and len(item) == 2 else item


def _stacked(items: list[Any]) -> Any:
    return torch.stack(items) if all(isinstance(i, Tensor) for i in items) else items


def _rows_of(baseline: Any, start: int, count: int, rows: Any) -> Any:
    """A baseline that is given row by row, cut like the rows."""
    return baseline[start : start + count] if isinstance(baseline, Tensor) and isinstance(rows, Tensor) and baseline.ndim == rows.ndim and len(baseline) > 1 else baseline


def named_methods(methods: Sequence[Any] | Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Method]:
    """Methods by a label of their own, each with those shared parameters that it takes."""
    pairs = list(methods.items()) if isinstance(methods, Mapping) else [("", m) for m in ([methods] if isinstance(methods, str) else methods)]
    if not pairs:
        raise UsageError("compare needs at least one method; got none. `pellucid list methods` names them.")
    made, used = [], set[str]()
    for label, m in pairs:
        name, own = m if isinstance(m, tuple) else (m, {})
        if isinstance(name, str):
            known = catalogue.entries("methods")
            fields = {f.name for f in known[name].fields} if name in known else set()
            used |= fields & set(shared)
            name = catalogue.make("methods", name, **{k: v for k, v in shared.items() if k in fields} | own)
        if not isinstance(name, Method):
            raise UsageError(f"compare needs names of methods or Methods; got a {type(name).__name__}.")
        made.append((label, name))
    idle = set(shared) - used - ({"masker"} if text_masker(shared.get("masker")) is not None else set())
    if idle:
        raise UnknownName("parameter of these methods", sorted(idle)[0], sorted({f for _, m in made for f in m.parameters()}))
    return _labelled(made)


def _labelled(made: list[tuple[str, Method]]) -> dict[str, Method]:
    """The catalogue's name; where one is there twice, what sets it apart."""
    out: dict[str, Method] = {}
    names = [m.name for _, m in made]
    for label, m in made:
        other = {k: v for k, v in m.parameters().items() if any(k in o.parameters() and o.parameters()[k] != v for _, o in made if o.name == m.name)}
        text = label or (m.name if names.count(m.name) == 1 else f"{m.name} ({', '.join(f'{k} {v}' for k, v in other.items())})")
        if text in out:
            raise UsageError(f"compare needs every method once; {text} is there twice. Give them labels: methods={{'one': ..., 'other': ...}}.")
        out[text] = m
    return out


def named_metrics(metrics: Sequence[str | Metric]) -> dict[str, Metric]:
    """Metrics by their names."""
    made = [catalogue.make("metrics", m) if isinstance(m, str) else m for m in ([metrics] if isinstance(metrics, (str, Metric)) else metrics)]
    if not made:
        raise UsageError("compare needs at least one metric; got none. `pellucid list metrics` names them.")
    for m in made:
        if not isinstance(m, Metric):
            raise UsageError(f"compare needs names of metrics or Metrics; got a {type(m).__name__}.")
    return {m.name: m for m in made}


@dataclass(frozen=True)
class Asked:
    """What was asked over all chunks."""

    ids: tuple[Any, ...]
    told: dict[str, Any]
    count: int


def _run(setting: Setting, runner: Runner, batches: Batches, ids: Sequence[Any] | None, target: Any, held: Chunks) -> Asked:
    """Every chunk: looked up where it was finished before, computed and kept where not."""
    done, names, told, k = 0, list[Any](), dict[str, Any](), 0
    for k, rows in enumerate(batches.parts):
        n = _count(rows)
        own = _ids(rows, ids, done, n)
        report("compare", done, max(batches.total, done + n))
        with watching(_steady(done, max(batches.total, done + n))):
            q = setting.ask(rows, own, target[done : done + n] if isinstance(target, (list, Tensor)) and _by_row(target, batches.total) else target, done)
            try:
                key = runner.key(q)
                if not held.has(k, key):
                    held.keep(k, key, runner.chunk(q))
                told = told or provenance(q, Comparison())
            finally:
                q.close()
        names += own
        done += n
    if not done:
        raise UsageError("compare needs at least one row; the inputs are empty.")
    if ids is not None and len(ids) != done:
        raise UsageError(f"ids need one name a row; got {len(ids)} for {done} rows.")
    report("compare", done, done)
    return Asked(tuple(names), told, k + 1)


def _steady(done: int, total: int) -> Watcher:
    """What runs inside a chunk is no news of its own, but may be cancelled."""
    from ..core import progress

    outer = progress._watcher.get()
    return (lambda step: outer(Progress("compare", done, total))) if outer is not None else (lambda step: None)


def _by_row(target: Any, total: int) -> bool:
    return len(target) == total and total > 1


def _count(rows: Any) -> int:
    return len(rows) if isinstance(rows, (list, tuple)) and not any(isinstance(t, Tensor) for t in leaves(rows)) or hasattr(rows, "iloc") else rows_of(rows) or 0


def _ids(rows: Any, ids: Sequence[Any] | None, start: int, n: int) -> list[Any]:
    """The names of a chunk's rows: given, or the files' own, or their numbers."""
    if ids is not None:
        return list(ids[start : start + n]) + list(range(start + len(ids[start : start + n]), start + n))
    files = isinstance(rows, list) and all(isinstance(r, (str, Path)) for r in rows)
    return [str(r) if len(str(r)) <= 80 else f"{str(r)[:79]}…" for r in rows] if files else list(range(start, start + n))


def _gathered(setting: Setting, runner: Runner, held: Chunks, asked: Asked, groups: Sequence[Any] | None, pictures: int) -> Comparison:
    """One result from the chunks, read one after the other; pictures of the rows that are disputed most."""
    groups = tuple(groups) if groups is not None else asked.ids
    if len(groups) != len(asked.ids):
        raise UsageError(f"groups need one name a row; got {len(groups)} for {len(asked.ids)} rows.")
    parts = [held.read(k) for k in range(asked.count)]
    names = list(parts[0].lines)
    if all(parts[0].lines[n]["why"] and not parts[0].lines[n]["control"] for n in runner.methods):
        raise NotApplicable(f"No method could be compared. {next(iter(runner.methods))}: {parts[0].lines[next(iter(runner.methods))]['why']}")
    metrics = tuple(dict.fromkeys(m for p in parts for own in p.lines.values() for m in own["scores"]))
    lines = tuple(_line(n, runner, parts, metrics, groups) for n in names)
    agreement, alike = _agreement(parts, list(runner.methods))
    maps = _shown(held, asked, alike, parts, pictures)
    total = sum((c.cost + c.checks for c in lines), Cost()) + (shared := sum((Cost(**p.shared) for p in parts), Cost()))
    return Comparison(
        estimator="compare", parameters={"methods": [m.name for m in runner.methods.values()], "metrics": list(runner.metrics)}, target=tuple(dict.fromkeys(t for p in parts for t in p.targets)),
        notes=tuple(dict.fromkeys(n for p in parts for n in p.notes)), cost=total, provenance={**asked.told, "rows": len(asked.ids), "seed": setting.seed}, lines=lines,
        metrics=metrics, ids=asked.ids, groups=groups, names=tuple(names), agreement=agreement, alike=alike, shown=maps, shared=shared,
    )  # fmt: skip


def _line(name: str, runner: Runner, parts: list[Chunk], metrics: tuple[str, ...], groups: tuple[Any, ...]) -> Compared:
    own = [p.lines[name] for p in parts]
    scores = {m: tuple(v for p, o in zip(parts, own, strict=True) for v in o["scores"].get(m, [None] * p.rows)) for m in metrics}
    scores = {m: v for m, v in scores.items() if any(s is not None for s in v)}
    facts = [Facts(**f) for o in own for f in o["facts"]]
    judged = [judge(f, Cuts()) for f in facts]
    whole = judge_rows(facts, judged, groups, Cuts(), runner.seed) if facts and len(facts) == len(groups) else None
    method = runner.methods.get(name)
    cost, checks = (sum((Cost(**o[k]) for o in own), Cost()) for k in ("cost", "checks"))
    why = next((o["why"] for o in own if o["why"]), "")
    return Compared(
        name, method.name if method else "", method.parameters() if method else {}, method is None, scores, whole.verdict if whole else "", whole.reasons if whole else (),
        tuple(j.verdict for j in judged), cost, checks, why,
    )  # fmt: skip


def _agreement(parts: list[Chunk], methods: list[str]) -> tuple[Tensor, tuple[float | None, ...]]:
    """(K, K) means over rows, and a row's mean over pairs of methods."""
    every = torch.cat([p.agreement for p in parts]).double()
    names = list(parts[0].lines)
    own = [names.index(m) for m in methods]
    pairs = [(i, j) for a, i in enumerate(own) for j in own[a + 1 :]]
    alike = torch.stack([every[:, i, j] for i, j in pairs], 1).nanmean(1) if pairs else torch.full((len(every),), float("nan"))
    return every.nanmean(0), tuple(None if v != v else v for v in alike.tolist())


def _shown(held: Chunks, asked: Asked, alike: tuple[float | None, ...], parts: list[Chunk], most: int) -> tuple[Shown, ...]:
    """Rows that are drawn: those on which the methods agree least."""
    order = sorted(range(len(asked.ids)), key=lambda i: (alike[i] is None, alike[i] or 0.0))[:most]
    starts = [0]
    for p in parts:
        starts.append(starts[-1] + p.rows)
    out = []
    for i in order:
        k = max(k for k in range(len(parts)) if starts[k] <= i)
        maps, picture = held.drawn(k, i - starts[k])
        if maps:
            a = alike[i]
            out.append(Shown(str(asked.ids[i]), parts[k].targets[i - starts[k]], float("nan") if a is None else a, maps, picture, tuple(parts[k].parts[i - starts[k]]) if parts[k].parts else ()))
    return tuple(out)
