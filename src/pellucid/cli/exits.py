"""What went wrong, as one sentence on stderr and an exit code. Python's own code for a crash is 1, which here means a failed gate."""

import os
import sys
import traceback
from types import TracebackType
from typing import Self

from ..core.errors import PellucidError

DONE, GATE_FAILED, NOT_DONE = 0, 1, 2


class Exits:
    """Turns whatever leaves the block into an exit code.

    A sentence of ours is printed as it is; a fault of ours with its traceback, since a person has to report it.
    """

    def __init__(self) -> None:
        self.code = DONE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if error is None:
            return False
        if isinstance(error, SystemExit):
            self.code = error.code if isinstance(error.code, int) else DONE if error.code is None else NOT_DONE
        else:
            self.code = NOT_DONE
            _tell(error)
        return True


def _tell(error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt):
        say("Interrupted; nothing was written.")
    elif isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    elif isinstance(error, PellucidError):
        say(str(error))
    elif isinstance(error, MemoryError):
        say("There was not enough memory. Try fewer inputs at a time, or --batch-size 1.")
    else:
        traceback.print_exception(error, file=sys.stderr)
        say("This is a fault of Pellucid's, not of your input. Please report it with the lines above and the output of `pellucid doctor`.")


def say(text: str) -> None:
    """One line for people; standard output is kept for results."""
    print(f"pellucid: {text}", file=sys.stderr)
