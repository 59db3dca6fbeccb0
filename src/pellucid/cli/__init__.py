"""The command line. Nothing heavy is imported here: `--help`, `list`, `show` and `--version` do not wait for torch."""

import io
import sys
from collections.abc import Sequence

from .exits import Exits
from .parser import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Gives 0 where it is done, 1 where a gate failed, 2 where it could not be done."""
    given = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    with Exits() as exits:
        args = parse(given)
        exits.code = args.command(args, given)
    return exits.code
