"""Whole tables on the command line: how one is read as a model takes it, what options go with it, and how what was learnt is kept."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import UsageError
from . import inputs

if TYPE_CHECKING:
    from ..core.estimator import Fitted
    from ..core.model import Model


def model_of(args: argparse.Namespace) -> "Model":
    """The model that is named, as tables are put to it."""
    from ..backends.load import load

    return load(args.model, args.weights, args.trust, **({"takes": args.takes} if args.takes else {}))


def check_table(path: str) -> None:
    """Refuses what is no table before anything slow is loaded."""
    if not path.lower().endswith(inputs.TABLES):
        raise UsageError(f"TABLE needs to be a file that ends in {' or '.join(inputs.TABLES)}; got {path!r}.")
    if not Path(path).is_file():
        raise UsageError(f"There is no table {path!r}.")


def narrowed(table: inputs.Table, model: "Model", drop: Sequence[str]) -> inputs.Table:
    """The columns that the model takes, in its order; where it does not say, all but those that are dropped."""
    table = table.without(drop)
    return table.only(model.columns) if model.columns is not None else table


def taken(table: inputs.Table, model: "Model") -> tuple[Any, tuple[str, ...]]:
    """All rows as the model takes them - an array of numbers, or a DataFrame - and the same in Python."""
    if getattr(model, "takes", "") == "frame" or table.numbers() is None:
        told = f"table = pd.read_csv({str(table.path)!r}, sep={table.mark!r})[{table.columns!r}]"
        return table.frame(), ("import pandas as pd", told)
    import numpy as np

    model.columns = table.columns
    dtype = np.float32 if not hasattr(model, "takes") else np.float64
    told = f"table = {inputs.loaded(table)}" + (".astype('float32')" if dtype is np.float32 else "")
    return np.array(table.numbers(), dtype=dtype), ("import numpy as np", told)


def kinds(pairs: list[str]) -> dict[str, str]:
    """`zip=category year=number` as a mapping; a column's name may hold anything but "="."""
    out = {}
    for pair in pairs:
        name, sign, kind = pair.rpartition("=")
        if not sign or not name:
            raise UsageError(f"--kind needs column=kind, such as zip=category; got {pair!r}.")
        out[name] = kind
    return out


def keep(found: "Fitted", out: Path, name: str) -> dict[str, str]:
    """Writes the picture, the page and the numbers into a store; gives their paths."""
    from ..run.store import Store
    from ..views.fitted import image_bytes, page

    files = {"picture": f"{name}.png", "numbers": f"{name}.json", "report": "report.html"}
    with Store.create(out) as store:
        store.write(files["picture"], image_bytes(found))
        store.write_json(files["numbers"], found.to_dict())
        store.write(files["report"], page(found))
    return {what: str(out / file) for what, file in files.items()}


def code(args: argparse.Namespace, lines: tuple[str, ...], call: str, told: dict[str, Any]) -> str:
    """The same question in Python: `call` is what is called with the model and the table."""
    settings = {k: v for k, v in (("weights", args.weights), ("trust", args.trust), ("takes", args.takes)) if v}
    load = ", ".join([repr(args.model), *(f"{k}={v!r}" for k, v in settings.items())])
    words = ", ".join(f"{k}={v!r}" for k, v in told.items() if v not in (None, {}))
    body = "\n".join(lines)
    return f"import pellucid as pel\n\nmodel = pel.load({load})\n{body}\nfound = {call}(model, table, {words})"
