"""Estimators out of files: XGBoost's .ubj and .json, LightGBM's .txt, skops, and pickles where they are trusted."""

import importlib
import importlib.util
import json
import pickle
from pathlib import Path
from typing import Any

from ..core.errors import ModelError, UsageError
from ..core.model import Model
from ._boosted_trees import categories, lightgbm_trees
from ._ubjson import ubjson
from .trees import Trees
from .wrap import wrap

TEXT_FORMAT = 4
"""The newest of LightGBM's text formats that is known."""


def open_model(path: Path, trust: bool, **settings: Any) -> Model:
    """The model in a file; nothing in it is run unless `trust` says so."""
    if not path.is_file():
        raise UsageError(f"There is no model file {str(path)!r}.")
    suffix, note = path.suffix.lower(), ""
    if suffix in (".ubj", ".json"):
        net = _xgboost(path)
    elif suffix == ".txt":
        net = _lightgbm(path)
    elif suffix == ".skops":
        net, note = _skops(path, trust)
    else:
        net, note = _pickled(path, trust)
    model = wrap(net, name=settings.pop("name", None) or path.stem, spec=str(path), **settings)
    if suffix in (".ubj", ".json", ".txt") and (known := categories(net)):
        _with_categories(model, net, known, path)
    if note:
        model.notes.append(note)
    return model


def _library(name: str, path: Path) -> Any:
    if importlib.util.find_spec(name) is None:
        raise UsageError(f"{path.name} is read by the package {name!r}, which is not installed: pip install {name}.")
    return importlib.import_module(name)


def _xgboost(path: Path) -> Any:
    try:
        data = path.read_bytes()
        dump = ubjson(data) if path.suffix.lower() == ".ubj" else json.loads(data)
        version, objective = [int(v) for v in dump["version"]], dump["learner"]["objective"]["name"]
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{path.name} holds no model of XGBoost's, as booster.save_model('model{path.suffix}') writes it.") from None
    xgboost = _library("xgboost", path)
    if version[0] > int(xgboost.__version__.partition(".")[0]):
        raise UsageError(f"{path.name} was written by XGBoost {'.'.join(map(str, version))}; {xgboost.__version__} is installed, which does not know that format. Update it: pip install -U xgboost.")
    net = xgboost.XGBClassifier() if objective.startswith(("binary:logistic", "multi:")) else xgboost.Booster()
    try:
        net.load_model(path)
    except (xgboost.core.XGBoostError, TypeError, ValueError) as e:
        raise ModelError(f"XGBoost {xgboost.__version__} cannot load {path.name}: {_last(e)}") from None
    return net


def _lightgbm(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        lines = text.split("\n", 2)
        if lines[0].strip() != "tree" or not lines[1].startswith("version=v"):
            raise ValueError("no head")
        version = int(lines[1].removeprefix("version=v"))
    except (ValueError, IndexError):
        raise UsageError(f"{path.name} holds no model of LightGBM's, as booster.save_model('model.txt') writes it.") from None
    if version > TEXT_FORMAT:
        raise UsageError(f"{path.name} is of LightGBM's text format v{version}; formats up to v{TEXT_FORMAT} are known. Save it with LightGBM 4.")
    try:
        lightgbm_trees(text)
    except (ValueError, KeyError, IndexError):
        raise UsageError(f"{path.name} breaks off or is damaged: its trees cannot be read. Save the model again.") from None
    lightgbm = _library("lightgbm", path)
    try:
        return lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as e:
        raise ModelError(f"LightGBM {lightgbm.__version__} cannot load {path.name}: {_last(e)}") from None


def _skops(path: Path, trust: bool) -> tuple[Any, str]:
    skops = _library("skops", path) and importlib.import_module("skops.io")
    try:
        strange = skops.get_untrusted_types(file=path)
        if strange and not trust:
            raise UsageError(f"{path.name} holds types that skops does not trust: {', '.join(strange[:6])}{', ...' if len(strange) > 6 else ''}. If you made it yourself, say so: --trust.")
        return skops.load(path, trusted=strange), f"{path.name} was trusted with {', '.join(strange)}" if strange else ""
    except UsageError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, ImportError, OSError, importlib.import_module("zipfile").BadZipFile) as e:
        raise UsageError(f"{path.name} cannot be read as a skops file: {_last(e)}") from None


def _pickled(path: Path, trust: bool) -> tuple[Any, str]:
    if not trust:
        raise UsageError(f"{path.name} can run any code when it is read. Say --trust (trust=True) if you made it yourself, or save it as skops, .ubj (XGBoost) or .txt (LightGBM).")
    try:
        net = _library("joblib", path).load(path) if path.suffix.lower() == ".joblib" else pickle.loads(path.read_bytes())  # noqa: S301  trusted by name
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, ValueError, TypeError, KeyError) as e:
        raise UsageError(f"{path.name} cannot be read: {_last(e)}") from None
    return net, f"{path.name} was allowed to run code when it was read (trust)"


def _last(e: BaseException) -> str:
    """What a library said, in one line."""
    lines = [line.strip() for line in str(e).splitlines() if line.strip() and not line.strip().startswith(("Stack trace", "["))]
    return (lines or [str(e).strip() or type(e).__name__])[0][:300]


class AsCategories:
    """Columns of words as the categories that a booster was fitted on: a file's cells do not say that they are categories."""

    def __init__(self, known: dict[str, list[Any]]) -> None:
        self.known = known

    def transform(self, table: Any) -> Any:
        """The same table; unknown words become missing."""
        pandas = importlib.import_module("pandas")
        return table.assign(**{c: table[c].astype(pandas.CategoricalDtype(own)) for c, own in self.known.items() if c in table and not hasattr(table[c].dtype, "categories")})


def _with_categories(model: Any, net: Any, known: Any, path: Path) -> None:
    """A model that takes words for categories."""
    names = list(model.columns or ())
    if isinstance(known, dict):
        told = {names[j]: own for j, own in known.items() if own} if names else {}
    else:
        infos = next((line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("feature_infos=")), "").removeprefix("feature_infos=").split()
        at = [j for j, info in enumerate(infos) if not info.startswith("[")]
        told = {names[j]: own for j, own in zip(at, known, strict=True)} if names and len(at) == len(known) else {}
    if not told:
        return
    step, ask = AsCategories(told), model.function
    model.function, model.takes = (lambda table: ask(step.transform(table))), "frame"
    model.trees = Trees(net, model.name)
    model.trees.before = [step]
