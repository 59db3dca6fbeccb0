"""The options that every command about a whole table shares."""

from typing import Any


def about_tables(group: Any) -> None:
    """How a table is read, and how the model is that takes it."""
    group.add_argument("--drop", nargs="+", action="extend", default=[], metavar="COLUMN", help="columns that the model does not take, such as the answer")
    group.add_argument("--kind", nargs="+", action="extend", default=[], metavar="COLUMN=K", help="what a column holds where that cannot be seen: number, whole, flag, category, date")
    group.add_argument("--takes", choices=("tensor", "array", "frame"), help="what your function is called with (default: what the table needs)")
    group.add_argument("--weights", metavar="FILE", help="weights for your factory, .safetensors preferred")
    group.add_argument("--trust", action="store_true", help="allow a model file that can run code; the report says so")
