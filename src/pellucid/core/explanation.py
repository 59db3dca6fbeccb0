"""An explanation: the one thing that every method gives. It keeps its numbers, its evidence, and how it came about."""

import dataclasses
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from .errors import NotApplicable, UsageError
from .evidence import Cost, Evidence, Reading
from .keeping import atomic, plain
from .players import Players
from .tree import Tree, leaves, paths

__all__ = ["Cost", "Evidence", "Explanation", "Reading"]

FORMAT = 1
VIEWS, SHAP = "pellucid.views.explanation", "pellucid.backends.shap_explanation"
"""Pictures, pages and other packages' results live on higher floors; they are named here as data and loaded when they are asked for."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why the model answered as it did: values shaped like what was explained, one set a row.

    `total` is the target at the input, `base` at the baseline; where a method is complete, `gap` is the sum of the
    values less `total - base`. `error` is the standard error of sampled values. Rules on operations say which share of the
    answer operations `absorbed`, and which is `unaccounted` for. Games keep their `players`: names, values and errors.
    Surrogates say how well they `fit`: R2 around the input.
    """

    values: Tree
    point: Tree
    method: str
    parameters: dict[str, Any]
    target: tuple[str, ...]
    total: Tensor
    cost: Cost
    at: str | None = None
    baseline: str = "0"
    seed: int = 0
    ids: tuple[Any, ...] = ()
    axes: tuple[str, ...] = ()
    names: dict[str, list[str]] = field(default_factory=dict)
    base: Tensor | None = None
    gap: Tensor | None = None
    error: Tree | None = None
    convergence: Tensor | None = None
    absorbed: Tensor | None = None
    unaccounted: Tensor | None = None
    players: Players | None = None
    fit: Tensor | None = None
    picture: Tensor | None = None
    predictions: tuple[tuple[tuple[str, float], ...], ...] = ()
    signed: bool = True
    evidence: Evidence | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    question: Any = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.total)

    # -- reading -----------------------------------------------------------------------------------------------------

    def by(self, axis: str) -> Tensor:
        """The values summed over all axes but the rows and `axis`: `.by("channel")`, `.by("column")`."""
        if not isinstance(self.values, Tensor):
            raise NotApplicable("by() needs one tensor of values; this explanation holds several. Use .values.")
        if axis not in self.axes:
            raise UsageError(f"by() needs one of the axes {', '.join(self.axes)}; got {axis!r}.")
        keep = {0, self.axes.index(axis)}
        drop = [i for i in range(self.values.ndim) if i not in keep]
        return self.values.sum(drop) if drop else self.values

    def heat(self) -> Tensor:
        """(B, H, W): the values summed over channels. For maps on a grid."""
        if not isinstance(self.values, Tensor) or self.values.ndim != 4:
            raise NotApplicable("A heat map needs values of shape (rows, channels, height, width).")
        return self.values.sum(1)

    @property
    def has_map(self) -> bool:
        """Whether the values lie on a grid that can be shown as a picture."""
        return isinstance(self.values, Tensor) and self.values.ndim == 4

    # -- showing -----------------------------------------------------------------------------------------------------

    def plot(self, row: int | None = None, kind: str = "auto") -> Any:
        """A matplotlib figure of a row: the views that fit it, or one of bar, beeswarm, force, map, network, overlay, tint, waterfall.

        Many rows of one table are shown together where no row is named; elsewhere the first one is.
        """
        return _views().figure(self, row, kind)

    def __rich__(self) -> Any:
        return importlib.import_module("pellucid.views.terminal").render(self)

    def _repr_html_(self) -> str:
        return str(_views().html(self))

    def __repr__(self) -> str:
        shape = [tuple(t.shape) for t in leaves(self.values)]
        verdict = f", {self.evidence.verdict}" if self.evidence else ""
        return f"Explanation({self.method}, {', '.join(dict.fromkeys(self.target))}, values {shape[0] if len(shape) == 1 else shape}{verdict})"

    # -- keeping -----------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Writes a picture (.png, .svg), a page (.html), or the explanation itself (.json with values, .safetensors)."""
        path = Path(path)
        suffix = path.suffix.lower()
        if not path.parent.is_dir():
            raise UsageError(f"save() needs a folder that exists; there is no {str(path.parent)!r}.")
        if suffix == ".safetensors":
            atomic(path, lambda p: save_file(self.tensors(), p, metadata={"pellucid": json.dumps(self.to_dict())}))
        elif suffix == ".json":
            whole = {**self.to_dict(), "tensors": {k: {"shape": list(t.shape), "dtype": _dtype(t), "data": t.double().reshape(-1).tolist()} for k, t in self.tensors().items()}}
            atomic(path, lambda p: Path(p).write_text(json.dumps(whole), encoding="utf-8"))
        elif suffix in (".png", ".svg", ".html"):
            _views().save(self, path)
        else:
            raise UsageError(f"save() knows .png, .svg, .html, .json and .safetensors; got {path.name!r}.")
        return path

    def to_shap(self) -> Any:
        """The same as a `shap.Explanation`, for that package's plots; `pel.from_shap` is the way back."""
        return importlib.import_module(SHAP).to_shap(self)

    @classmethod
    def load(cls, path: str | Path) -> "Explanation":
        """An explanation from .safetensors or .json; it has no live question any more."""
        path = Path(path)
        if not path.is_file():
            raise UsageError(f"There is no file {str(path)!r}.")
        try:
            return cls._read(path)
        except (SafetensorError, ValueError, KeyError, TypeError) as e:
            if isinstance(e, UsageError):
                raise
            raise UsageError(f"{path.name} is broken or no explanation of Pellucid's: {str(e).splitlines()[0] if str(e) else type(e).__name__}") from None

    @classmethod
    def _read(cls, path: Path) -> "Explanation":
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as f:
                text = (f.metadata() or {}).get("pellucid")
            if text is None:
                raise UsageError(f"{path.name} holds tensors but no explanation of Pellucid's.")
            return cls.from_parts(json.loads(text), load_file(path))
        if path.suffix == ".json":
            d = json.loads(path.read_text(encoding="utf-8"))
            if "tensors" not in d:
                raise UsageError(f"{path.name} holds no explanation with its values.")
            tensors = {k: torch.tensor(t["data"], dtype=torch.float64).to(getattr(torch, t["dtype"])).reshape(t["shape"]) for k, t in d.pop("tensors").items()}
            return cls.from_parts(d, tensors)
        raise UsageError(f"load() knows .safetensors and .json; got {path.name!r}.")

    def to_dict(self) -> dict[str, Any]:
        """All but the tensors, as plain data."""
        fields = ("method", "parameters", "target", "at", "baseline", "seed", "ids", "axes", "names", "predictions", "signed", "provenance")
        d: dict[str, Any] = {"format": FORMAT, **{k: plain(getattr(self, k)) for k in fields}}
        d["cost"] = dataclasses.asdict(self.cost)
        d["evidence"] = self.evidence.to_dict() if self.evidence else None
        d["players"] = self.players.to_dict() if self.players else None
        d["trees"] = {k: _skeleton(getattr(self, k)) for k in ("values", "point", "error")}
        d["total"] = [float(v) for v in self.total]
        d["base"], d["gap"] = ([float(v) for v in t] if t is not None else None for t in (self.base, self.gap))
        return d

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, on the CPU."""
        out = {f"{k}.{'.'.join(map(str, p))}" if p else k: t for k in ("values", "point", "error") if getattr(self, k) is not None for p, t in paths(getattr(self, k)) if isinstance(t, Tensor)}
        out |= {k: t for k in ("total", "base", "gap", "picture", "convergence", "absorbed", "unaccounted", "fit") if (t := getattr(self, k)) is not None}
        out |= self.players.tensors() if self.players else {}
        return {k: t.detach().cpu().contiguous().clone() for k, t in out.items()}

    @classmethod
    def from_parts(cls, d: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "Explanation":
        """Back from `to_dict` and `tensors`."""
        if d.get("format") != FORMAT:
            raise UsageError(f"This explanation was written in format {d.get('format')!r}; this Pellucid reads {FORMAT}.")
        trees: dict[str, Any] = {k: _fill(s, k, tensors) if (s := d["trees"][k]) is not None else None for k in ("values", "point", "error")}
        plain: dict[str, Any] = {k: d[k] for k in ("method", "parameters", "at", "baseline", "seed", "names", "signed", "provenance")}
        lists: dict[str, Any] = {k: tuple(d[k]) for k in ("target", "axes")} | {"ids": tuple(tuple(i) if isinstance(i, list) else i for i in d["ids"])}
        predictions = tuple(tuple((n, p) for n, p in row) for row in d["predictions"])
        own: dict[str, Any] = {k: tensors.get(k) for k in ("base", "gap", "picture", "convergence", "absorbed", "unaccounted", "fit")}
        evidence = Evidence.from_dict(d["evidence"]) if d["evidence"] else None
        own["players"] = Players.from_parts(d.get("players"), tensors)
        return cls(**trees, **plain, **lists, **own, total=tensors["total"], predictions=predictions, cost=Cost(**d["cost"]), evidence=evidence)

    def with_(self, **changes: Any) -> "Explanation":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


def _views() -> Any:
    return importlib.import_module(VIEWS)


def _dtype(t: Tensor) -> str:
    return str(t.dtype).removeprefix("torch.")


def _skeleton(tree: Tree) -> Any:
    """The shape of a tree of tensors as JSON: null for none, "" for a single tensor."""
    if tree is None:
        return None
    if isinstance(tree, Tensor):
        return ""
    if isinstance(tree, Mapping):
        return {str(k): _skeleton(v) for k, v in tree.items()}
    return [_skeleton(v) for v in tree] if isinstance(tree, (tuple, list)) else None


def _fill(skeleton: Any, name: str, tensors: Mapping[str, Tensor]) -> Tree:
    if skeleton == "":
        return tensors[name]
    if isinstance(skeleton, dict):
        return {k: _fill(s, f"{name}.{k}", tensors) for k, s in skeleton.items()}
    return tuple(_fill(s, f"{name}.{i}", tensors) for i, s in enumerate(skeleton or []))
