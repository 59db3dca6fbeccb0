"""Which operation a call is, and of what kind: the names that `TorchFunctionMode` sees, made one."""

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

_WORDS = {
    "weights": "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
    "pointwise": """relu relu6 hardtanh gelu silu mish hardswish hardsigmoid sigmoid tanh elu selu celu leaky_relu prelu rrelu softplus softsign
        tanhshrink logsigmoid threshold clamp clamp_min clamp_max abs exp exp2 expm1 log log2 log10 log1p reciprocal pow rpow square rdiv softshrink hardshrink
        sin cos tan asin acos atan sinh cosh asinh acosh atanh erf erfc erfinv sinc lgamma digamma atan2 sign sgn round floor ceil trunc frac fmod remainder copysign nan_to_num""",
    "scale": "sqrt rsqrt",
    "product": "mul matmul bmm mm mv dot vdot inner outer ger kron tensordot einsum linalg_cross",
    "softmax": "softmax log_softmax",
    "max": "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d amax amin",
    "pass": """add sub rsub neg sum nansum mean cumsum diff trapezoid trace cat stack concat hstack vstack dstack row_stack column_stack block_diag cartesian_prod combinations meshgrid
        split split_with_sizes chunk unbind tensor_split hsplit vsplit dsplit unsafe_split unsafe_split_with_sizes unsafe_chunk
        reshape view view_as _unsafe_view reshape_as flatten unflatten ravel as_strided atleast_1d atleast_2d atleast_3d
        permute transpose swapaxes swapdims movedim moveaxis T mT H mH adjoint t squeeze unsqueeze expand expand_as repeat repeat_interleave tile broadcast_to broadcast_tensors
        contiguous clone alias to _to_copy float double half bfloat16 cpu cuda type type_as positive as_tensor real conj conj_physical resolve_conj detach requires_grad
        index index_select gather take take_along_dim select slice narrow __getitem__ __setitem__ roll flip fliplr flipud rot90 tril triu diagonal diag diag_embed unfold fold im2col col2im
        pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d pixel_shuffle pixel_unshuffle channel_shuffle
        _pack_padded_sequence _pad_packed_sequence
        avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d max_unpool1d max_unpool2d max_unpool3d
        interpolate upsample upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d
        _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sample grid_sampler
        dropout dropout1d dropout2d dropout3d feature_dropout alpha_dropout feature_alpha_dropout native_dropout embedding embedding_bag nll_loss nll_loss_nd nll_loss2d ldexp deg2rad rad2deg
        masked_fill masked_select masked_scatter where scatter scatter_add scatter_reduce index_add index_copy index_fill index_put put select_scatter slice_scatter diagonal_scatter
        copy zero fill""",
}
KIND = {op: kind for kind, ops in _WORDS.items() for op in ops.split()}
"""The kind of each operation that has one; others are written as a twin, spelt, opened, or refused."""

_SETS = {
    "additive": """add sub rsub cat stack concat hstack vstack dstack row_stack column_stack block_diag where masked_fill masked_scatter pad constant_pad_nd scatter scatter_add scatter_reduce
        index_add index_copy index_fill index_put put select_scatter slice_scatter diagonal_scatter copy fill __setitem__""",
    "numbers": "add sub rsub masked_fill where pad constant_pad_nd scatter index_fill fill __setitem__",
    "looked": "embedding_bag grid_sample grid_sampler ldexp scatter_reduce",
    "picks": """max min aminmax sort msort topk median nanmedian kthvalue mode quantile nanquantile cummax cummin fractional_max_pool2d fractional_max_pool3d
        max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
        adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices""",
}
ADDITIVE = frozenset(_SETS["additive"].split())
"""Linear operations that may also add a constant, which then takes relevance."""
NUMBERS = frozenset(_SETS["numbers"].split())
"""Those to which a constant may be given as a number."""
LOOKED = frozenset(_SETS["looked"].split())
"""Linear operations that are linear with some arguments only."""
PICKS = frozenset(_SETS["picks"].split())
"""Operations that pick values by their size: the plain gradient hands all relevance to what was picked."""

FACTS = frozenset(["shape", "size", "dim", "ndim", "numel", "dtype", "device", "layout", "stride", "requires_grad", "is_floating_point", "is_contiguous", "is_leaf", "__len__"])
"""What is asked of a tensor and says nothing of its values."""

_RENAME = {
    "__pow__": "pow", "__rpow__": "rpow", "__rdiv__": "rdiv", "__rtruediv__": "rdiv", "__rsub__": "rsub", "true_divide": "div", "divide": "div", "multiply": "mul", "float_power": "pow",
    "subtract": "sub", "negative": "neg", "clip": "clamp", "absolute": "abs", "concatenate": "concat", "expit": "sigmoid", "_softmax": "softmax", "_log_softmax": "log_softmax",
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "fix": "trunc", "fmax": "maximum", "fmin": "minimum",
    "linalg_matmul": "matmul", "linalg_vecdot": "vecdot", "log_sigmoid": "logsigmoid", "psi": "digamma", "cross": "linalg_cross", "arctan2": "atan2", "trapz": "trapezoid",
}  # fmt: skip


@functools.lru_cache(maxsize=1024)
def canonical(f: Any) -> tuple[str, bool]:
    """("relu", in place?) for F.relu, torch.relu, Tensor.relu_ and aten.relu.default; ("mT", False) for a property's getter."""
    name = f._schema.name.split("::")[1] if hasattr(f, "_schema") else getattr(f, "__name__", str(f))
    if name == "__get__":
        return f.__self__.__name__, False
    name, inplace = name.removeprefix("special_"), name.endswith("_") and not name.endswith("__")
    name = name[:-1] if inplace else name
    return _RENAME.get(name, name), inplace


def opened(f: Callable[..., Any]) -> Callable[..., Any]:
    """A Python function of torch that no longer hands itself over whole: its inner operations reach the mode instead."""
    f = getattr(f, "__wrapped__", f)
    shut = dict.fromkeys(("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"), _never)
    g = types.FunctionType(f.__code__, {**f.__globals__, **shut}, f.__name__, f.__defaults__, f.__closure__)
    g.__kwdefaults__ = f.__kwdefaults__
    return g


def _never(*_: Any) -> bool:
    return False


def positional(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with those first that rules look for by position."""
    if kwargs and name != "where":
        for i, names in enumerate((("input", "self", "tensors"), ("other", "exponent"))):
            if len(args) == i:
                args += tuple(kwargs.pop(n) for n in names if n in kwargs)
    return args, kwargs


_signature = functools.lru_cache(maxsize=256)(inspect.signature)


@functools.lru_cache(maxsize=256)
def _up_to_inplace(f: types.FunctionType) -> tuple[str, ...] | None:
    """The arguments of a Python function of torch of which the last says whether it writes on its input; none where others follow that; None where there is none."""
    if "inplace" not in f.__code__.co_varnames:
        return None
    names = tuple(_signature(f).parameters)
    return names if names[-1] == "inplace" else ()


def outright(f: types.FunctionType, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
    """(arguments in order, the rest, whether it writes on its input), without the argument that says so."""
    names = _up_to_inplace(f)
    if names is None:
        return args, kwargs, False
    if names and tuple(kwargs) == names[len(args) :]:  # all given in order, as torch's own functions hand themselves over
        *rest, writes = *args, *kwargs.values()
        return tuple(rest), {}, bool(writes)
    if names and not kwargs:
        return args, kwargs, False
    bound = _signature(f).bind(*args, **kwargs)
    writes = bool(bound.arguments.pop("inplace", False))
    return bound.args, bound.kwargs, writes
