"""Attention: the rules that share relevance through it, and the probabilities of every attention operation of a pass."""

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..core._kept import tensors, vjp
from ..core._ledger import Ledger
from ..core._operations import canonical, opened
from ..core.errors import NotApplicable
from ..core.procedure import Values
from ..core.question import Question
from ..core.rules import Call, Mode, Rules
from ..core.tree import leaves
from ._layer import grid_of, picture_size, resized

PRODUCTS = frozenset(["matmul", "bmm", "einsum"])
"""Where attention probabilities meet values."""

# ---------------------------------------------------------------- rules

PROPORTIONAL = frozenset(["relu", "leaky_relu", "prelu", "abs"])
"""f(x) / x is their gradient."""
OFFSET = frozenset(["sigmoid", "hardsigmoid", "softplus", "logsigmoid", "cos", "threshold", "clamp", "clamp_min", "clamp_max", "hardtanh"])
"""What may be something where x is nothing."""
TANGENT = frozenset(["exp", "log", "reciprocal", "rdiv"])
"""Parts of a softmax or a quotient that is written out: no activations, and f(x) / x says nothing of them."""


def activation(c: Call) -> Tensor:
    """Identity: what arrives goes on whole, R = R, which is the slope (f(x) - f(0)) / x. An f(0), a sigmoid's half, takes its share as a bias does."""
    if c.name in PROPORTIONAL:
        return c.native()
    if c.name == "pow" and c.args[1] in (0.5, -0.5):
        return constant(c)
    if c.name in TANGENT or (c.name == "pow" and c.args[1] < 1):
        return first_order(c)
    x, y = c.args[0].detach(), c.output()
    with torch.no_grad():
        rise = y - c.run(torch.zeros_like(x)) if c.name in OFFSET else y
        flat = x.abs() <= torch.finfo(x.dtype).eps ** 0.5
        slope = rise / x.masked_fill(flat, 1)
    if flat.any():
        (at_zero,) = vjp(c.run, [x], torch.ones_like(y))
        slope = torch.where(flat, at_zero, slope)  # type: ignore[arg-type]
    return c.keep(y, lambda g: (g * slope,), c.args[0], conserves=c.name not in OFFSET)


def shared(c: Call) -> Tensor:
    """A product of n factors gives each of them the n-th part."""
    n, out = len(c.live()), c.native()
    return out if n < 2 else c.keep(out.detach(), lambda g: (g / n,), out, conserves=True)


def first_order(c: Call) -> Tensor:
    """x_i (R_i - s_i sum R) for a softmax s: its own gradient. What that misses of the value is entered as absorbed."""
    x, before = c.args[0], c.args[0].detach()
    out = c.keep(c.output(), lambda g: vjp(c.run, [before], g), x, own=True)
    if c.name == "softmax":
        _metadata(out.grad_fn)["softmax"] = True
    return out


def constant(c: Call) -> Tensor:
    """A factor that takes no relevance: the scale of a normalization."""
    return c.output()


def values_only(c: Call) -> Tensor:
    """Attention probabilities are constants: the values take all."""
    held = probabilities(c.name, c.args)
    if held is None:
        return shared(c)
    c.args = _replaced(c.args, held, held.detach())
    return shared(c)


ATTN_LRP = Rules(pointwise=activation, product=shared, scale=constant, softmax=first_order)
"""Attention-aware layer-wise relevance propagation (Achtibat et al. 2024, arXiv:2402.05602)."""
CP_LRP = Rules(pointwise=activation, product=values_only, scale=constant, softmax=first_order)
"""Conservative propagation: attention and scales of normalizations are constants (Ali et al. 2022, arXiv:2202.07304)."""


def _replaced(args: Any, old: Tensor, new: Tensor) -> list[Any]:
    return [new if a is old else _replaced(a, old, new) if isinstance(a, (list, tuple)) else a for a in args]


# ---------------------------------------------------------------- which factor of a product is attention

_THROUGH = ("ToCopy", "View", "UnsafeView", "ReshapeAlias", "Clone", "Expand", "Transpose", "Permute", "Unsqueeze", "Squeeze", "Slice", "MaskedFill", "NanToNum", "Mul", "Div")
"""What may stand between a softmax and the product with the values: casts, shapes, masks, a dropped-out head."""


def probabilities(name: str, args: Any) -> Tensor | None:
    """The factor of a product that a softmax over its last axis made; None where there is none."""
    return next((t for t in tensors(args) if name in PRODUCTS and t.ndim > 2 and _softmaxed(t)), None)


def _softmaxed(t: Tensor) -> bool:
    """Whether a softmax is found by going back through operations that only shape or mask its values."""
    node = t.grad_fn
    while node is not None:
        if node.name().startswith("SoftmaxBackward"):
            return _last_axis(node)
        if "softmax" in _metadata(node):
            return True
        live = [n for n, _ in node.next_functions if n is not None]
        if len(live) != 1 or not node.name().startswith(_THROUGH) or _turns(node):
            return False
        node = live[0]
    return False


def _metadata(node: Any) -> dict[str, Any]:
    """What is noted on a node of the graph."""
    noted: dict[str, Any] = node.metadata
    return noted


def _last_axis(node: Any) -> bool:
    """Whether a softmax was taken over its last axis."""
    n = node._saved_result.ndim
    return _axis(node._saved_dim, n) == n - 1


def _turns(node: Any) -> bool:
    """Whether an operation puts another axis last: what comes of it is no longer each key's share."""
    if not node.name().startswith(("Transpose", "Permute")):
        return False
    n = len(node._input_metadata[0].shape)
    if node.name().startswith("Permute"):
        return _axis(node._saved_dims[-1], n) != n - 1
    a, b = (_axis(d, n) for d in (node._saved_dim0, node._saved_dim1))
    return a != b and n - 1 in (a, b)


def _axis(saved: int, n: int) -> int:
    """An axis of `n`; negative ones are saved as unsigned numbers."""
    return (saved - 2**64 if saved >= 2**63 else saved) % n


# ---------------------------------------------------------------- reading probabilities


@dataclass
class Attention:
    """One attention operation of a chunk: probabilities `a` and their gradients `g`, both (rows, heads, queries, keys)."""

    module: str
    a: Tensor
    g: Tensor



def place(module: str) -> str:
    """Where it is, in words."""
    return f"module {module!r}" if module else "the model's own forward"


Fold = Callable[[list[Attention]], Tensor]
"""What a method makes of all attention operations of a chunk, in the order of the forward pass: (rows, tokens)."""
FOUND = ("", "attention")


@dataclass
class Tape(Ledger):
    """A pass's attention operations instead of absorbed relevance; handed over folded."""

    fold: Fold = field(default=lambda layers: layers[0].a)
    layers: list[tuple[str, Tensor]] = field(default_factory=list)
    gradients: dict[int, Tensor] = field(default_factory=dict)

    def note(self, a: Tensor, module: str) -> None:
        """A new operation, whose gradient will arrive."""
        i = len(self.layers)
        self.layers.append((module, a.detach()))
        a.register_hook(lambda g: self.gradients.update({i: g.detach()}))

    def take(self) -> dict[tuple[str, str], Tensor]:
        """All operations that a gradient reached, folded; what other targets of the same pass find is theirs.

        The target does not depend on others, such as those that follow a unit that is asked for, and not every pass runs them.
        """
        g, self.gradients = self.gradients, {}
        reached = [self._whole(module, a, g[i]) for i, (module, a) in enumerate(self.layers) if i in g]
        return {FOUND: self.fold(reached)} if reached else {}

    def _whole(self, module: str, a: Tensor, g: Tensor) -> Attention:
        return Attention(module, *(by_head(module, t, self.rows) for t in (a, g)))


class Watch(Mode):
    """A pass in which nothing is ruled and attention is looked at. Only what the point reaches counts: earlier operations are none of its business."""

    def __torch_function__(self, f: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if not torch.is_grad_enabled() or not self.met(tensors(args, kwargs)):
            return f(*args, **kwargs)
        name, _ = canonical(f)
        if name == "scaled_dot_product_attention":
            return self._twin(f, name, args, kwargs)
        if name == "multi_head_attention_forward" and isinstance(f, types.FunctionType):
            return self.inside(opened(f), *args, **kwargs)
        held = probabilities(name, args)
        if held is not None:
            self.tape.note(held, self.where())
        return f(*args, **kwargs)

    @property
    def tape(self) -> Tape:
        """What the pass is written on."""
        return cast(Tape, self.ledger)

    def check(self, ts: Any) -> None:
        """Nothing is ruled, so that nothing can be missed."""


@dataclass(frozen=True)
class Reading(Rules):
    """No rule at all: the plain gradient, and every attention operation of each pass entered on a tape."""

    def mode(self, names: dict[str, nn.Module], rows: int) -> Mode:
        return Watch(self, names, rows)


def read(q: Question, fold: Fold, title: str) -> Tensor:
    """(B, tokens) what `fold` makes of the attention between the question's place and its target, chunk by chunk."""
    several = len(q.places or q.engine.slots)
    if several > 1:
        raise NotApplicable(f"{title} gives one value to each token of one sequence; this question has {several} tensors, whose tokens attention may mix. Ask at one layer (at=...).")
    ruled = q.with_rules(Reading(ledger=lambda rows: Tape(rows, fold=fold), counted=False))
    ruled.grad()
    found = ruled.absorbed().get(FOUND)
    if found is None:
        raise NotApplicable(f"{title} needs softmax attention between {q.at or 'the input'} and the target; {q.model.name} shows none there. Use integrated-gradients, or an earlier layer (at=...).")
    return found


def by_head(module: str, t: Tensor, rows: int) -> Tensor:
    """(rows, heads, queries, keys) from (rows, ..., queries, keys) or (rows * heads, queries, keys), in single precision or better."""
    t = t.float() if t.dtype in (torch.float16, torch.bfloat16) else t
    if len(t) == rows:
        return t.flatten(1, -3) if t.ndim > 3 else t.unsqueeze(1)
    if t.ndim == 3 and len(t) % rows == 0:
        return t.unflatten(0, (rows, -1))
    shape = f"shape {tuple(t.shape)} for {rows} rows"
    raise NotApplicable(f"Attention is followed over whole sequences, a row each; that in {place(module)} has {shape} (windows, or time first). Use attn-lrp or integrated-gradients.")


def square(layers: list[Attention], title: str) -> Iterator[Attention]:
    """The operations, which must all go from one sequence of tokens to itself."""
    size = layers[0].a.shape[-1]
    for f in layers:
        if tuple(f.a.shape[2:]) != (size, size):
            goes = f"goes from {f.a.shape[3]} to {f.a.shape[2]}"
            raise NotApplicable(f"{title} needs self-attention over one sequence of {size} tokens; that in {place(f.module)} {goes}. Use attn-lrp or integrated-gradients.")
        yield f


# ---------------------------------------------------------------- heads, queries, places


def fused(a: Tensor, heads: str) -> Tensor:
    """(n, queries, keys) of all heads."""
    return a.mean(1) if heads == "mean" else a.amax(1) if heads == "max" else a.amin(1)


def with_residual(a: Tensor, residual: float) -> Tensor:
    """Attention and the residual road beside it; each token's shares sum to one. With the mean of heads and 0.5 this is 0.5 A + 0.5 I."""
    eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    mixed = (1 - residual) * a + residual * eye
    return mixed / mixed.sum(-1, keepdim=True).clamp(min=torch.finfo(a.dtype).tiny)


def query_weights(last: Attention, query: str) -> Tensor:
    """(n, queries) which tokens' rows are read, as weights that sum to one.

    "auto" asks the gradient: a target that reads a class token, or the last token of a text, has a gradient in that row alone;
    a mean over tokens in all of them, less the padding.
    """
    n, t = len(last.a), last.a.shape[2]
    if query == "auto":
        live = (last.g.abs().sum((1, 3)) > 0).to(last.a)
        live = torch.where(live.any(1, keepdim=True), live, torch.ones_like(live))
        return live / live.sum(1, keepdim=True)
    w = last.a.new_zeros(n, t)
    w[:, {"first": 0, "last": -1}.get(query, slice(None))] = 1
    return w / w.sum(1, keepdim=True)


def placed(q: Question, found: Tensor, title: str) -> Values:
    """(B, tokens) where the question looks: (B, tokens, 1) at a sequence, (B, 1, h, w) at a grid or at the picture, class and register tokens left out."""
    point = leaves(q.point)[0]
    shape, n, size = tuple(point.shape[1:]), found.shape[1], picture_size(q)
    found = found.to(point.dtype)
    if len(shape) < 3 and n in shape:
        return Values(found[:, :, None] if shape[0] == n and len(shape) == 2 else found if len(shape) == 1 else found[:, None], signed=False)
    grid, lies = grid_of((n, 1), size) if size else None, grid_of(shape, size)
    if grid is None or lies is None:
        raise NotApplicable(f"{title} gives one value to each of {n} tokens; {q.at or 'the input'} has shape {shape} a row. Ask where the tokens are (at=...), such as an embedding layer.")
    planes = grid.planes(found[:, :, None])
    note = f"{grid.height} x {grid.width} tokens" + (f", {grid.skip} before them left out" if grid.skip else "")
    same = (lies.height, lies.width) == (grid.height, grid.width)
    return Values(planes.contiguous() if same else resized(planes, (lies.height, lies.width)), notes=(note,), signed=False)
