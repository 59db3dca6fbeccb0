"""`pellucid advise`: which method fits these inputs and this model, why, and what it cannot show."""

import argparse
import contextlib
import json
import sys
import textwrap
from collections.abc import Sequence

from . import asking, inputs
from .exits import DONE


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Prints the walk and the methods."""
    inputs.kind_of(args)
    with contextlib.redirect_stdout(sys.stderr):
        from ..run.advice import advise

        model = asking.model_of(args)
        given = asking.given(args, model)
        baseline = given.baseline if given.baseline is not None else args.baseline
        found = advise(model, given.inputs, question=args.question, cost=args.cost, target=args.target, at=args.at, baseline=baseline, masker=args.masker, tune=args.tune, seed=args.seed)
    print(json.dumps(found.to_dict(), indent=1, default=str) if args.json else "\n".join(textwrap.fill(line, 100, subsequent_indent="   ") for line in str(found).split("\n")))
    return DONE
