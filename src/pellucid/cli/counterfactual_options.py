"""The options of `pellucid counterfactual`, with help that teaches. Imports nothing that is slow."""

import argparse

from .table_options import about_tables
from .words import number_or_name

COUNTERFACTUAL = """\
examples:
  what would have had to be different for this row, whatever the other answer:
    pellucid counterfactual rows.csv --model mymod:pipeline --row 17 --data train.csv
  a class by name, what stays, and how far a number may go:
    pellucid counterfactual rows.csv --model mymod:pipeline --row 17 --data train.csv --target approved --fixed sex race --range age=18:70
  a probability, an income that may only grow, a job that is one of two:
    pellucid counterfactual rows.csv --model mymod:pipeline --row 17 --target approved --at-least 0.8 --increase income --range "job=nurse|clerk"

OUT holds the picture of each row, report.html (one file, works offline) and counterfactual.json with every cell.
Exit code 0: done, also where there is none; the answer then says how near the search came and which rule stands in the way.
"""


def fill(sub: argparse.ArgumentParser) -> None:
    """Puts the options into a parser."""
    sub.add_argument("table", metavar="FILE.csv", help="a table with a line of column names, .csv or .tsv")
    what = sub.add_argument_group("what is asked")
    what.add_argument("--model", required=True, metavar="SPEC", help="your own pkg.mod:name (a model, a pipeline, a function), a model's file, or http://host/predict")
    what.add_argument("--row", type=int, nargs="+", default=[], metavar="N", help="which rows; 0 is the first below the names")
    what.add_argument("--data", metavar="FILE", help="a table that shows what is usual (default: the table's other rows)")
    what.add_argument("--target", metavar="T", type=number_or_name, help="the class that is wanted, by number or name (default: any other than the row's own)")
    what.add_argument("--at-least", type=float, metavar="P", help="a probability of the target, or an answer, of at least this")
    what.add_argument("--at-most", type=float, metavar="P", help="... of at most this")
    what.add_argument("--margin", type=float, default=0.0, metavar="M", help="how far ahead the answer has to be (default: 0)")
    about_tables(what)
    may = sub.add_argument_group("what may change")
    may.add_argument("--fixed", nargs="+", action="extend", default=[], metavar="COLUMN", help="columns that stay, also as a,b,c")
    may.add_argument("--vary", nargs="+", action="extend", default=None, metavar="COLUMN", help="the only columns that may change")
    may.add_argument("--range", nargs="+", action="extend", default=[], metavar="COLUMN=A:B", dest="ranges", help="how far numbers may go, age=18:70 or age=18: ; or words, job=clerk|nurse")
    may.add_argument("--increase", nargs="+", action="extend", default=[], metavar="COLUMN", help="columns that may only grow")
    may.add_argument("--decrease", nargs="+", action="extend", default=[], metavar="COLUMN", help="columns that may only shrink")
    may.add_argument("--one-hot", nargs="+", action="append", default=[], metavar="COLUMN", help="columns of 0 and 1 of which exactly one is 1; once for each group")
    how = sub.add_argument_group("how it is answered")
    how.add_argument("--n", type=int, default=3, metavar="N", help="counterfactuals for a row (default: 3)")
    how.add_argument("--budget", type=int, default=3000, metavar="N", help="model rows that may be asked for a row (default: 3000)")
    how.add_argument("--set", metavar="K=V", nargs="+", action="extend", default=[], dest="parameters", help="other parameters of the search, e.g. sparsity=1")
    how.add_argument("--seed", type=int, default=0, help="for what is drawn at random (default: 0)")
    out = sub.add_argument_group("what comes out")
    out.add_argument("--out", metavar="DIR", default="out", help="where the pictures, the report and the numbers go (default: out)")
    out.add_argument("--json", action="store_true", help="print JSON alone on standard output")
