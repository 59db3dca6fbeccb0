"""A private twin of the user's model: same weights in memory, own hooks, flags and replaced calls. The user's object is never touched."""

import copy
import functools
import pickle
import types
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ._loans import Loans, version
from ._norms import frugal
from .errors import UsageError
from .folding import Fold, Pair, checksum

Handler = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any]
Memo = dict[int, Any]

UNCOPYABLE = (TypeError, RuntimeError, ValueError, AttributeError, NotImplementedError, pickle.PickleError)
"""What `copy.deepcopy` raises for locks, open files, running iterators and objects that forbid it."""

HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_STOCK = frozenset(vars(nn.Module()))
_EMPTY = (dict, OrderedDict, set)
_ATOMS = frozenset((int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device))
_PLAIN = (int, float, complex, str, bytes, bool, type(None), type, torch.dtype, torch.device)


class Stop(BaseException):
    """Ends a forward pass early; not an Exception, so that no model swallows it."""


# ---------------------------------------------------------------- what a module holds


def unwrap(module: nn.Module) -> nn.Module:
    """What `torch.compile` wraps."""
    return getattr(module, "_orig_mod", module)


def _own(module: nn.Module) -> dict[str, Any]:
    """The attributes a user gave a module, beyond what every module has."""
    return {k: v for k, v in vars(module).items() if k not in _STOCK}


def _kept(module: nn.Module) -> list[Any]:
    """Every object a module keeps outside its parameters, buffers and children."""
    return [*_own(module).values(), *(h for hooks in HOOKS for h in vars(module)[hooks].values())]


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from (t for t in (*module._parameters.values(), *module._buffers.values()) if t is not None)


def _captured(function: Any) -> list[Any]:
    """What a function, method or partial brings along."""
    if isinstance(function, functools.partial):
        return [function.func, *function.args, *function.keywords.values()]
    if isinstance(function, types.MethodType):
        return [function.__self__]
    if isinstance(function, types.FunctionType):
        cells = [c.cell_contents for c in function.__closure__ or () if _filled(c)]
        return [*cells, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values(), *vars(function).values()]
    return []


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018  an empty cell can only be found by asking
    except ValueError:
        return False
    return True


def _inside(value: Any) -> list[Any]:
    """What a container, function, method or partial holds; modules, tensors and other objects are not entered."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    return _captured(value)


def _reach(value: Any, seen: dict[int, Any]) -> dict[int, Any]:
    """`value` and all that its containers and functions lead to, by id."""
    stack = [value]
    while stack:
        if id(found := stack.pop()) not in seen:
            seen[id(found)] = found
            stack += _inside(found)
    return seen


# ---------------------------------------------------------------- the copy


def _alias(t: Tensor) -> Tensor:
    """The same storage and version counter in another tensor object that never asks for gradients."""
    twin = nn.Parameter(t.detach(), requires_grad=False) if isinstance(t, nn.Parameter) else t.detach()
    if type(twin) is not type(t):
        raise TypeError(f"A {type(t).__name__} holds more than its numbers, so that it cannot stand in a copy.")
    twin.__dict__.update(vars(t))
    return twin


class _Aliasing(TorchFunctionMode):
    """Answers the deep copy of a tensor with an alias, also of tensors that autograd computed."""

    def __torch_function__(self, function: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.Tensor.__deepcopy__:
            tensor, memo = args
            return memo.setdefault(id(tensor), _alias(tensor))
        return function(*args, **(kwargs or {}))


def _refuse(module: nn.Module) -> None:
    """Raises where only the user's own object can run (TypeError) or nothing can (UsageError)."""
    kind, modules = type(module), list(module.modules())
    if kind.__call__ is not nn.Module.__call__ and not isinstance(module, torch.fx.GraphModule):
        raise TypeError(f"{kind.__name__} replaces __call__, so its layers cannot be reached in a copy.")
    if any(isinstance(m, torch.jit.ScriptModule) for m in modules):
        raise TypeError("A ScriptModule keeps its weights in C++; a copy would hold them twice.")
    if any(nn.parameter.is_lazy(t) for m in modules for t in _tensors(m)):
        raise UsageError("The model has lazy parameters without a shape yet; run it once on an input before explaining it.")


class _Copy:
    """One deep copy of a module whose tensors are aliases and whose functions see the copied modules."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.modules = module, list(module.modules())
        self.reached: dict[int, Any] = {}
        for m in self.modules:
            self.reached[id(m)] = m
            for value in (*_tensors(m), *_kept(m)):
                _reach(value, self.reached)
        self.memo: Memo = {i: _alias(v) for i, v in self.reached.items() if isinstance(v, Tensor)}
        self.functions = [f for f in self.reached.values() if isinstance(f, types.FunctionType) and self._bound(f)]

    def _bound(self, function: types.FunctionType) -> bool:
        """Whether a function leads to a module or tensor of the model, so that the copy needs its own."""
        ids = _reach(_captured(function), {}).values()
        return any(isinstance(v, (nn.Module, Tensor)) and id(v) in self.reached for v in ids)

    def make(self) -> nn.Module:
        with _Aliasing():
            try:
                return self._attempt(dict(self.memo))
            except UNCOPYABLE:
                return self._attempt_sharing()

    def _attempt_sharing(self) -> nn.Module:
        try:
            return self._attempt(self._sharing())
        except UNCOPYABLE as e:
            raise TypeError(f"{type(self.module).__name__} cannot be copied: {e or type(e).__name__}") from e

    def _attempt(self, memo: Memo) -> nn.Module:
        stock = [m for m in self.modules if _copied_as_torch_does(type(m))]
        memo.update({id(f): _hollow(f) for f in self.functions})
        memo.update({id(m): type(m).__new__(type(m)) for m in stock})
        for m in reversed(stock):  # children first: __setstate__ may look at them
            memo[id(m)].__setstate__({k: _copied(k, v, memo) for k, v in m.__getstate__().items()})
        twin = copy.deepcopy(self.module, memo)
        for f in self.functions:
            _fill(memo[id(f)], f, memo)
        return twin

    def _sharing(self) -> Memo:
        """A memo that shares what cannot be copied (locks, iterators, handles) between the user's object and ours."""
        memo = dict(self.memo)
        for m in self.modules:
            for value in _kept(m):
                try:
                    copy.deepcopy(value, dict(memo))
                except UNCOPYABLE:
                    memo[id(value)] = value
        return memo


def _copied_as_torch_does(kind: type[nn.Module]) -> bool:
    """Whether a class of modules leaves its copying to torch, which then can be done without taking every empty dictionary apart."""
    plain = kind.__reduce_ex__ is object.__reduce_ex__ and kind.__reduce__ is object.__reduce__ and not hasattr(kind, "__deepcopy__")
    return plain and kind.__getstate__ is nn.Module.__getstate__ and kind.__setstate__.__module__.startswith("torch.nn.modules.")


def _copied(key: str, value: Any, memo: Memo) -> Any:
    """The copy of a module's attribute."""
    kind = type(value)
    if kind in _ATOMS or kind is tuple and _ATOMS.issuperset(map(type, value)):
        return value
    if kind in _EMPTY and not value and key in _STOCK:
        return kind()
    return copy.deepcopy(value, memo)


def _hollow(function: types.FunctionType) -> types.FunctionType:
    """The same code with empty closure cells, so that it can be known before what it closes over is copied."""
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    return types.FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)


def _fill(twin: types.FunctionType, function: types.FunctionType, memo: Memo) -> None:
    for mine, theirs in zip(twin.__closure__ or (), function.__closure__ or (), strict=True):
        if _filled(theirs):
            mine.cell_contents = _translated(theirs.cell_contents, memo)
    twin.__defaults__ = function.__defaults__ and tuple(_translated(v, memo) for v in function.__defaults__)
    twin.__kwdefaults__ = function.__kwdefaults__ and {k: _translated(v, memo) for k, v in function.__kwdefaults__.items()}
    twin.__dict__.update({k: _translated(v, memo) for k, v in vars(function).items()})


def _translated(value: Any, memo: Memo) -> Any:
    """The copy of what a function captured where it belongs to the model; all else stays shared."""
    if id(value) in memo or any(i in memo for i in _reach(value, {})):
        return copy.deepcopy(value, memo)
    return value


def _check_storage(twin: nn.Module, module: nn.Module) -> None:
    """Classes that copy themselves may copy the weights too; then the user's later changes would be missed."""
    mine, theirs = ([pointer(t) for m in root.modules() for t in m._parameters.values() if t is not None] for root in (twin, module))
    if mine != theirs:
        raise TypeError(f"{type(module).__name__} copies its weights when it is copied.")


def _uncompile(module: nn.Module) -> None:
    """Replaces compiled children and functions by what they wrap: compiled code would call the layers past our handlers."""
    for m in list(module.modules()):
        m._modules.update({name: unwrap(child) for name, child in m._modules.items() if child is not None})
        for name, value in _own(m).items():
            if isinstance(value, types.FunctionType) and hasattr(value, "_torchdynamo_orig_callable"):
                vars(m)[name] = value._torchdynamo_orig_callable


def shadow(module: nn.Module) -> nn.Module:
    """A copy of the module tree over the user's storage, without backward hooks: they are no part of the function."""
    module = unwrap(module)
    _refuse(module)
    with torch.inference_mode(False), torch.no_grad():
        twin = _Copy(module).make()
    _check_storage(twin, module)
    _uncompile(twin)
    for m in twin.modules():
        m._backward_hooks.clear()
        m._backward_pre_hooks.clear()
        if isinstance(m, (nn.Embedding, nn.EmbeddingBag)) and m.max_norm is not None:
            m.weight = nn.Parameter(m.weight.detach().clone(), requires_grad=False)  # its forward rescales the weights in place
    return twin


# ---------------------------------------------------------------- staleness


def pointer(t: Tensor) -> int:
    """Where a tensor's numbers lie; 0 where a subclass does not say."""
    try:
        return t.data_ptr()
    except RuntimeError:
        return 0


def _face(value: Any, depth: int = 2) -> Any:
    """What can be seen of an attribute without running anything."""
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, Tensor):
        return id(value), value.dtype, value.device, version(value)
    if isinstance(value, nn.Module) or not depth:
        return type(value), id(value)
    if isinstance(value, (tuple, list, set, frozenset)):
        return type(value), id(value), tuple(_face(v, depth - 1) for v in value)
    inside = value if isinstance(value, dict) else getattr(value, "__dict__", None)
    if not isinstance(inside, dict):
        return type(value), id(value)
    return type(value), id(value), tuple((k, _face(v, depth - 1)) for k, v in inside.items() if isinstance(k, str))


def fingerprint(module: nn.Module) -> tuple[Any, ...]:
    """Equal while a shadow of `module` answers as the module does. Writes through `.data` are not seen (aliases see them anyway)."""
    seen: dict[int, Any] = {}
    out: list[Any] = []
    stack = [unwrap(module)]
    while stack:
        m = stack.pop()
        if id(m) not in seen:
            seen[id(m)] = m
            _see(m, seen, out)
            stack += [child for child in m._modules.values() if child is not None]
    return tuple(out)


def _see(m: nn.Module, seen: dict[int, Any], out: list[Any]) -> None:
    """Adds what can be seen of one module; this runs before every question, so that it is written for speed."""
    kind, held = type(m), vars(m)
    out += (id(m), kind, id(kind.forward), m.training)
    out += [(name, id(child)) for name, child in m._modules.items()]
    out += [tuple(held[h]) for h in HOOKS if held[h]]
    for t in (*m._parameters.values(), *m._buffers.values()):
        if t is not None:
            out += (id(t), pointer(t), version(t), t.dtype, t.device)
    for k, v in held.items():
        if k in _STOCK:
            continue
        if type(v) in _ATOMS:
            out.append((k, type(v), v))
        elif type(v) is tuple and _ATOMS.issuperset(map(type, v)):
            out.append((k, v, *map(type, v)))
        elif id(v) in seen:  # a configuration that all layers share is looked at once
            out.append((k, id(v)))
        else:
            seen[id(v)] = v
            out.append((k, _face(v)))


# ---------------------------------------------------------------- running


class Shadow:
    """Runs a private twin of a module, every call of a layer passing through `handler` (None: plain). One a thread."""

    def __init__(self, module: nn.Module) -> None:
        self.module = shadow(module)
        self.handler: Handler | None = None
        self.names = dict(self.module.named_modules())
        self.once: set[str] = set()
        self._print = fingerprint(module)
        self._loans = Loans(self.module)
        self._last = False
        self._weights: list[tuple[dict[str, Any], str, Tensor, Tensor]] | None = None
        self._folds, self._sums = list[Fold](), list[int]()
        for m in self.module.modules():
            # nn.Module's own slot for replacing a call, hooks included
            m._compiled_call_impl = functools.partial(self._call, m)
            frugal(m)

    def fresh(self, user_module: nn.Module) -> bool:
        """Whether the user's module still is what was shadowed."""
        return self._print == fingerprint(user_module) and (not self._folds or self._sums == checksum(self._folds))

    def open(self, layer_name: str) -> None:
        """Makes PyTorch's fused encoders call their layers and parts, where one of them is asked for."""
        for m in fused_above(self.names, layer_name):
            if not m._forward_hooks:
                unfuse(m)

    def fold(self, pairs: Iterable[Pair]) -> None:
        """Which BatchNorms `lay` folds into the layers before them."""
        if [f.pair for f in self._folds] != list(pairs):
            self.lay(False, tuple(f.pair.norm for f in self._folds))
            self._folds = [Fold(p, self.names[p.layer], self.names[p.norm]) for p in pairs]
            self._sums = checksum(self._folds)

    def lay(self, channels_last: bool, named: Sequence[str] = ()) -> None:
        """Lays the weights for a pass: folded, but for pairs that a named layer parts, and channels last or as the user has them."""
        turned = [f for f in self._folds if f.on is any(map(f.pair.parted_by, named))]
        if turned:
            self._align(False)
            self._weights = None
            for f in turned:
                f.turn()
        self._align(channels_last)

    def _align(self, channels_last: bool) -> None:
        """Has the weights of convolutions channels last, as copies of our own that are made once, or as they are."""
        if channels_last != self._last:
            self._last = channels_last
            self._weights = self._weights or list(_both_ways(self.module))
            for home, key, plain, last in self._weights:
                home[key] = last if channels_last else plain

    def run(self, handler: Handler | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The model's output, each layer's call answered by `handler(layer, args, kwargs)`."""
        self._loans.lend()
        self.handler = handler
        try:
            out = self.module(*args, **kwargs)
        finally:
            self.handler = None
        self._loans.settle()
        return out

    def _call(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        handler = self.handler
        return module._call_impl(*args, **kwargs) if handler is None else handler(module, args, kwargs)


def _both_ways(module: nn.Module) -> Iterator[tuple[dict[str, Any], str, Tensor, Tensor]]:
    """(home, key, the weight as it is, the weight channels last), for each that differs; tied weights stay tied."""
    last: dict[int, Tensor] = {}
    with torch.inference_mode(False), torch.no_grad():
        for m in module.modules():
            for key, p in m._parameters.items():
                if p is not None and p.ndim == 4 and not p.is_contiguous(memory_format=torch.channels_last):
                    if id(p) not in last:
                        last[id(p)] = nn.Parameter(p.contiguous(memory_format=torch.channels_last), requires_grad=False)
                    yield m._parameters, key, p, last[id(p)]


def fused_above(names: dict[str, nn.Module], layer: str) -> Iterator[nn.Module]:
    """The encoders and encoder layers that hold a layer and might call it by a fused road."""
    for name, m in names.items():
        if isinstance(m, (nn.TransformerEncoder, nn.TransformerEncoderLayer)) and layer.startswith(f"{name}." if name else ""):
            yield m


def unfuse(module: nn.Module) -> Callable[[], None]:
    """Makes an encoder call its layers on plain tensors, and a layer its parts; gives back what undoes it."""
    if isinstance(module, nn.TransformerEncoder):
        before = getattr(module, "use_nested_tensor", False)
        module.use_nested_tensor = False
        return functools.partial(setattr, module, "use_nested_tensor", before)
    return module.register_forward_hook(_nothing).remove  # any hook closes the fused road


def _nothing(*_: Any) -> None:
    """A hook that does nothing."""
