"""What a forward pass may write into: lent to it as copies, until it has shown that it does not."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


def version(t: Tensor) -> int:
    """How often a tensor was written; inference tensors do not count."""
    return -1 if t.is_inference() else t._version


@dataclass
class Loan:
    """A buffer, or a tensor in a plain attribute, that a pass may write."""

    home: dict[str, Any]
    key: str
    tensor: Tensor
    training: bool
    copied: bool = True
    lent: Tensor | None = None
    before: int = 0

    def lend(self) -> None:
        self.lent = self.tensor.clone() if self.copied else self.tensor
        self.before = version(self.lent)
        self.home[self.key] = self.lent

    def settle(self) -> bool:
        """Whether the pass left it alone, so that the user's own storage can stand here from now on."""
        if self.lent is None:
            return False
        self.copied = self.training or version(self.lent) != self.before or not equal(self.lent, self.tensor)
        rebound = self.home.get(self.key) is not self.lent
        if not rebound and not self.copied:
            self.home[self.key] = self.tensor
        return not rebound and not self.copied


def equal(a: Tensor, b: Tensor) -> bool:
    """Batch norm writes its statistics without counting it as a new version, so the numbers are compared too."""
    try:
        return torch.equal(a, b)
    except RuntimeError:  # layouts that cannot be compared
        return False


class Loans:
    """Lends copies of all buffers to a forward until one whole pass has shown which of them it writes.

    Batch norm in train mode, counters and observers write; through an alias that would change the user's model.
    What is written is lent anew for each pass, so that a pass is a function of its inputs alone.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module, self.settled = module, False
        self.loans: list[Loan] | None = None

    def lend(self) -> None:
        if self.loans is None:  # not before the first pass: the twin may still be moved to another memory format
            self.loans = list(self._all())
        with torch.inference_mode(False), torch.no_grad():
            for loan in self.loans:
                loan.lend()

    def _all(self) -> Iterator[Loan]:
        for m in self.module.modules():
            for home in (m._buffers, vars(m)):
                for key, value in home.items():
                    if isinstance(value, Tensor):
                        yield Loan(home, key, value, m.training)

    def settle(self) -> None:
        """Called after a whole pass."""
        if not self.settled and self.loans is not None:
            self.settled = True
            self.loans = [loan for loan in self.loans if not loan.settle()]
