"""Small explanations of every shape, with evidence, for tests of what keeps and shows them."""

from typing import Any

import torch

from pellucid.core.explanation import Cost, Evidence, Explanation, Reading

NASTY = '<script>alert("x")</script>'


def reading(**changes: Any) -> Reading:
    told: dict[str, Any] = {
        "name": "mask-fidelity", "title": "Hiding what it marks", "value": 0.31, "rows": (0.31, 0.3), "unit": "r", "verdict": "good", "sentence": "Hiding it lowers the answer.",
        "meaning": "Correlation over masks.", "cost": Cost(128, 0, 1.4), "curve": {"x": [0.0, 0.5, 1.0], "y": [-0.2, 0.5, 0.9], "xlabel": "kept", "ylabel": "answer"},
    }  # fmt: skip
    return Reading(**{**told, **changes})


def evidence(verdict: str = "supported", rows: int = 2) -> Evidence:
    readings = (
        reading(), reading(name="gap", title="Values that add up", verdict="fact", curve=None, cost=Cost()),
        reading(name="stability", title="Moves with noise", verdict="not applicable", value=None, rows=(None,) * rows, sentence="It needs the method.", curve=None),
        reading(name="class", title=f"Far class {NASTY}", verdict="bad", curve=None), reading(name="conv", title="Enough work", verdict="doubtful", curve=None),
    )  # fmt: skip
    return Evidence(verdict, ("Hiding what it marks lowers the answer.",), readings, "basic", (verdict,) * rows, cost=Cost(128, 3, 2.0))


def explanation(values: Any, picture: bool = False, **changes: Any) -> Explanation:
    rows = len(values) if isinstance(values, torch.Tensor) else 2
    told: dict[str, Any] = {
        "values": values, "point": values, "method": "integrated-gradients", "parameters": {"steps": 8, "tol": 0.1}, "target": ("espresso (967)",) * rows, "total": torch.ones(rows),
        "cost": Cost(8, 8, 0.5, 4, "4*2"), "ids": tuple(f"sample:photo{i}" for i in range(rows)), "picture": torch.randint(0, 255, (rows, 32, 32, 3), dtype=torch.uint8) if picture else None,
        "axes": ("row", "channel", "height", "width")[: values.ndim] if isinstance(values, torch.Tensor) else (), "base": torch.zeros(rows), "gap": torch.zeros(rows),
        "predictions": ((("espresso", 0.7), (f"cup {NASTY}", 0.2)),) * rows, "evidence": evidence(rows=rows),
        "provenance": {"model": "net", "notes": [f"a note {NASTY}"], "command": "pellucid explain 'a b.jpg'", "code": "e = pel.explain(model, x)", "created": "2026-01-02T03:04:05+00:00"},
    }  # fmt: skip
    return Explanation(**{**told, **changes})


def photo(rows: int = 1, **changes: Any) -> Explanation:
    values = torch.randn(rows, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    values[:, :, 4:12, 4:12] += 3
    values[:, :, 20:28, 18:30] -= 3
    return explanation(values, picture=True, **changes)
