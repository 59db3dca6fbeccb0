"""Rules that compare the point with a baseline: one pass at the baseline is recorded, one at the point reads it back."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ._kept import tensors
from .errors import CannotComplete, NotApplicable
from .rules import Call, Mode, Rules


class Paired(Mode):
    """Two passes under one mode: `turn` ends the baseline's. Both must run the same operations in the same order.

    Against a batch of both, nothing is assumed about where the rows lie, nothing flows back through the baseline, and each record is freed once read.
    """

    paired = True

    def __init__(self, rules: Rules, names: dict[str, nn.Module], rows: int) -> None:
        super().__init__(rules, names, rows)
        self._tape: list[tuple[str, list[tuple[Any, int]]] | None] = []
        self._at: int | None = None

    def turn(self) -> None:
        """The baseline's pass is over; what follows is the point's."""
        self._at = 0

    @property
    def ended(self) -> bool:
        """Whether all of the record was read."""
        return self._at == len(self._tape)

    def met(self, args: Any, kwargs: dict[str, Any]) -> bool:
        return self._at is None or torch.is_grad_enabled()

    def taped(self, name: str, values: Iterable[Any]) -> list[Any] | None:
        """First pass: records; second: what the baseline had here."""
        if self._at is None:
            self._tape.append((name, [(a.detach(), a._version) if isinstance(a, Tensor) else (a, 0) for a in values]))
            return None
        here = self._tape[self._at] if self._at < len(self._tape) else None
        if here is None or here[0] != name:
            raise CannotComplete(f"Rules that compare with a baseline need the same operations at both; they part ways at {name!r} in {self.place()}. Choose another baseline.")
        self._tape[self._at], self._at = None, self._at + 1
        if any(isinstance(old, Tensor) and old._version != version for old, version in here[1]):
            raise CannotComplete(f"A value that {name!r} in {self.place()} was given at the baseline was changed in place later. Write it out of place, or use a method without rules.")
        return [old for old, _ in here[1]]

    def passed(self, f: Any, name: str, inplace: bool, args: Any, kwargs: dict[str, Any]) -> Any:
        """A linear operation, whose masks and indices must not depend on the point."""
        picks = [t.clone() for t in tensors(args, kwargs) if not t.is_floating_point()]
        if picks:
            old = self.taped(name, picks)
            if old is not None and not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(picks, old, strict=True)):
                raise NotApplicable(f"Rules that compare with a baseline need masks and indices that are the same at both; those of {name!r} in {self.place()} differ. Use a method without rules.")
        return super().passed(f, name, inplace, args, kwargs)

    def apply(self, c: Call) -> Tensor:
        if c.kind == "weights" and c.bound[1].requires_grad:
            raise NotApplicable(f"Rules that compare with a baseline need weights that do not depend on the point; those of {c.name!r} in {self.place()} do.")
        if c.kind != "weights" or self.rules.recall_weights:
            c.old = self.taped(c.name, c.args)
        return super().apply(c) if c.live() else c.run()

    def unruled(self, name: str, args: Any, out: Any) -> Any:
        raise NotApplicable(f"There is no rule for the operation {name!r} in {self.place()} that compares with a baseline. Use a method without rules, such as integrated-gradients.")
