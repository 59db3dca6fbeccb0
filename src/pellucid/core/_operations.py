"""Which operation a call is, and of what kind: the names that `TorchFunctionMode` sees, made one."""

import functools
import types
from collections.abc import Callable
from typing import Any

_WORDS = {
    "weights": "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
    "pointwise": """relu relu6 hardtanh gelu silu mish hardswish hardsigmoid sigmoid tanh elu selu celu leaky_relu prelu rrelu softplus softsign
        tanhshrink logsigmoid threshold clamp clamp_min clamp_max abs exp expm1 log log1p reciprocal pow square sin cos erf rdiv softshrink hardshrink""",
    "scale": "sqrt rsqrt",
    "product": "mul matmul bmm mm mv dot einsum",
    "softmax": "softmax log_softmax",
    "max": "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d amax",
    "pass": """add sub rsub neg sum mean cat stack concat hstack vstack split chunk unbind tensor_split reshape view view_as reshape_as flatten unflatten ravel
        permute transpose swapaxes swapdims movedim moveaxis T mT H mH t squeeze unsqueeze expand expand_as repeat repeat_interleave tile broadcast_to contiguous clone to float
        double half bfloat16 cpu cuda type type_as positive index_select gather take_along_dim select narrow __getitem__ __setitem__ roll flip fliplr flipud rot90 cumsum tril triu
        diagonal diag_embed unfold fold pad pixel_shuffle pixel_unshuffle channel_shuffle avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
        adaptive_avg_pool3d interpolate upsample upsample_nearest2d upsample_bilinear2d grid_sample dropout dropout1d dropout2d dropout3d feature_dropout alpha_dropout embedding
        embedding_bag masked_fill where masked_select scatter scatter_add index_add index_copy copy zero fill detach requires_grad
        real conj conj_physical trace""",
}
KIND = {op: kind for kind, ops in _WORDS.items() for op in ops.split()}
"""The kind of each operation that has one; others are written as a twin, opened, or refused."""

ADDITIVE = frozenset(
    ("add", "sub", "rsub", "cat", "stack", "concat", "hstack", "vstack", "where", "masked_fill", "pad", "scatter", "scatter_add", "index_add", "index_copy", "copy", "fill", "__setitem__")
)
"""Linear operations that may also add a constant, which then takes relevance."""

_POOLS = [f"{kind}max_pool{n}d_with_indices" for kind in ("", "adaptive_") for n in (1, 2, 3)]
PICKS = frozenset(["max", "min", "sort", "topk", "median", "nanmedian", "kthvalue", "cummax", "cummin", "msort", "fractional_max_pool2d", *_POOLS])
"""Operations that pick values by their size: the plain gradient hands all relevance to what was picked."""

_RENAME = {
    "__pow__": "pow", "__rpow__": "rpow", "__rdiv__": "rdiv", "__rtruediv__": "rdiv", "__rsub__": "rsub", "true_divide": "div", "divide": "div", "multiply": "mul",
    "subtract": "sub", "negative": "neg", "clip": "clamp", "absolute": "abs", "concatenate": "concat", "logit": "logit", "special_expit": "sigmoid", "special_erf": "erf",
    "special_softmax": "softmax", "special_log_softmax": "log_softmax", "_softmax": "softmax", "_log_softmax": "log_softmax", "convolution": "convolution",
}


@functools.lru_cache(maxsize=1024)
def canonical(f: Any) -> tuple[str, bool]:
    """("relu", in place?) for F.relu, torch.relu, Tensor.relu_ and aten.relu.default; ("mT", False) for a property's getter."""
    name = f._schema.name.split("::")[1] if hasattr(f, "_schema") else getattr(f, "__name__", str(f))
    if name == "__get__":
        return f.__self__.__name__, False
    name = _RENAME.get(name, name)
    if name.endswith("_") and not name.endswith("__"):
        return _RENAME.get(name[:-1], name[:-1]), True
    return name, False


def opened(f: Callable[..., Any]) -> Callable[..., Any]:
    """A Python function of torch that no longer hands itself over whole: its inner operations reach the mode instead."""
    f = getattr(f, "__wrapped__", f)
    shut = dict.fromkeys(("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"), _never)
    g = types.FunctionType(f.__code__, {**f.__globals__, **shut}, f.__name__, f.__defaults__, f.__closure__)
    g.__kwdefaults__ = f.__kwdefaults__
    return g


def _never(*_: Any) -> bool:
    return False
