"""A chunk of a comparison: every method and control on a few rows, computed once and kept as one file."""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from .. import __version__
from ..core.agreement import agreement
from ..core.card import Card
from ..core.errors import Cancelled, CannotComplete, NotApplicable
from ..core.evidence import Cost
from ..core.explanation import Explanation
from ..core.hashing import hashed
from ..core.procedure import Method, Metric, Values
from ..core.provenance import describe, input_hash
from ..core.question import Question, Samples
from ..core.tree import leaves
from ..metrics._controls import controls, drawn
from ..metrics._evidence import facts_of, joined
from ..metrics._pool import Pool
from ..metrics._subject import Grid, Subject, subject
from ..metrics._verdict import Cuts
from ..metrics.class_dependence import ClassDependence
from ..metrics.convergence import Convergence
from ..metrics.mask_fidelity import MaskFidelity, Tested
from .files import put
from .store import MARK, SCHEMA, check_writable, to_json

SIDE = 112
"""Pixels a side of a map that is kept for drawing; of the picture twice as many."""


@dataclass(frozen=True)
class Chunk:
    """What came of some rows: a line's scores, facts, costs and refusals by its name, and how alike the maps are."""

    rows: int
    lines: dict[str, dict[str, Any]]
    targets: list[str]
    shared: dict[str, Any]
    notes: list[str]
    parts: list[list[str]]
    agreement: Tensor
    """(rows, K, K) rank correlations, NaN where two maps do not lie on one grid."""
    maps: dict[str, Tensor] = field(default_factory=dict)
    picture: Tensor | None = None


class Chunks:
    """Finished chunks in a directory. Each is a file that is whole or not there, and names what it was computed from."""

    def __init__(self, room: Path) -> None:
        self.room = room / "chunks"

    @classmethod
    def at(cls, room: Path, resume: bool) -> "Chunks":
        """A new or an earlier run's directory; one that holds other things is refused."""
        check_writable(room)
        made = cls(room)
        if not resume and (room / MARK).is_file():
            shutil.rmtree(made.room, ignore_errors=True)
        made.room.mkdir(parents=True, exist_ok=True)
        put(room / MARK, to_json({"pellucid": "results", "schema": SCHEMA}).encode())
        return made

    def _path(self, k: int) -> Path:
        return self.room / f"{k:06d}.safetensors"

    def has(self, k: int, key: str) -> bool:
        """Whether a chunk was finished for this very question."""
        return self._path(k).is_file() and self._told(k).get("key") == key

    def keep(self, k: int, key: str, chunk: Chunk) -> None:
        """Keeps a finished chunk."""
        told = {"key": key, **{f: getattr(chunk, f) for f in ("rows", "lines", "targets", "shared", "notes", "parts")}}
        tensors = {"agreement": chunk.agreement, **{f"map.{i}": m for i, m in enumerate(chunk.maps.values())}} | ({"picture": chunk.picture} if chunk.picture is not None else {})
        put(self._path(k), save({n: t.contiguous() for n, t in tensors.items()}, metadata={"pellucid": json.dumps({**told, "maps": list(chunk.maps)})}))

    def read(self, k: int) -> Chunk:
        """A chunk's numbers, without its maps and pictures."""
        told = self._told(k)
        with safe_open(self._path(k), framework="pt") as f:
            return Chunk(**{n: told[n] for n in ("rows", "lines", "targets", "shared", "notes", "parts")}, agreement=f.get_tensor("agreement"))

    def drawn(self, k: int, row: int) -> tuple[dict[str, Tensor], Tensor | None]:
        """One row's maps by name, and its picture."""
        told = self._told(k)
        with safe_open(self._path(k), framework="pt") as f:
            maps = {name: f.get_slice(f"map.{i}")[row].float() for i, name in enumerate(told["maps"])}
            return maps, f.get_slice("picture")[row] if "picture" in f.keys() else None  # noqa: SIM118 - a file's keys, no mapping

    def _told(self, k: int) -> dict[str, Any]:
        try:
            with safe_open(self._path(k), framework="pt") as f:
                told: dict[str, Any] = json.loads((f.metadata() or {}).get("pellucid", "{}"))
        except (SafetensorError, ValueError):
            return {}
        return told


@dataclass(frozen=True)
class Runner:
    """What is done with every chunk."""

    methods: Mapping[str, Method]
    metrics: Mapping[str, Metric]
    controls: bool
    seed: int

    def key(self, q: Question) -> str:
        """A name for the chunk's answer: model, rows, targets, baseline, methods, metrics, version."""
        base = input_hash(q.baseline.parts) if isinstance(q.baseline, Samples) else q.baseline if isinstance(q.baseline, (int, float, str)) else input_hash(q.baseline)
        told = [__version__, q.model.name, q.model.spec, q.model.digest(), input_hash(q.x), q.ids, q.target_names(), str(q.at), base, q.seed, repr(q.model.features(q.x)),
                [(n, m.name, m.parameters()) for n, m in self.methods.items()], [(m.name, m.parameters()) for m in self.metrics.values()], self.controls]  # fmt: skip
        return hashed([torch.tensor(list(repr(told).encode()), dtype=torch.uint8)])

    def chunk(self, q: Question) -> Chunk:
        """Every line on these rows. A method that does not apply says why, and the others go on."""
        lines, tested, notes = dict[str, dict[str, Any]](), dict[str, Subject](), list[str]()
        pools = dict[Grid, Pool]()
        shared = Cost()
        for name, method in self.methods.items():
            try:
                e = method(q)
            except Cancelled:
                raise
            except (NotApplicable, CannotComplete) as why:
                lines[name] = _line(False, q.size, why=str(why))
                continue
            s = tested[name] = subject(q, e, method)
            lines[name], opened = self._scored(s, pools, False)
            shared = shared + opened
            notes += e.provenance["notes"]
        for name, s in (self._controls(q, [t.grid for t in tested.values()]) if self.controls else {}).items():
            tested[name] = s
            lines[name], opened = self._scored(s, pools, True)
            shared = shared + opened
        maps = {n: small for n, s in tested.items() if (small := _small(s)) is not None}
        picture = next((p for s in tested.values() if (p := s.e.picture) is not None), None)
        parts = [list(p) for p in q.model.features(q.x) or ()]
        told = [n for n in dict.fromkeys(notes) if "seconds" not in n]
        return Chunk(q.size, lines, list(q.target_names()), asdict(shared), told, parts, _alike(q.size, list(lines), tested), maps, None if picture is None else _thumbnail(picture))

    def _scored(self, s: Subject, pools: dict[Grid, Pool], control: bool) -> tuple[dict[str, Any], Cost]:
        """A line's scores on every metric, and what masks were asked on the way."""
        scores, cuts, checks, shared, found, changed = dict[str, list[float | None]](), Cuts(), Cost(), Cost(), [Tested()] * s.size, None
        for name, metric in self.metrics.items():
            if isinstance(metric, MaskFidelity):
                if s.grid.kind:
                    found, opened = metric.measure(s, pools.setdefault(s.grid, Pool(s.q, s.grid)) if s.grid not in pools else pools[s.grid])
                    shared = shared + opened
                else:
                    found = [Tested(why=s.grid.why)] * s.size
                scores |= {name: [t.r for t in found], f"{name}-elsewhere": [t.z for t in found], f"{name}-beyond": [t.add for t in found]}
            elif isinstance(metric, ClassDependence):
                changed = metric.read(s, cuts)
                checks = checks + changed.cost
                scores |= {changed.name: list(changed.rows)} if changed.rows else {}
            else:
                scores[name], spent = _score(metric, s)
                checks = checks + spent
        facts = []
        if any(isinstance(m, MaskFidelity) for m in self.metrics.values()):
            steps = Convergence().read(s, cuts)
            facts = [asdict(joined(facts_of(s, i, changed, steps), t)) for i, t in enumerate(found)]
        return _line(control, s.size, scores, facts, s.e.cost, checks), shared

    def _controls(self, q: Question, grids: list[Grid]) -> dict[str, Subject]:
        """Maps that know nothing of the model, on the grid of the first method that has one."""
        grid = next((g for g in grids if g.kind), None)
        if grid is None:
            return {}
        made = {"random": drawn(q, grid), **controls(q, grid)}
        return {name: _elsewhere(q, grid, name, maps) for name, maps in made.items()}


NOTHING = Cost()


def _line(
    control: bool, rows: int, scores: Mapping[str, list[float | None]] | None = None, facts: list[dict[str, Any]] | None = None, cost: Cost = NOTHING, checks: Cost = NOTHING, why: str = "",
) -> dict[str, Any]:
    clean = {m: [None if v is None or v != v else float(v) for v in own] for m, own in (scores or {}).items()}
    return {"control": control, "rows": rows, "scores": clean, "facts": facts or [], "cost": asdict(cost), "checks": asdict(checks), "why": why}


def _score(metric: Metric, s: Subject) -> tuple[list[float | None], Cost]:
    """Any other metric's scores a row; none where it does not apply."""
    began = time.perf_counter()
    try:
        got: list[float | None] = [float(v) for v in metric(s.e).values]
    except Cancelled:
        raise
    except (NotApplicable, CannotComplete):
        got = [None] * s.size
    return got, Cost(seconds=time.perf_counter() - began)


def _elsewhere(q: Question, grid: Grid, name: str, maps: Tensor) -> Subject:
    """A map as an explanation that no method made."""
    point = leaves(q.point)[0].detach().cpu()
    values = maps[:, None] if maps.ndim == 3 else maps if point.ndim == 2 else maps.unsqueeze(3 - grid.axis).expand(point.shape) / point.shape[3 - grid.axis]
    found = Values(values.to(point.dtype), signed=name == "random")
    e = Explanation(values=found.values, method=name, parameters={}, total=q.target_values(), cost=Cost(), question=q.unplanned(), **describe(q, found, Card(title=name, paper="")))
    return Subject(q, e.with_(signed=name == "random"), None, grid)


def _alike(rows: int, names: list[str], tested: Mapping[str, Subject]) -> Tensor:
    """(rows, K, K) rank correlations between maps on one grid; of magnitudes where one of the two has no signs."""
    out = torch.full((rows, len(names), len(names)), float("nan"))
    maps = {n: s.maps() for n, s in tested.items()}
    for i, a in enumerate(names):
        for j, b in enumerate(names[:i + 1]):
            if a in maps and b in maps and maps[a].shape == maps[b].shape:
                both = tested[a].e.signed and tested[b].e.signed
                out[:, i, j] = out[:, j, i] = (agreement(maps[a], maps[b]) if both else agreement(maps[a].abs(), maps[b].abs())).float()
    return out


def _small(s: Subject) -> Tensor | None:
    """(rows, ...) maps for drawing, each a share of its own 99th percentile of magnitudes."""
    if s.e.has_map:
        heat = s.e.heat().detach().cpu().float()
        size = tuple(min(SIDE, d) for d in heat.shape[1:])
        maps = functional.adaptive_avg_pool2d(heat[:, None], (size[0], size[1]))[:, 0]
    elif s.grid.kind:
        maps = s.maps().float()
    else:
        return None
    most = maps.abs().flatten(1).quantile(0.99 if s.e.has_map else 1.0, dim=1)
    largest = maps.abs().flatten(1).amax(1)
    scale = torch.where(most > 0, most, largest).clamp_min(1e-30)
    return (maps / scale.reshape(-1, *[1] * (maps.ndim - 1))).clamp(-1, 1).half()


def _thumbnail(picture: Tensor) -> Tensor:
    """(rows, h, w, 3) bytes at most twice `SIDE` a side."""
    size = tuple(min(2 * SIDE, d) for d in picture.shape[1:3])
    if size == tuple(picture.shape[1:3]):
        return picture.cpu()
    return functional.adaptive_avg_pool2d(picture.permute(0, 3, 1, 2).float().cpu(), (size[0], size[1])).round().byte().permute(0, 2, 3, 1)
