"""The options of `pellucid effects`, with help that teaches."""

import argparse

from .table_options import about_tables
from .words import number_or_name, plan

EFFECTS = """\
examples:
  the columns that move the answer most, and how:
    pellucid effects rows.csv --model mymod:pipeline
  named columns, and two of them together:
    pellucid effects rows.csv --model mymod:pipeline --columns age,income,age:income
  groups of rows compared - also by a column that the model does not take:
    pellucid effects rows.csv --model mymod:pipeline --columns age --by sex
  the mean answer and the rows' own curves, of a class, with a finer grid:
    pellucid effects rows.csv --model mymod:pipeline --method partial-dependence --target yes --set grid=40 rows=2000

OUT holds effects.png, report.html (one file, works offline) and effects.json with every point, its standard error and how many rows lie near.
Accumulated local effects ask about rows near those that are there; partial dependence sets a column in all rows, also where that never occurs.
`pellucid list effects` names the methods, `pellucid show NAME` their parameters and when they mislead.
"""


def fill(sub: argparse.ArgumentParser) -> None:
    """Puts the options into a parser."""
    sub.add_argument("table", metavar="FILE.csv", help="a table with a line of column names, .csv or .tsv")
    what = sub.add_argument_group("what is asked")
    what.add_argument("--model", required=True, metavar="SPEC", help="your own pkg.mod:name (a model, a pipeline, a function), FILE.onnx, or http://host/predict")
    what.add_argument("--columns", nargs="+", default=[], metavar="A,B,A:B", help="columns, and pairs of them (default: those that move the answer most)")
    what.add_argument("--by", metavar="COLUMN", help="a curve for each group of rows")
    what.add_argument("--target", metavar="T", type=number_or_name, help="a class number or name (default: the second of two classes)")
    about_tables(what)
    how = sub.add_argument_group("how it is answered")
    how.add_argument("--method", metavar="NAME", default="accumulated-local-effects", help="an effect's name (default: accumulated-local-effects)")
    how.add_argument("--set", metavar="K=V", nargs="+", action="extend", default=[], dest="parameters", help="parameters of the method, e.g. bins=40")
    how.add_argument("--seed", type=int, default=0, help="for rows that are drawn at random (default: 0)")
    how.add_argument("--batch-size", metavar="N", type=plan, help="rows at a time (default: measured)")
    out = sub.add_argument_group("what comes out")
    out.add_argument("--out", metavar="DIR", default="out", help="where the picture, the report and the numbers go (default: out)")
    out.add_argument("--json", action="store_true", help="print JSON alone on standard output")
