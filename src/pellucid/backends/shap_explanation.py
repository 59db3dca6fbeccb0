"""Explanations to and from the package shap: for its plots, and to bring maps made there under the same evidence and views."""

import importlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import NotApplicable, UnknownName, UsageError
from ..core.evidence import Cost
from ..core.explanation import Explanation
from ..core.players import Players, padded

# -- to shap --------------------------------------------------------------------------------------------------------------


def to_shap(e: Explanation) -> Any:
    """The same explanation as a `shap.Explanation`: values, base values, data, names of features and outputs, standard errors.

    Players become features; rows that differ in their players (words, superpixels) become ragged arrays, as shap has them for texts. Maps go
    channels last. What shap has no place for is left behind: evidence, provenance, interactions, and which pixels belong to a player.
    """
    shap = _shap()
    told = _players(e, e.players) if e.players is not None else _tensor(e)
    names = list(dict.fromkeys(e.target))
    return shap.Explanation(
        **told, base_values=e.base.detach().cpu().double().numpy() if e.base is not None else None, output_names=names[0] if len(names) == 1 else " / ".join(names), compute_time=e.cost.seconds,
    )  # fmt: skip


def _players(e: Explanation, own: Players) -> dict[str, Any]:
    cells = own.cells() if "column" in e.axes else None
    if cells is not None and len({tuple(n for n, _ in row) for row in cells}) == 1:
        told = np.array([[_cell(c) for _, c in row] for row in cells], dtype=object)
        return {"values": _array(own.values), "data": told, "feature_names": [n for n, _ in cells[0]], "error_std": None if own.error is None else _array(own.error)}
    if len(set(own.names)) > 1:
        counts = [len(n) for n in own.names]
        return {
            "values": _ragged([v[:n] for v, n in zip(_array(own.values), counts, strict=True)]), "data": _ragged([np.array(n, dtype=object) for n in own.names]),
            "feature_names": [list(n) for n in own.names], "error_std": _ragged([v[:n] for v, n in zip(_array(own.error), counts, strict=True)]) if own.error is not None else None,
        }  # fmt: skip
    table = _array(e.point) if isinstance(e.point, Tensor) and "column" in e.axes and e.point.shape == own.values.shape else None
    words = np.array([list(n) for n in own.names], dtype=object) if table is None and "column" not in e.axes else None
    return {"values": _array(own.values), "data": table if table is not None else words, "feature_names": list(own.names[0]), "error_std": None if own.error is None else _array(own.error)}


def _tensor(e: Explanation) -> dict[str, Any]:
    if not isinstance(e.values, Tensor):
        raise NotApplicable("shap needs one tensor of values; this explanation holds several. Convert its parts by themselves.")
    error = e.error if isinstance(e.error, Tensor) else None
    names = e.names.get(e.axes[1]) if e.values.ndim == 2 and len(e.axes) == 2 else None
    turn = (lambda t: _array(t).transpose(0, 2, 3, 1)) if e.values.ndim == 4 else _array
    same = isinstance(e.point, Tensor) and e.point.shape == e.values.shape
    data = e.picture.cpu().numpy() if e.picture is not None else turn(e.point) if same else None
    return {"values": turn(e.values), "data": data, "feature_names": names, "error_std": turn(error) if error is not None else None}


# -- from shap ------------------------------------------------------------------------------------------------------------


def from_shap(found: Any, output: int | str | None = None) -> Explanation:
    """A `shap.Explanation` as one of ours: to read, keep, plot and report.

    Its features become players with their names and standard errors; `output` picks one, by number or name, where it explains several. It has no
    live question: for evidence, give its values to `pel.assess` together with the model.
    """
    values, base = _one_output(found, output)
    rows = _rows(values, base)
    if not all(np.isfinite(r).all() for r in rows):
        raise UsageError("from_shap needs finite values; these hold NaN or infinity.")
    base = np.broadcast_to(np.asarray(np.nan if base is None else base, dtype=np.float64).reshape(-1), (len(rows),)).copy()
    target = _target(found, output)
    total = base + np.array([np.asarray(r, dtype=np.float64).sum() for r in rows])
    made = _maps(found, rows) if rows[0].ndim == 3 else _table(found, rows)
    known = bool(np.isfinite(base).all())
    seconds = getattr(found, "compute_time", None)
    return Explanation(
        **made, method="shap", parameters={}, target=(target,) * len(rows), total=torch.from_numpy(np.where(np.isfinite(total), total, np.nan)), base=torch.from_numpy(base) if known else None,
        gap=torch.zeros(len(rows), dtype=torch.float64) if known else None, cost=Cost(seconds=float(seconds) if isinstance(seconds, (int, float)) else 0.0), baseline="none",
        ids=tuple(range(len(rows))), provenance={"notes": ["made by shap; its total is its base value and its values together"]},
    )  # fmt: skip


def _one_output(found: Any, output: int | str | None) -> tuple[Any, Any]:
    """(values, base values) of one output."""
    values, base = found.values, found.base_values
    if not _many(found):
        if output is not None:
            raise UsageError(f"from_shap needs output only where several are explained; this one explains one. Leave output={output!r} out.")
        return values, base
    names = _names(found)
    count = np.shape(_first(values))[-1]
    if base is not None and np.shape(base)[-1:] != (count,):
        raise UsageError(f"from_shap needs one base value for each of {count} outputs; got shape {np.shape(base)}. Interactions cannot be read.")
    if output is None:
        raise UsageError(f"from_shap needs output: which of the {count} outputs is meant, {', '.join(map(str, names or range(min(count, 5))))}{' …' if not names and count > 5 else ''}?")
    if isinstance(output, str) and output not in names:
        raise UnknownName("output of the shap explanation", output, names)
    at = names.index(output) if isinstance(output, str) else output
    if not -count <= at < count:
        raise UsageError(f"from_shap needs an output between 0 and {count - 1}; got {output}.")
    picked = _ragged([v[..., at] for v in values]) if _is_ragged(values) else np.asarray(values)[..., at]
    return picked, None if base is None else np.asarray(base)[..., at]


def _many(found: Any) -> bool:
    """Whether the last axis of the values is one of outputs: base values have it too, or the data lack it."""
    first, base, data = _first(found.values), found.base_values, found.data
    rows = np.ndim(found.values) if not _is_ragged(found.values) else 1 + np.ndim(first)
    if _is_ragged(found.values):
        return bool(np.ndim(first) > 1)
    if data is not None and not _is_ragged(data) and np.ndim(data) == rows:
        return False
    if data is not None and not _is_ragged(data) and np.ndim(data) == rows - 1:
        return True
    return base is not None and np.ndim(base) > 0 and rows > 1 and np.shape(base)[-1] == np.shape(found.values)[-1] and np.ndim(base) + (rows == 2) == 2


def _rows(values: Any, base: Any) -> list[Any]:
    """One array of values a row; a single row may come without its axis."""
    if _is_ragged(values):
        return [np.asarray(v, dtype=np.float64) for v in values]
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 1 or (array.ndim == 3 and np.ndim(base) == 0):
        array = array[None]
    if array.ndim not in (2, 4) or not array.size:
        raise UsageError(f"from_shap needs values of shape (rows, features) or (rows, height, width, channels); got {np.shape(values)}. Interactions cannot be read.")
    return list(array)


def _table(found: Any, rows: list[Any]) -> dict[str, Any]:
    counts = [len(r) for r in rows]
    most = max(counts)
    data = _data(found, len(rows))
    texts = data if data is not None and all(isinstance(c, str) for r in data for c in r) else None
    names = tuple(tuple(_feature_names(found, i, n, texts[i] if texts else None)) for i, n in enumerate(counts))
    cells = torch.full((len(rows), most), float("nan"), dtype=torch.float64)
    if data is not None and not texts:
        told = [[_number(c) for c in r] for r in data]
        cells = torch.tensor(told, dtype=torch.float64)
        names = tuple(tuple(n if _number(c) == _number(c) or c != c else f"{n} = {c}" for n, c in zip(own, r, strict=True)) for own, r in zip(names, data, strict=True))
    wide = _wide(rows, most)
    error = getattr(found, "error_std", None)
    errors = _wide([np.asarray(v, dtype=np.float64) for v in (error if _is_ragged(error) or np.ndim(error) > 1 else [error])], most) if error is not None else None
    axis = "token" if texts else "column"
    return {"values": wide, "point": torch.ones_like(wide) if texts else cells, "players": Players(names, wide, errors), "error": errors, "axes": ("row", axis)}


def _maps(found: Any, rows: list[Any]) -> dict[str, Any]:
    values = torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).contiguous()
    data = found.data
    point, picture = torch.zeros_like(values), None
    if data is not None and np.ndim(data) in (3, 4):
        seen = np.asarray(data, dtype=np.float64).reshape(-1, *np.shape(data)[-3:])
        point = torch.from_numpy(seen).permute(0, 3, 1, 2).contiguous()
        if seen.shape[3] in (1, 3) and seen.min() >= 0 and seen.max() <= 255:
            pixels = torch.from_numpy((seen if seen.max() > 1 else seen * 255).round().astype(np.uint8))
            picture = pixels.expand(-1, -1, -1, 3).contiguous()
    return {"values": values, "point": point, "picture": picture, "axes": ("row", "channel", "height", "width")}


def _feature_names(found: Any, row: int, count: int, words: Any) -> list[str]:
    """The names of one row's features: shap's own, its words, or their numbers."""
    names = getattr(found, "feature_names", None)
    if names is not None and len(names) and not isinstance(names[0], str) and np.ndim(names[0]) == 1:
        names = names[row]
    if names is not None and len(names) == count:
        return [str(n) for n in names]
    return [str(w) for w in words] if words is not None else [f"column {j}" for j in range(count)]


def _data(found: Any, rows: int) -> list[list[Any]] | None:
    """What every feature held, row by row; None where that is not told, or told otherwise than the values."""
    data = found.data
    if data is None:
        return None
    told = [np.asarray(d, dtype=object).reshape(-1).tolist() for d in (data if _is_ragged(data) or np.ndim(data) > 1 else [data])]
    counts = [len(np.asarray(v)) for v in (found.values if rows > 1 or _is_ragged(found.values) or np.ndim(found.values) > 1 else [found.values])]
    return told if [len(t) for t in told] == counts else None


def _target(found: Any, output: int | str | None) -> str:
    if isinstance(output, str):
        return output
    names = _names(found)
    if output is not None:
        return f"{names[output]} ({output % len(names)})" if len(names) > output else f"output {output}"
    return names[0] if len(names) == 1 else "the output"


def _names(found: Any) -> list[str]:
    names = getattr(found, "output_names", None)
    if names is None:
        return []
    return [names] if isinstance(names, str) else [str(n) for n in names]


# -- arrays ---------------------------------------------------------------------------------------------------------------


def _shap() -> Any:
    try:
        return importlib.import_module("shap")
    except ModuleNotFoundError:
        raise UsageError("to_shap needs the package shap. Install the extra: pip install 'pellucid[shap]'.") from None


def _array(t: Any) -> Any:
    return t.detach().cpu().double().numpy()


def _cell(text: str) -> float | str:
    """A cell of a mixed table: a number where it is one."""
    number = _number(text)
    return text if number != number else number


def _number(cell: Any) -> float:
    """A cell as a number; NaN where it is none."""
    try:
        return float(cell)
    except (TypeError, ValueError):
        return float("nan")


def _ragged(rows: list[Any]) -> Any:
    """An array whose elements are arrays, as shap keeps rows of unlike length."""
    out = np.empty(len(rows), dtype=object)
    for i, r in enumerate(rows):
        out[i] = r
    return out


def _is_ragged(values: Any) -> bool:
    """Whether values are a list of arrays rather than one array."""
    if isinstance(values, np.ndarray) and (values.dtype != np.dtype(object) or values.ndim != 1):
        return False
    return isinstance(values, (list, tuple, np.ndarray)) and len(values) > 0 and np.ndim(values[0]) > 0


def _first(values: Any) -> Any:
    return values[0] if _is_ragged(values) else values


def _wide(rows: list[Any], most: int) -> Tensor:
    """Rows of unlike length as one tensor, filled up with zeros."""
    return torch.cat([padded(torch.from_numpy(np.asarray(r, dtype=np.float64))[None], most) for r in rows])
