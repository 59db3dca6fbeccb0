"""Players of a text: its tokens, words, sentences, or spans of your own, and what is read where one is absent."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import UnknownName, UsageError
from ..core.game import Board
from ..core.question import Question
from ._pieces import Described
from .features import FeatureMasker

UNITS = ("token", "word", "sentence")
ABSENT = ("auto", "mask", "remove", "pad")
Span = tuple[int, int]

# Ideographs and kana stand without spaces between words: each is a word. Inner apostrophes, dots and hyphens do not end one.
_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_ALONE}]|(?:(?![{_ALONE}])\w)+(?:['’.\-](?:(?![{_ALONE}])\w)+)*")
_END = re.compile(r"[.!?…]+[\"'”’)\]]*\s+(?=\S)|[。！？]+[”」』）]*\s*(?=\S)|\s*\n\s*(?=\S)")
_SHORT = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|vs|etc|e\.g|i\.e|cf|No|Fig)|\b[A-Z])\.\s+$")


@dataclass(frozen=True, eq=False, repr=False)
class TextMasker(Described):
    """Players are pieces of a text; the question is which of them are present.

    `unit`: "word" (with the punctuation that clings to it; ideographs one by one), "sentence", "token" (of the tokenizer), or spans of your own: [(0, 7), (12, 20)]
    in characters, or phrases as they occur, ["not bad", "at all"]; a list of such lists for several texts. What no span covers is always there.
    A word's subwords come and go together.
    `absent` is what stands where a piece takes no part:
    - "mask": the tokenizer's mask token, one for each of its tokens. Misleads when the model was not trained to read masks, as most fine-tuned classifiers were not.
    - "remove": with a tokenizer and a network, attention passes over the piece and the others keep their positions; for a callable on texts, it is cut
      out with the space before it. Misleads when what is left reads as another sentence ("not bad" without "not").
    - "pad": the padding token, attended to. Misleads wherever a model has only ever seen it masked.
    - any other string stands there itself ("something", "…"), and is read for what it says.
    - "auto": "mask" for a network whose tokenizer has a mask token, else "remove".
    `tokenizer`: any of Hugging Face's; it may be left out for a callable on lists of texts.
    """

    unit: Any = "word"
    absent: str = "auto"
    tokenizer: Any = None

    def __post_init__(self) -> None:
        if isinstance(self.unit, str) and self.unit not in UNITS:
            raise UnknownName("unit of a text", self.unit, UNITS, "A text is cut into token, word, sentence, or a list of spans.")
        if not isinstance(self.unit, (str, list, tuple)):
            raise UsageError(f"TextMasker needs unit as one of {', '.join(UNITS)}, or a list of spans; got {self.unit!r}.")
        if not isinstance(self.absent, str):
            raise UsageError(f"TextMasker needs absent as one of {', '.join(ABSENT)}, or the text that stands in; got {self.absent!r}.")

    @property
    def axis(self) -> str:
        """What a piece is called."""
        return self.unit if isinstance(self.unit, str) else "span"

    def board(self, q: Question) -> Board:
        if q.model.axis != self.axis:
            raise UsageError(f"TextMasker needs a question about texts; got one about {q.model.axis}s. Give the text itself: pel.explain(model, \"some text\", masker=pel.TextMasker(...)).")
        return FeatureMasker().board(q)

    def spans(self, texts: Sequence[str]) -> list[list[Span]]:
        """(start, end) of every piece of every text, in characters."""
        if isinstance(self.unit, str):
            return [self._cut(t) for t in texts]
        given = [self.unit] if len(texts) == 1 and not _nested(self.unit) else self.unit
        if len(given) != len(texts):
            raise UsageError(f"Spans need one list for each of {len(texts)} texts; got {len(given)}.")
        return [_own(t, s) for t, s in zip(texts, given, strict=True)]

    def _cut(self, text: str) -> list[Span]:
        found = words(text) if self.unit == "word" else sentences(text) if self.unit == "sentence" else Tokens(self.tokenizer, [text]).spans[0]
        if not found:
            raise UsageError(f"A text needs at least one {self.unit}; got {text!r}.")
        return found

    def names(self, texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> tuple[tuple[str, ...], ...]:
        """What each piece says; a token that goes on where the one before it ends is marked by ##."""
        if self.unit != "token":
            return tuple(tuple(t[a:b] for a, b in own) for t, own in zip(texts, spans, strict=True))
        return tuple(tuple(("##" if i and a == own[i - 1][1] else "") + (t[a:b].strip() or "␣") for i, (a, b) in enumerate(own)) for t, own in zip(texts, spans, strict=True))


# -- cutting --------------------------------------------------------------------------------------------------------------


def words(text: str) -> list[Span]:
    """Words with the punctuation that follows them up to the next space, or that leads the next one: every sign but spaces belongs to a word."""
    spans: list[Span] = []
    for m in re.finditer(r"\S+", text):
        found = [w.span() for w in _WORD.finditer(m[0])]
        starts = [m.start(), *[m.start() + a for a, _ in found[1:]]]
        spans += list(zip(starts, [*starts[1:], m.end()], strict=True))
    return spans


def sentences(text: str) -> list[Span]:
    """Sentences as their stops, the space after them and line breaks say; common abbreviations and initials end none."""
    spans, start = [], len(text) - len(text.lstrip())
    for m in _END.finditer(text):
        if not _SHORT.search(text[start : m.end()]):
            spans.append((start, m.start() + len(m[0].rstrip())))
            start = m.end()
    end = len(text.rstrip())
    return [*spans, (start, end)] if end > start else spans


def _nested(unit: Sequence[Any]) -> bool:
    """Whether spans come as one list a text."""
    return bool(unit) and isinstance(unit[0], (list, tuple)) and not (len(unit[0]) == 2 and all(isinstance(v, int) for v in unit[0]))


def _own(text: str, spans: Sequence[Any]) -> list[Span]:
    """Spans by their characters, or by the phrases that they hold, in the order of the text."""
    found: list[Span] = []
    for s in spans:
        start = text.find(s, found[-1][1] if found else 0) if isinstance(s, str) else s[0]
        end = start + len(s) if isinstance(s, str) else s[1]
        if isinstance(s, str) and (start < 0 or not s):
            raise UsageError(f"Spans need phrases of the text, in its order; {s!r} is not among what follows {text[: found[-1][1]][-20:] if found else 'the beginning'!r}.")
        if not 0 <= start < end <= len(text):
            raise UsageError(f"Spans need characters between 0 and {len(text)}, start before end; got {s!r}.")
        found.append((int(start), int(end)))
    found.sort()
    for (_, a), (b, _) in itertools.pairwise(found):
        if b < a:
            raise UsageError(f"Spans need to lie apart; {text[b:a]!r} belongs to two.")
    if not found:
        raise UsageError("A text needs at least one span; got none.")
    return found


# -- putting together -------------------------------------------------------------------------------------------------------


def without(text: str, spans: Sequence[Span], present: Sequence[bool]) -> str:
    """The text without its absent pieces; of the spaces on both sides of one, one side stays."""
    out, at, cut = "", 0, False
    for (a, b), here in zip([*spans, (len(text), len(text))], [*present, True], strict=True):
        for part in (text[at:a], text[a:b] if here else ""):
            part = part.lstrip() if cut and (not out or out[-1].isspace()) else part
            out, cut = out + part, cut and not part
        cut, at = cut or not here, b
    return out.rstrip() if cut else out


def instead(text: str, spans: Sequence[Span], present: Sequence[bool], other: str) -> str:
    """The text with another in place of its absent pieces."""
    out, at = [], 0
    for (a, b), here in zip(spans, present, strict=True):
        out += [text[at:a], text[a:b] if here else other]
        at = b
    return "".join([*out, text[at:]])


# -- tokens ---------------------------------------------------------------------------------------------------------------


class Tokens:
    """Texts as a tokenizer sees them: its own batch, padded, and which characters every token stands for (none: a special one)."""

    def __init__(self, tokenizer: Any, texts: Sequence[str]) -> None:
        if tokenizer is None:
            raise UsageError('Tokens need a tokenizer: TextMasker(tokenizer=...). Without one, use unit="word".')
        self.texts, many = texts, len(texts) > 1
        if many and getattr(tokenizer, "pad_token_id", None) is None:
            raise UsageError("Several texts at once need a tokenizer with a padding token; this one has none. Set tokenizer.pad_token, or ask about one text at a time.")
        fast = bool(getattr(tokenizer, "is_fast", False))
        self.batch = dict(tokenizer(list(texts), return_tensors="pt", padding=many, return_special_tokens_mask=True, return_offsets_mapping=fast))
        special = self.batch.pop("special_tokens_mask").bool()
        self.ids: Tensor = self.batch["input_ids"]
        longest, most = self.ids.shape[1], getattr(tokenizer, "model_max_length", None)
        if most is not None and longest > most:
            raise UsageError(f"The tokenizer's model takes {most} tokens; the longest text has {longest}. Nothing is cut off unasked: shorten it, or ask about its parts.")
        offsets = self.batch.pop("offset_mapping").tolist() if fast else [aligned(t, tokenizer.convert_ids_to_tokens(i.tolist()), s.tolist()) for t, i, s in zip(texts, self.ids, special, strict=True)]
        self.at: list[list[Span | None]] = [
            [None if s or a == b else _trimmed(t, a, b) for (a, b), s in zip(o, sp, strict=True)] for t, o, sp in zip(texts, offsets, special.tolist(), strict=True)
        ]

    @property
    def spans(self) -> list[list[Span]]:
        """The characters of every token that is not special; tokens that share a character are one."""
        return [sorted({s for s in row if s is not None}) for row in self.at]

    def labels(self, spans: Sequence[Sequence[Span]]) -> Tensor:
        """(B, T) the piece that every token belongs to, by its first character (a space by what follows it); -1 for special tokens and what no piece covers."""
        lab = torch.full(self.ids.shape, -1)
        for i, (text, row, own) in enumerate(zip(self.texts, self.at, spans, strict=True)):
            for j, token in enumerate(row):
                if token is not None:
                    first = token[0] if text[slice(*token)].strip() else token[1]
                    lab[i, j] = next((k for k, (a, b) in enumerate(own) if a <= first < b), -1)
        return lab


def _trimmed(text: str, a: int, b: int) -> Span:
    """The token's characters without the spaces around them."""
    own = text[a:b]
    return (a, b) if not own.strip() else (a + len(own) - len(own.lstrip()), b - len(own) + len(own.rstrip()))


def aligned(text: str, tokens: Sequence[str], special: Sequence[int]) -> list[Span]:
    """Where each token stands in the text, read off the tokens themselves, for tokenizers that do not say."""
    at, spans, folded = 0, [], text.lower()
    for token, skip in zip(tokens, special, strict=True):
        own = token.removeprefix("##").replace("▁", "").replace("Ġ", "").replace("</w>", "").lower()
        start = folded.find(own, at) if own and not skip else -1
        if own and not skip and (start < 0 or folded[at:start].strip()):
            raise UsageError(f"The tokenizer does not say where its tokens lie, and {token!r} is not found in the text. Use a fast tokenizer (use_fast=True).")
        spans.append((start, start + len(own)) if start >= 0 else (0, 0))
        at = start + len(own) if start >= 0 else at
    return spans
