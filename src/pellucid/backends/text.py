"""Texts as a question of presence: rows of ones, one for each word; 0 is its absence, and every method works on them unchanged."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..core.card import Needs
from ..core.errors import UsageError
from ..core.model import Model
from ..core.question import Question, ask
from ..core.tree import map_leaves
from ..modalities.text import ABSENT, UNITS, Span, TextMasker, Tokens, instead, without
from .function import FunctionModel
from .wrap import wrap

WORDS = {"mask": "the mask token", "pad": "the padding token", "remove": "nothing: attention passes over them"}


def text_question(
    model: Any, texts: str | Sequence[str], *, unit: Any = "word", absent: str = "auto", tokenizer: Any = None, target: Any = None, ids: Any = None, seed: int = 0, batch_size: Any = None,
) -> Question:
    """The question which pieces of these texts are present: of a network with its tokenizer, or of a callable on lists of texts."""
    asked, x, baseline = pose(wrap(model), texts, TextMasker(unit, absent, tokenizer))
    return ask(asked, x, target, None, baseline, ids, seed, batch_size)


def text_masker(masker: Any) -> TextMasker | None:
    """The masker of texts that is meant by one, or by the name of a unit; None for any other masker."""
    return masker if isinstance(masker, TextMasker) else TextMasker(masker) if isinstance(masker, str) and masker in UNITS else None


def posed(model: Model, inputs: Any, baseline: Any, masker: TextMasker | None) -> tuple[Model, Any, Any]:
    """What is really asked: texts that come with a masker become the presence of their pieces."""
    return pose(model, inputs, masker, baseline) if masker is not None else (model, inputs, baseline)


def pose(model: Model, texts: Any, masker: TextMasker, baseline: Any = None) -> tuple[Model, Any, Any]:
    """(a model of presence, rows of ones, 0): what `ask` needs of a model that is asked about texts."""
    texts = [texts] if isinstance(texts, str) else list(texts) if isinstance(texts, (list, tuple)) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise UsageError(f"A question about texts needs a text or a list of texts; got {type(texts).__name__}.")
    if not (baseline is None or (isinstance(baseline, (int, float)) and baseline == 0)):
        raise UsageError(f"What stands for an absent {masker.axis} is said by the masker, TextMasker(absent=...); got baseline={baseline!r}.")
    reads = _Reading.of(model, texts, masker)
    names = masker.names(texts, reads.spans)
    model = _presence(model, reads)
    model.parts, model.axis, model.absent = names, masker.axis, reads.words
    model.can |= Needs.TOKENS
    model.notes.append(f"a {masker.axis} that is absent is replaced by {reads.words}")
    present = torch.ones(len(texts), max(map(len, names)), dtype=torch.float64)
    return model, {"present": present, "row": torch.arange(len(texts))}, 0


def _presence(model: Model, reads: "_Reading") -> FunctionModel:
    """The model with presence as its input."""
    if isinstance(model, FunctionModel):
        return model.twin(reads, takes="tensor")
    twin = FunctionModel(reads, takes="tensor", name=model.name, labels=model.labels, output=model.output, spec=model.spec)
    twin.training, twin.chances, twin.chunk = model.training, model.chances, model.chunk
    twin.notes = list(model.notes)
    return twin


class _Reading:
    """A model asked by which pieces of its texts are present."""

    spans: list[list[Span]]
    words: str

    @staticmethod
    def of(model: Model, texts: list[str], masker: TextMasker) -> "_Reading":
        module = getattr(model, "module", None)
        if isinstance(module, nn.Module) and Needs.MODULES in model.can:
            return _Network(model, module, texts, masker)
        if not isinstance(model, FunctionModel):
            raise UsageError(f"A question about texts needs a network with a tokenizer, or a callable on lists of texts; {model.name} is a {type(model).__name__}.")
        return _Callable(model, texts, masker)


class _Callable(_Reading):
    """A callable on lists of texts."""

    def __init__(self, model: FunctionModel, texts: list[str], masker: TextMasker) -> None:
        self.function, self.texts, self.spans = model.function, texts, masker.spans(texts)
        token = getattr(masker.tokenizer, "mask_token", None)
        if masker.absent == "pad" or (masker.absent == "mask" and token is None):
            raise UsageError(f'absent="{masker.absent}" needs a network and its tokenizer; {model.name} takes texts. Use "remove", or the text that stands in.')
        self.other = None if masker.absent in ("auto", "remove") else token if masker.absent == "mask" else masker.absent
        self.words = "nothing: they are cut out of the text" if self.other is None else f"the text {self.other!r}"

    def __call__(self, present: Tensor, row: Tensor) -> Any:
        return self.function([self.render(i, p) for i, p in zip(row.tolist(), (present > 0.5).tolist(), strict=True)])

    def render(self, i: int, present: list[bool]) -> str:
        """Text i with only those of its pieces."""
        text, spans = self.texts[i], self.spans[i]
        return without(text, spans, present[: len(spans)]) if self.other is None else instead(text, spans, present[: len(spans)], self.other)


@dataclass(eq=False)
class _Accepts:
    """What a network's forward takes of a tokenizer's batch."""

    names: set[str]
    anything: bool
    by_name: bool

    @classmethod
    def of(cls, module: nn.Module) -> "_Accepts":
        own = inspect.signature(module.forward).parameters
        anything = any(p.kind is p.VAR_KEYWORD for p in own.values())
        placed = any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in own.values())
        return cls(set(own), anything, "input_ids" in own or not placed)

    def call(self, module: nn.Module, batch: dict[str, Tensor]) -> Any:
        if self.by_name:
            return module(**{k: v for k, v in batch.items() if self.anything or k in self.names})
        ids = batch.pop("input_ids")
        return module(ids, **{k: v for k, v in batch.items() if k in self.names})


class _Network(_Reading):
    """A network on a tokenizer's ids."""

    def __init__(self, model: Model, module: nn.Module, texts: list[str], masker: TextMasker) -> None:
        tokenizer = masker.tokenizer or getattr(model, "tokenizer", None)
        if tokenizer is None:
            raise UsageError(f"{model.name} is a network and takes tokens, so that texts need its tokenizer: masker=pel.TextMasker(tokenizer=...).")
        self.model, self.module, self.texts, self.tokenizer, self.accepts = model, module, texts, tokenizer, _Accepts.of(module)
        tokens = Tokens(tokenizer, texts)
        self.spans = tokens.spans if masker.unit == "token" else masker.spans(texts)
        self.labels, self.batch = tokens.labels(self.spans), tokens.batch
        self._covered(masker)
        self.absent = masker.absent if masker.absent != "auto" else "mask" if getattr(tokenizer, "mask_token_id", None) is not None else "remove"
        self.words = WORDS.get(self.absent, f"the text {self.absent!r}")
        if self.absent in ("mask", "pad"):
            self.id = getattr(tokenizer, f"{self.absent}_token_id", None)
            if self.id is None:
                raise UsageError(f'absent="{self.absent}" needs a tokenizer with such a token; this one has none. Use "remove", or the text that stands in.')
        if self.absent == "remove" and not (self.accepts.by_name and (self.accepts.anything or "attention_mask" in self.accepts.names)):
            raise UsageError(f'absent="remove" needs a network that takes an attention_mask; {model.name} takes none. Use "mask", "pad", or the text that stands in.')

    def _covered(self, masker: TextMasker) -> None:
        for i, own in enumerate(self.spans):
            bare = sorted(set(range(len(own))) - set(self.labels[i].tolist()))
            if bare:
                a, b = own[bare[0]]
                raise UsageError(f"A {masker.axis} needs at least one token of its own; {self.texts[i][a:b]!r} has none (row {i}). Join it to its neighbour in a list of spans.")

    def __call__(self, present: Tensor, row: Tensor) -> Any:
        seen = present > 0.5
        batch = self._replaced(seen, row) if self.absent in ABSENT else self._read(seen, row)
        with torch.no_grad():
            out = self.accepts.call(self.module, {k: v.to(self.model.device) for k, v in batch.items()})
        return map_leaves(lambda v: v.cpu() if isinstance(v, Tensor) else v, out)

    def _replaced(self, seen: Tensor, row: Tensor) -> dict[str, Tensor]:
        """The tokenizer's own batch, with other tokens or without attention where a piece is absent."""
        lab = self.labels[row]
        here = torch.cat([seen, seen.new_ones(len(seen), 1)], 1).gather(1, torch.where(lab < 0, seen.shape[1], lab))
        batch = {k: v[row] for k, v in self.batch.items()}
        if self.absent == "remove":
            mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
            return {**batch, "attention_mask": mask * here}
        return {**batch, "input_ids": torch.where(here, batch["input_ids"], self.id)}

    def _read(self, seen: Tensor, row: Tensor) -> dict[str, Tensor]:
        """Texts with another text in place of what is absent, read anew."""
        texts = [instead(self.texts[i], self.spans[i], p[: len(self.spans[i])], self.absent) for i, p in zip(row.tolist(), seen.tolist(), strict=True)]
        return Tokens(self.tokenizer, texts).batch
