"""One table of operations in all their spellings; every rule must keep values, give plain gradients, conserve, and be complete on it."""

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from models import Hidden, made, normal
from pellucid.attribution._secant import RESCALE
from pellucid.backends import wrap
from pellucid.core._kept import keep, safe, vjp
from pellucid.core.errors import NotApplicable
from pellucid.core.question import ask
from pellucid.core.rules import Rules

aten = torch.ops.aten
ROWS, PICTURE, WORDS, HEADS, SQUARE = (3, 4), (3, 4, 6, 6), (3, 5, 4), (3, 2, 5, 4), (3, 4, 4)
C = normal(4)
KEPT = torch.tensor([True, False, True, False])
AT = torch.tensor([[1], [0], [2]])


@dataclass(frozen=True)
class Case:
    """A network or function, and what it takes."""

    build: Callable[[], Callable[..., Any]]
    shape: tuple[int, ...]
    mixed: bool = False
    """Whether rows lie elsewhere than on the first axis, or meet: then only sums over all rows say anything."""
    refused: str = ""
    """What secant rules say that need the same masks and indices at both ends."""


CASES: dict[str, Case] = {}
SPELT: dict[str, list[str]] = {}
"""Names of cases that are the same operation."""


def modules(shape: tuple[int, ...], /, mixed: bool = False, refused: str = "", **builds: Callable[[], Any]) -> None:
    for name, build in builds.items():
        assert name not in CASES, name
        CASES[name] = Case(build, shape, mixed, refused)


def functions(shape: tuple[int, ...], /, mixed: bool = False, refused: str = "", **fs: Callable[..., Any]) -> None:
    modules(shape, mixed, refused, **{name: functools.partial(_itself, f) for name, f in fs.items()})


def same(shape: tuple[int, ...], /, **fs: Callable[..., Any]) -> None:
    """Spellings of one operation."""
    functions(shape, **fs)
    SPELT[next(iter(fs))] = list(fs)


def _itself(f: Callable[..., Any]) -> Callable[..., Any]:
    return f


def written(f: Callable[[Any], Any]) -> Callable[..., Any]:
    """A function that writes on its argument, which no saved value needs."""

    def on_its_own(x: Any) -> Any:
        y = x + 0.0
        out = f(y)
        return y if out is None else out

    return on_its_own


class Wrapped(nn.Module):
    """A module whose call is told by `f(module, x)`."""

    def __init__(self, inner: nn.Module, f: Callable[..., Any]) -> None:
        super().__init__()
        self.inner, self.f = inner, f

    def forward(self, x: Any) -> Any:
        return self.f(self.inner, x)


def around(build: Callable[[], nn.Module], f: Callable[..., Any]) -> Callable[[], nn.Module]:
    return lambda: Wrapped(build(), f)


def filled(m: nn.Module) -> nn.Module:
    """With weights and statistics of no special value."""
    for p in m.parameters():
        nn.init.uniform_(p, -1, 1)
    for b in m.buffers():
        if b.is_floating_point():
            nn.init.uniform_(b, 0.5, 2)
    return m


# ---------------------------------------------------------------- weights

modules((3, 4, 9), conv1d=lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), conv1d_transposed=lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, groups=2),
        conv1d_normed=lambda: nn.Sequential(nn.Conv1d(4, 6, 3), filled(nn.BatchNorm1d(6)), nn.ReLU()))
modules(PICTURE, conv2d=lambda: nn.Conv2d(4, 6, 3, dilation=2, groups=2), conv2d_transposed=lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1, groups=2, dilation=2),
        conv2d_same=lambda: nn.Conv2d(4, 4, 3, padding="same"), conv2d_reflect=lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        conv2d_normed=lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), filled(nn.BatchNorm2d(6)), nn.ReLU()),
        conv2d_transposed_normed=lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), filled(nn.BatchNorm2d(6)), nn.ReLU()),
        normed_conv2d=lambda: nn.Sequential(filled(nn.BatchNorm2d(4)), nn.Conv2d(4, 6, 3), nn.ReLU()), norm_without_weights=lambda: nn.BatchNorm2d(4, affine=False))
modules((3, 2, 4, 4, 4), conv3d=lambda: nn.Conv3d(2, 3, 2), conv3d_transposed=lambda: nn.ConvTranspose3d(2, 3, 2),
        conv3d_normed=lambda: nn.Sequential(nn.Conv3d(2, 4, 2), filled(nn.BatchNorm3d(4))))
modules(ROWS, linear=lambda: nn.Linear(4, 3), linear_normed=lambda: nn.Sequential(nn.Linear(4, 6), filled(nn.BatchNorm1d(6)), nn.ReLU()),
        bilinear=around(lambda: nn.Bilinear(4, 4, 3), lambda m, x: m(x, x.flip(-1))))
modules(WORDS, linear_of_words=lambda: nn.Linear(4, 3, bias=False))
W, B, K = normal(3, 4), normal(3), normal(2, 4, 3, 3)
same(ROWS, linear_functional=lambda x: F.linear(x, W, B), linear_keywords=lambda x: F.linear(input=x, weight=W, bias=B), linear_aten=lambda x: aten.linear.default(x, W, B),
     linear_at=lambda x: x @ W.T + B,
     linear_addmm=lambda x: torch.addmm(B, x, W.T), linear_addmm_keywords=lambda x: torch.addmm(B, mat1=x, mat2=W.T), linear_addmm_aten=lambda x: aten.addmm.default(B, x, W.T))
same(PICTURE, conv_functional=lambda x: F.conv2d(x, K, C[:2]), conv_torch=lambda x: torch.conv2d(input=x, weight=K, bias=C[:2]),
     conv_aten=lambda x: aten.conv2d.default(x, K, C[:2]),
     convolution=lambda x: torch.convolution(x, K, C[:2], [1, 1], [0, 0], [1, 1], False, [0, 0], 1),
     convolution_aten=lambda x: aten.convolution.default(x, K, C[:2], [1, 1], [0, 0], [1, 1], False, [0, 0], 1))
functions(PICTURE, convolution_transposed=lambda x: aten.convolution.default(x, K.transpose(0, 1), C[:2], [1, 1], [0, 0], [1, 1], True, [0, 0], 1))
functions(ROWS, mixed=True, refused="weights", weights_live=lambda x: F.linear(x, x.sum(0, keepdim=True) * W))
functions(ROWS, mixed=True, bias_live=lambda x: F.linear(x, W, x.mean(0)[:3]), table_live=lambda x: F.embedding(AT, x.sum(0)[:, None] * normal(4, 2)),
          bag_live=lambda x: F.embedding_bag(AT, x.sum(0)[:, None] * normal(4, 2), mode="mean"))
functions(ROWS, bag_weights=lambda x: F.embedding_bag(torch.tensor([[0, 1], [2, 3], [1, 1]]), normal(4, 2), mode="sum", per_sample_weights=x[:, :2]))

# ---------------------------------------------------------------- pools, pads, pictures

for n, shape in enumerate([(3, 2, 6), (3, 2, 6, 6), (3, 2, 4, 4, 4)], 1):
    named = {"max": f"MaxPool{n}d", "adaptive_max": f"AdaptiveMaxPool{n}d"}
    for short, long in named.items():
        size = (3, 2, 1) if short == "max" else (2,)
        modules(shape, **{f"{short}_pool{n}d": functools.partial(getattr(nn, long), *size),
                          f"{short}_pool{n}d_indices": around(functools.partial(getattr(nn, long), 2, return_indices=True), lambda m, x: m(x)[0])})
    modules(shape, **{f"avg_pool{n}d": functools.partial(getattr(nn, f"AvgPool{n}d"), 3, 2, 1), f"adaptive_avg_pool{n}d": functools.partial(getattr(nn, f"AdaptiveAvgPool{n}d"), 2),
                      f"lp_pool{n}d": functools.partial(getattr(nn, f"LPPool{n}d"), 2, 2)})
    functions(shape, refused="masks", **{f"max_unpool{n}d": lambda x, n=n: getattr(F, f"max_unpool{n}d")(*getattr(F, f"max_pool{n}d")(x, 2, return_indices=True), 2)})
same(PICTURE, max_pool=lambda x: F.max_pool2d(x, 2), max_pool_torch=lambda x: torch.max_pool2d(x, 2), max_pool_aten=lambda x: aten.max_pool2d.default(x, [2, 2]),
     max_pool_both=lambda x: F.max_pool2d(x, 2, return_indices=True)[0], max_pool_both_aten=lambda x: aten.max_pool2d_with_indices.default(x, [2, 2])[0],
     max_pool_twice=lambda x: x.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2)))
same(PICTURE, avg_pool=lambda x: F.adaptive_avg_pool2d(x, 1), avg_pool_mean=lambda x: x.mean((2, 3), keepdim=True),
     avg_pool_aten=lambda x: aten.adaptive_avg_pool2d.default(x, [1, 1]),
     avg_pool_core=lambda x: aten._adaptive_avg_pool2d.default(x, [1, 1]))
functions(PICTURE, max_pool_ceil=lambda x: F.max_pool2d(x, 2, stride=2, dilation=2, ceil_mode=True),
          **{f"pad_{mode}": lambda x, mode=mode: F.pad(x, (1, 2, 1, 0), mode) for mode in ("constant", "reflect", "replicate", "circular")},
          **{f"interpolate_{mode.replace('-', '_')}": lambda x, mode=mode: F.interpolate(x, scale_factor=1.5, mode=mode) for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area")})
functions(PICTURE, refused="fractional_max_pool2d", fractional_pool=lambda x: F.fractional_max_pool2d(x, 2, output_size=3, _random_samples=torch.full((3, 4, 2), 0.5).double()))
same(ROWS, pad_value=lambda x: F.pad(x, (1, 1), value=0.7), pad_position=lambda x: F.pad(x, (1, 1), "constant", 0.7),
     pad_aten=lambda x: aten.constant_pad_nd.default(x, [1, 1], 0.7),
     pad_module=nn.ConstantPad1d(1, 0.7), pad_cat=lambda x: torch.cat([torch.full_like(C[:3, None], 0.7), x, torch.full_like(C[:3, None], 0.7)], 1))
functions(ROWS, pad_off=lambda x: F.pad(x, (-1, 1)))
functions((3, 2, 3, 3, 3), interpolate_trilinear=lambda x: F.interpolate(x, size=(4, 4, 4), mode="trilinear"))
functions((3, 2, 6), interpolate_linear=lambda x: F.interpolate(x, size=4, mode="linear"), reflection_aten=lambda x: aten.reflection_pad1d.default(x, [1, 1]))
modules(PICTURE, upsample=lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), upsample_nearest=lambda: nn.UpsamplingNearest2d(scale_factor=2),
        pixel_shuffle=lambda: nn.PixelShuffle(2),
        pixel_unshuffle=lambda: nn.PixelUnshuffle(2), channel_shuffle=lambda: nn.ChannelShuffle(2))
functions(PICTURE, antialias=lambda x: F.interpolate(x, size=(4, 3), mode="bilinear", antialias=True), unfold=lambda x: F.unfold(x, 3),
          fold=lambda x: F.fold(F.unfold(x, 2, stride=2), (6, 6), 2, stride=2),
          upsample_aten=lambda x: aten.upsample_bilinear2d.vec(x, None, False, [2.0, 2.0]),
          grid_sample=lambda x: F.grid_sample(x, F.affine_grid(normal(3, 2, 3) * 0.5, [3, 4, 5, 5], align_corners=False), align_corners=False))

# ---------------------------------------------------------------- sums, products, shapes

same(ROWS, add=lambda x: x + C, add_reflected=lambda x: C + x, add_torch=lambda x: torch.add(x, C), add_keywords=lambda x: torch.add(input=x, other=C),
     add_alpha=lambda x: torch.add(x, C / 2, alpha=2), add_method=lambda x: x.add(C),
     add_aten=lambda x: aten.add.Tensor(x, C), add_dunder=lambda x: x.__add__(C), add_radd=lambda x: x.__radd__(C), add_sub=lambda x: x - -C, add_rsub=lambda x: C - -x,
     add_torch_rsub=lambda x: torch.rsub(-x, C),
     add_sum=lambda x: sum([x, C]), add_written=written(lambda y: y.add_(C)), add_half_twice=lambda x: x / 2 + 0.5 * x + C,
     add_addcmul=lambda x: torch.addcmul(x, C, torch.ones(4).double()))
functions(ROWS, add_number=lambda x: 1.5 + x, sub_number=lambda x: 1 - x, add_whole_numbers=lambda x: x + torch.arange(4), add_itself=lambda x: x + x,
          add_outer=lambda x: x[:, :, None] + x[:, None, :], sum_of_parts=lambda x: sum([x[:, 0], x[:, 1]])[:, None])
same(ROWS, mul=lambda x: x * x.flip(-1), mul_torch=lambda x: torch.multiply(x, x.flip(-1)), mul_keywords=lambda x: torch.mul(x, other=x.flip(-1)),
     mul_method=lambda x: x.mul(x.flip(-1)), mul_aten=lambda x: aten.mul.Tensor(x, x.flip(-1)),
     mul_dunder=lambda x: x.__mul__(x.flip(-1)), mul_einsum=lambda x: torch.einsum("bi,bi->bi", x, x.flip(-1)),
     mul_einsum_list=lambda x: torch.einsum("...i,...i->...i", [x, x.flip(-1)]), mul_einsum_numbers=lambda x: torch.einsum(x, [0, 1], x.flip(-1), [0, 1], [0, 1]),
     mul_written=written(lambda y: y.mul_(y.flip(-1))))
same(ROWS, square=lambda x: x.square(), square_power=lambda x: x**2, square_torch=lambda x: torch.pow(x, 2), square_keywords=lambda x: torch.pow(x, exponent=2),
     square_float=lambda x: torch.float_power(x, 2), square_written=written(lambda y: y.pow_(2)))
same(ROWS, div=lambda x: x / (x.abs() + 1), div_torch=lambda x: torch.true_divide(x, x.abs() + 1), div_method=lambda x: x.divide(x.abs() + 1),
     div_aten=lambda x: aten.div.Tensor(x, x.abs() + 1), div_reciprocal=lambda x: x * (x.abs() + 1).reciprocal(),
     div_reflected=lambda x: x * (1 / (x.abs() + 1)), div_abs=lambda x: x / (1 + abs(x)), div_written=written(lambda y: y.div_(y.clone().abs() + 1)))
functions(ROWS, mul_itself=lambda x: x * x, mul_constant=lambda x: C * x, mul_outer=lambda x: x[:, :, None] * x[:, None, :], mul_mean=lambda x: x * x.mean(1, keepdim=True),
          cube=lambda x: x**3, div_constant=lambda x: x / C, div_number=lambda x: x / 2,
          div_keywords=lambda x: torch.div(x, other=C), rdiv=lambda x: C / (x.abs() + 1), power_live=lambda x: (x.abs() + 0.5) ** x, power_of_number=lambda x: 2**x,
          power_of_constant=lambda x: torch.pow(C.abs(), x), power_of_number_torch=lambda x: torch.pow(2.0, x),
          addcmul=lambda x: torch.addcmul(x, x, C, value=2), addcdiv=lambda x: torch.addcdiv(x, x, x.abs() + 1, value=0.5), lerp=lambda x: torch.lerp(x, x.flip(-1), 0.3),
          lerp_live=lambda x: torch.lerp(x, C.expand(3, 4), x.sigmoid()),
          hypot=lambda x: torch.hypot(x, x.flip(-1)), xlogy=lambda x: torch.xlogy(x, x.abs() + 1), ldexp=lambda x: torch.ldexp(x, torch.tensor([1, 2, 3, 1])),
          outer=lambda x: torch.stack([torch.outer(r, r) for r in x]))
functions(
    ROWS, cat=lambda x: torch.cat([x, x * 2, normal(3, 2)], -1), stack=lambda x: torch.stack([x, C.expand(3, 4), x * 2], 1), hstack=lambda x: torch.hstack([x, x * 2]),
    dstack=lambda x: torch.dstack([x, normal(3, 4)]),
    column_stack=lambda x: torch.column_stack([x, normal(3, 2)]), cat_keywords=lambda x: torch.cat(tensors=[x, normal(3, 2)], dim=1),
    cat_aten=lambda x: aten.cat.default([x, normal(3, 2)], 1), split=lambda x: sum(torch.split(x, 2, -1)),
    chunk=lambda x: x.chunk(2, -1)[1] * 2, unbind=lambda x: torch.stack(x.unbind(1)[::-1], 1), tensor_split=lambda x: torch.tensor_split(x, 3, 1)[1],
    split_sizes=lambda x: x.split([1, 3], 1)[1], transposed=lambda x: x.T.mT * x,
    viewed=lambda x: x.view(3, 2, 2).permute(0, 2, 1).reshape(3, 4), unflatten=lambda x: torch.ravel(x).unflatten(0, (3, 4)), moved=lambda x: x.swapaxes(0, 1).movedim(0, 1),
    expanded=lambda x: x[:, None].expand(3, 2, 4), repeated=lambda x: x.repeat(1, 2),
    interleaved=lambda x: x.repeat_interleave(2, 1), broadcast=lambda x: torch.broadcast_tensors(x[:, :, None], x[:, None, :])[0],
    meshgrid=lambda x: torch.stack([torch.meshgrid(r, r, indexing="ij")[0] for r in x]), narrowed=lambda x: x.narrow(1, 1, 2),
    indexed=lambda x: x[:, [2, 0]], indexed_by_mask=lambda x: x[:, KEPT], indexed_everywhere=lambda x: x[..., None, ::2], rolled=lambda x: x.roll(1, 1),
    flipped=lambda x: x.fliplr(), cumsum=lambda x: x.cumsum(1), diff=lambda x: x.diff(),
    diagonal=lambda x: torch.diag_embed(x).diagonal(dim1=1, dim2=2), strided=lambda x: x.as_strided((3, 2, 2), (4, 1, 2)), summed=lambda x: x.sum(1, keepdim=True),
    cast=lambda x: x.to(torch.float64).double().type_as(C), squeezed=lambda x: x[:, None].squeeze(1),
    put=lambda x: torch.index_put(x, (torch.arange(3), torch.arange(3)), torch.tensor(2.0).double()), select_scatter=lambda x: torch.select_scatter(x, C[:3], 1, 0),
    slice_scatter=lambda x: torch.slice_scatter(x, normal(3, 2), 1, 0, 2),
    masked_scatter=lambda x: x.masked_scatter(KEPT, normal(6)), index_fill=lambda x: x.index_fill(1, torch.tensor([1]), 2.0),
    index_copy=lambda x: x.index_copy(1, torch.tensor([1]), normal(3, 1)), index_add=lambda x: x.index_add(1, torch.tensor([1]), normal(3, 1)),
    scatter=lambda x: x.scatter(1, AT, normal(3, 1)), scatter_number=lambda x: x.scatter(1, AT, 2.0),
    scatter_into=lambda x: torch.zeros(3, 6).double().scatter_add(1, torch.tensor([[1, 2, 3, 4]] * 3), x),
    scatter_mean=lambda x: torch.zeros(3, 2).double().scatter_reduce(1, torch.tensor([[0, 1, 1, 0]] * 3), x, "mean"), gather=lambda x: x.gather(1, AT),
    take_along=lambda x: x.take_along_dim(AT, 1), index_select=lambda x: torch.index_select(x, 1, torch.tensor([1, 1])),
    masked_select=lambda x: x.masked_select(KEPT).reshape(3, 2), masked_fill=lambda x: x.masked_fill(KEPT, 3.0), where=lambda x: torch.where(KEPT, x, C),
    where_number=lambda x: torch.where(KEPT, x, 2.0), where_number_first=lambda x: torch.where(KEPT, 1.5, x),
    where_method=lambda x: x.where(KEPT, torch.tensor(0.3).double()), detached=lambda x: x * x.clone().detach(), scalars=lambda x: x * x.shape[0] / len(x) + x.size(1) - x.dim(),
    dead_branch=lambda x: (x.prod(1), x.argmax(1), x * 2)[2], twice=lambda x: x.relu() + x.relu() * x,
)  # fmt: skip
functions(ROWS, refused="masks", where_live=lambda x: torch.where(x > 0, x, x * 0.1), masked_fill_live=lambda x: x.masked_fill(x < 0, 1.0), gate=lambda x: x * (x > 0),
          float_gate=lambda x: x * (x > 0).to(x.dtype), one_hot=lambda x: x * F.one_hot(x.argmax(-1), 4),
          whole=lambda x: x + x.int(), setitem_live=written(lambda y: y.__setitem__(y > 0, 0.5)))

# ---------------------------------------------------------------- matrices, softmax, norms

same(ROWS, mm=lambda x: torch.mm(x, W.T), mm_at=lambda x: x @ W.T, mm_method=lambda x: x.matmul(W.T), mm_aten=lambda x: aten.mm.default(x, W.T),
     mm_einsum=lambda x: torch.einsum("bi,oi->bo", x, W), mm_inner=lambda x: torch.inner(x, W),
     mm_tensordot=lambda x: torch.tensordot(x, W.T, 1), mm_left=lambda x: (W @ x.T).T, mm_rows=lambda x: torch.stack([torch.mv(W, r) for r in x]),
     mm_chain=lambda x: torch.linalg.multi_dot([x, W.T]), mm_reflected=lambda x: x.T.__rmatmul__(W).T,
     mm_keywords=lambda x: torch.matmul(x, other=W.T))
functions(ROWS, dot=lambda x: torch.stack([r.dot(r.flip(0)) for r in x])[:, None], vdot=lambda x: torch.stack([torch.vdot(r, C) for r in x])[:, None],
          addmm_scaled=lambda x: torch.addmm(x[:, :3], x, normal(4, 3), beta=0.5, alpha=2),
          addmm_zero=lambda x: torch.addmm(B, x, W.T, beta=0), addmv=lambda x: torch.addmv(x[:, 0], x, C, beta=2, alpha=0.5)[:, None],
          kron=lambda x: torch.stack([torch.kron(r, C) for r in x]),
          einsum_outer=lambda x: torch.einsum("bi,bj->bij", x, x), einsum_three=lambda x: torch.einsum("bi,bi,ij->bj", x, x.flip(1), normal(4, 3)))
functions(ROWS, mixed=True, addr=lambda x: torch.stack([torch.addr(normal(4, 4), r, r) for r in x]))
functions(ROWS, refused="at most two", einsum_three_live=lambda x: torch.einsum("bi,bi,bi->bi", x, x.flip(1), x.roll(1, 1)))
same(SQUARE, bmm=lambda x: torch.bmm(x, x.mT), bmm_at=lambda x: x @ x.mT, bmm_einsum=lambda x: torch.einsum("bij,bkj->bik", x, x),
     bmm_ellipsis=lambda x: torch.einsum("...ij,...kj->...ik", x, x), bmm_aten=lambda x: aten.bmm.default(x, x.mT),
     bmm_baddbmm=lambda x: torch.baddbmm(torch.full((3, 4, 4), float("nan")).double(), x, x.mT, beta=0))
functions(SQUARE, baddbmm=lambda x: torch.baddbmm(x, x, x.mT, beta=0.5, alpha=2), baddbmm_constant=lambda x: normal(3, 4, 4).baddbmm(x, x.mT), matvec=lambda x: x @ C,
          matrix_power=lambda x: torch.linalg.matrix_power(x, 2), einsum_diagonal=lambda x: torch.einsum("bii->bi", x),
          frobenius=lambda x: torch.linalg.matrix_norm(x)[:, None], logsumexp_two=lambda x: x.logsumexp((1, 2), keepdim=True), triangles=lambda x: x.tril() + x.triu(1))
functions(SQUARE, mixed=True, addbmm=lambda x: torch.addbmm(normal(4, 4), x, x.mT)[None])
same(ROWS, softmax=lambda x: F.softmax(x, -1), softmax_torch=lambda x: torch.softmax(x, 1), softmax_method=lambda x: x.softmax(dim=-1),
     softmax_dtype=lambda x: F.softmax(x, dim=1, dtype=torch.float64), softmax_aten=lambda x: aten._softmax.default(x, -1, False),
     softmax_special=lambda x: torch.special.softmax(x, 1), softmax_int=lambda x: aten.softmax.int(x, -1), softmin=lambda x: F.softmin(-x, dim=1))
same(ROWS, log_softmax=lambda x: F.log_softmax(x, -1), log_softmax_method=lambda x: x.log_softmax(1), log_softmax_aten=lambda x: aten._log_softmax.default(x, -1, False),
     log_softmax_special=lambda x: torch.special.log_softmax(x, 1))
same(ROWS, logsumexp=lambda x: torch.logsumexp(x, 1, keepdim=True), logsumexp_dims=lambda x: x.logsumexp((1,), True),
     logsumexp_special=lambda x: torch.special.logsumexp(x, 1)[:, None], logsumexp_hand=lambda x: (x - x.log_softmax(1))[:, :1])


def _gumbel(x: Any, hard: bool = False) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return F.gumbel_softmax(x, hard=hard)


functions(ROWS, gumbel=_gumbel, logaddexp=lambda x: torch.logaddexp(x, x.flip(1)),
          masked_softmax=lambda x: F.softmax(x.masked_fill(torch.tensor([True, False, False, False]), float("-inf")), -1))
functions(ROWS, refused="masks", gumbel_hard=lambda x: _gumbel(x, hard=True))
modules(PICTURE, softmax2d=nn.Softmax2d, group_norm=lambda: filled(nn.GroupNorm(2, 4)), instance_norm2d=lambda: filled(nn.InstanceNorm2d(4, affine=True)),
        instance_norm_tracked=lambda: filled(nn.InstanceNorm2d(4, affine=True, track_running_stats=True)),
        instance_norm_bare=lambda: nn.InstanceNorm2d(4), local_response=lambda: nn.LocalResponseNorm(3))
modules((3, 4, 3), instance_norm1d=lambda: filled(nn.InstanceNorm1d(4, affine=True)))
modules((3, 4, 3, 3, 3), instance_norm3d=lambda: filled(nn.InstanceNorm3d(4, affine=True)))
modules(WORDS, layer_norm=lambda: filled(nn.LayerNorm(4)), layer_norm_two=lambda: filled(nn.LayerNorm((5, 4))), layer_norm_bare=lambda: nn.LayerNorm(4, elementwise_affine=False),
        rms_norm=lambda: filled(nn.RMSNorm(4)), rms_norm_two=lambda: nn.RMSNorm((5, 4), eps=1e-3))
same(ROWS, layer_norm_torch=lambda x: torch.layer_norm(x, [4], C, C), layer_norm_keywords=lambda x: F.layer_norm(x, normalized_shape=(4,), weight=C, bias=C),
     layer_norm_raw_keywords=lambda x: torch.layer_norm(input=x, normalized_shape=[4], weight=C, bias=C),
     layer_norm_aten=lambda x: aten.layer_norm.default(x, [4], C, C), layer_norm_native=lambda x: torch.native_layer_norm(x, [4], C, C, 1e-5)[0])
same(ROWS, rms=lambda x: F.rms_norm(x, (4,), C, 1e-6), rms_hand=lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * C,
     rms_torch=lambda x: torch.rms_norm(x, [4], C, 1e-6))
same(PICTURE, batch_norm=lambda x: F.batch_norm(x, C * 0.1, C.abs(), C, C), batch_norm_torch=lambda x: torch.batch_norm(x, C, C, C * 0.1, C.abs(), False, 0.1, 1e-5, False),
     batch_norm_aten=lambda x: aten.batch_norm.default(x, C, C, C * 0.1, C.abs(), False, 0.1, 1e-5, False),
     batch_norm_native=lambda x: aten._native_batch_norm_legit_no_training.default(x, C, C, C * 0.1, C.abs(), 0.1, 1e-5)[0])
same(PICTURE, instance_norm=lambda x: F.instance_norm(x, weight=C, bias=C), instance_norm_torch=lambda x: torch.instance_norm(x, C, C, None, None, True, 0.1, 1e-5, False))
same(PICTURE, group_norm_functional=lambda x: F.group_norm(x, 2, C, C), group_norm_keywords=lambda x: F.group_norm(x, num_groups=2, weight=C, bias=C),
     group_norm_torch=lambda x: torch.group_norm(x, 2, C, C), group_norm_native=lambda x: torch.native_group_norm(x, C, C, 3, 4, 36, 2, 1e-5)[0])
functions(ROWS, layer_norm_hand=lambda x: (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5), normalize=F.normalize,
          normalize_one=lambda x: F.normalize(x, p=1.0, dim=1), norm=lambda x: x.norm(dim=1, keepdim=True),
          norm_torch=lambda x: torch.norm(x, 2, 1, True), norm_three=lambda x: torch.norm(x, p=3, dim=1, keepdim=True),
          norm_greatest=lambda x: torch.linalg.vector_norm(x, float("inf"), dim=1, keepdim=True), norm_linalg=lambda x: torch.linalg.norm(x, dim=1, keepdim=True),
          norm_all=lambda x: torch.stack([r.norm() for r in x])[:, None], cosine=lambda x: F.cosine_similarity(x, x.flip(1), dim=1)[:, None],
          cosine_constant=lambda x: F.cosine_similarity(x, C[None], dim=-1)[:, None],
          pairwise_distance=lambda x: F.pairwise_distance(x, x.flip(1))[:, None], dist=lambda x: torch.stack([torch.dist(r, C) for r in x])[:, None],
          var=lambda x: x.var(1, keepdim=True), std=lambda x: torch.std(x, 1, keepdim=True), var_biased=lambda x: x.var(1, False, True),
          var_correction=lambda x: torch.var(x, 1, correction=0, keepdim=True), var_mean=lambda x: sum(torch.var_mean(x, 1, keepdim=True)),
          std_mean=lambda x: sum(torch.std_mean(x, 1, keepdim=True)), var_all=lambda x: torch.stack([r.var() for r in x])[:, None])

# ---------------------------------------------------------------- elementwise functions

WORDS_OF = {
    "functional": """relu relu6 hardtanh gelu silu mish hardswish hardsigmoid sigmoid tanh elu selu celu leaky_relu softplus softsign tanhshrink logsigmoid softshrink hardshrink rrelu""",
    "torch": "exp exp2 expm1 sin cos tanh atan asinh sinh cosh erf erfc sinc abs sign round floor frac nan_to_num deg2rad",
    "positive": "log log2 log10 log1p sqrt rsqrt reciprocal lgamma digamma",
    "in place": "ReLU ReLU6 Hardtanh SiLU Mish Hardswish Hardsigmoid ELU SELU CELU LeakyReLU RReLU Dropout",
}
NAMED = {kind: words.split() for kind, words in WORDS_OF.items()}
functions((3, 5), **{f"act_{a}": getattr(F, a) for a in NAMED["functional"]})
functions(ROWS,
          **{f"elementwise_{a}": getattr(torch, a) for a in NAMED["torch"]},
          **{f"positive_{a}": lambda x, a=a: getattr(torch, a)(x.abs() + 1) for a in NAMED["positive"]})
functions(ROWS, gelu_tanh=lambda x: F.gelu(x, approximate="tanh"), prelu=lambda x: F.prelu(x, C.abs()), threshold=lambda x: F.threshold(x, 0.1, 0.2), glu=F.glu,
          clamp=lambda x: x.clamp(-0.5, 0.5), clamp_max=lambda x: x.clamp_max(0.1), clamp_tensors=lambda x: x.clamp(C - 1, C + 1),
          clamp_live=lambda x: x.clamp(max=x.mean(1, keepdim=True)), logit=lambda x: x.sigmoid().logit(), logit_eps=lambda x: torch.logit(x.sigmoid(), 1e-3),
          atan2=lambda x: torch.atan2(x, C), softplus_beta=lambda x: F.softplus(x, 2, 1), swish=lambda x: x * x.sigmoid(),
          gelu_hand=lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)), minimum=lambda x: torch.minimum(x, C), fmin=lambda x: torch.fmin(x, x.flip(1)),
          fmod=lambda x: torch.fmod(x, 0.7), copysign=lambda x: torch.copysign(x, C), dropout=lambda x: F.dropout(x, 0.5, False),
          min_other=lambda x: torch.min(x, other=C), squared_error=lambda x: F.mse_loss(x, C.expand(3, 4), reduction="none"),
          absolute_error=lambda x: F.l1_loss(x, C.expand(3, 4), reduction="none"), cross_entropy=lambda x: F.cross_entropy(x, AT[:, 0], reduction="none")[:, None],
          logistic_loss=lambda x: F.binary_cross_entropy_with_logits(x, C.sigmoid().expand(3, 4), reduction="none"))
same(ROWS, maximum=lambda x: torch.maximum(x, x.flip(1)), maximum_max=lambda x: x.max(x.flip(1)), maximum_torch=lambda x: torch.max(x, x.flip(1)),
     maximum_fmax=lambda x: torch.fmax(x, x.flip(1)), maximum_keywords=lambda x: torch.max(x, other=x.flip(1)))
same(ROWS, relu=F.relu, relu_torch=torch.relu, relu_method=lambda x: x.relu(), relu_keywords=lambda x: torch.relu(input=x), relu_aten=lambda x: aten.relu.default(x),
     relu_module=nn.ReLU(), relu_clamp=lambda x: x.clamp(min=0), relu_clamp_min=lambda x: torch.clamp_min(x, 0),
     relu_clip=lambda x: torch.clip(x, 0), relu_threshold=lambda x: F.threshold(x, 0.0, 0.0), relu_leaky=lambda x: F.leaky_relu(x, 0.0), relu_written=written(torch.Tensor.relu_),
     relu_inplace=written(lambda y: F.relu(y, inplace=True)),
     relu_functional_written=written(F.relu_), relu_torch_written=written(torch.relu_), relu_aten_written=written(aten.relu_.default),
     relu_clamp_written=written(lambda y: y.clamp_(min=0)), relu_threshold_written=written(lambda y: F.threshold_(y, 0.0, 0.0)))
same(ROWS, hardtanh=lambda x: F.hardtanh(x, -0.5, 0.6), hardtanh_position=written(lambda y: F.hardtanh(y, -0.5, 0.6, True)),
     hardtanh_written=written(lambda y: F.hardtanh_(y, -0.5, 0.6)), hardtanh_module=nn.Hardtanh(-0.5, 0.6), hardtanh_clamp=lambda x: x.clamp(-0.5, 0.6),
     hardtanh_aten=lambda x: aten.hardtanh.default(x, -0.5, 0.6))
same(ROWS, sigmoid=torch.sigmoid, sigmoid_functional=F.sigmoid, sigmoid_method=lambda x: x.sigmoid(), sigmoid_special=torch.special.expit, sigmoid_written=written(torch.sigmoid_),
     sigmoid_module=nn.Sigmoid())
same(ROWS, silu=F.silu, silu_written=written(lambda y: F.silu(y, inplace=True)), silu_aten=lambda x: aten.silu.default(x),
     silu_aten_written=written(lambda y: aten.silu_.default(y)))
modules(ROWS,
        **{f"inplace_{m}": lambda m=m: nn.Sequential(nn.Linear(4, 4), getattr(nn, m)(inplace=True)) for m in NAMED["in place"]})
modules(ROWS, PReLU=nn.PReLU, GLU=nn.GLU, Threshold=lambda: nn.Threshold(0.1, -2.0), Identity=nn.Identity, AlphaDropout=nn.AlphaDropout)

# ---------------------------------------------------------------- written in place


def _operators(y: Any) -> None:
    y += C
    y *= 2
    y -= y.mean(1, keepdim=True)
    y /= 2
    y **= 2


def _items(y: Any) -> None:
    y[:, 1] = 3.0
    y[:, 2:] = y[:, :2] * 2
    y[0] = C
    y[:, KEPT] += 0.5


def _into_zeros(y: Any) -> Any:
    z = torch.zeros(3, 6).double()
    z[:, 1:5] = y.exp()
    z[:, [0, 5]] = y[:, :2]
    return z


def _on_view(y: Any) -> None:
    v = y[:, :2]
    v += 1


def _rectified_view(y: Any) -> Any:
    v = y[:, :2]
    v.relu_()
    return y * 2


def _below_view(y: Any) -> Any:
    v = y[:, :2]
    y.exp_()
    return v * 2


def _views_of_views(y: Any) -> Any:
    v = y.view(3, 2, 2)
    v[:, 0] *= y[:, 2:].clone()
    v[:, 1].tanh_()
    return y.exp() + v.reshape(3, 4)


def _expanded(y: Any) -> Any:
    z = y[:, None].expand(3, 2, 4).clone()
    z[:, 0].mul_(3.0)
    z += y[:, None]
    return z


def _slices(y: Any) -> Any:
    z = torch.zeros(3, 8).double()
    z[:, :4].copy_(y.tanh())
    z[:, 4:].add_(y)
    return z.sigmoid()


def _residual(y: Any) -> Any:
    z = F.linear(y, normal(4, 4), C)
    z.add_(y).relu_()
    return F.layer_norm(z, (4,)).relu_() + z


functions(ROWS,
          **{f"written{f.__name__}": written(f) for f in (_operators, _items, _into_zeros, _on_view, _rectified_view, _below_view, _views_of_views, _expanded, _slices, _residual)})
functions(ROWS, **{f"written_{n}": written(f) for n, f in {
    "tanh": lambda y: y.tanh_(), "exp": lambda y: y.exp_(), "abs": lambda y: y.abs_(), "sqrt": lambda y: y.abs_().add_(1).sqrt_(), "mul": lambda y: y.mul_(C),
    "div": lambda y: y.div_(2), "add_live": lambda y: y.add_(y.flip(1), alpha=2), "neg": lambda y: y.neg_().add_(1),
    "zero": lambda y: y[:, :2].zero_(), "fill": lambda y: y[:, :2].fill_(2.0), "zeroed_view": lambda y: (y[:, :2].zero_(), None)[1],
    "filled_view": lambda y: (y[:, :2].fill_(2.0), None)[1], "copy": lambda y: y.copy_(y.flip(1).exp()), "addcmul": lambda y: y.addcmul_(y, C),
    "addmm": lambda y: y[:, :3].addmm_(y.clone(), normal(4, 3)), "lerp": lambda y: y.lerp_(C.expand(3, 4), 0.3), "masked_fill": lambda y: y.masked_fill_(KEPT, 1.5),
    "transpose": lambda y: y.t_().t(), "elu": lambda y: F.elu_(y), "leaky": lambda y: F.leaky_relu_(y, 0.1),
    "celu": lambda y: F.celu_(y), "selu": lambda y: F.selu_(y), "rrelu": lambda y: F.rrelu_(y), "hardswish": lambda y: F.hardswish(y, inplace=True),
    "mish": lambda y: F.mish(y, inplace=True), "index_add": lambda y: y.index_add_(1, torch.tensor([0]), y[:, :1] * 2),
    "scatter": lambda y: y.scatter_(1, AT, 2.0), "cumsum": lambda y: y.cumsum_(1),
    "index_put": lambda y: y.index_put_((torch.arange(3), torch.arange(3)), torch.tensor(2.0).double()), "multiply": lambda y: y.multiply_(C),
    "unsqueeze": lambda y: y.unsqueeze_(1).squeeze_(1)}.items()})  # fmt: skip

# ---------------------------------------------------------------- what is picked

same(ROWS, max=lambda x: x.max(1)[0][:, None], max_values=lambda x: torch.max(x, dim=1, keepdim=True).values, max_amax=lambda x: x.amax(1, True),
     max_aten=lambda x: aten.amax.default(x, [1], True), max_rows=lambda x: torch.stack([r.max() for r in x])[:, None])
functions(ROWS, min=lambda x: torch.min(x, 1).values[:, None], amin=lambda x: torch.amin(x, (1,), True))
functions(ROWS, refused="masks", median=lambda x: x.median(1).values[:, None], topk=lambda x: x.topk(2, dim=1).values, sort=lambda x: x.sort(1).values,
          sort_down=lambda x: torch.sort(x, descending=True).values, kth=lambda x: x.kthvalue(2, 1).values[:, None],
          cummax=lambda x: x.cummax(1).values, best=lambda x: x.gather(1, x.topk(2, 1).indices), sorted_by_index=lambda x: x.gather(1, x.argsort(1)))
functions(ROWS, refused="no rule", quantile=lambda x: torch.quantile(x, 0.4, dim=1, keepdim=True), aminmax=lambda x: torch.aminmax(x, dim=1, keepdim=True).max)

# ---------------------------------------------------------------- recurrent networks and attention


def _timed(m: nn.Module, x: Any, start: bool = False, last: bool = False) -> Any:
    first = m.batch_first
    x = x if first else x.transpose(0, 1)
    h = normal(m.num_layers * (1 + m.bidirectional), 3, m.hidden_size)
    out, state = m(x, ((h, h / 2) if isinstance(m, nn.LSTM) else h) if start else None)
    if last:
        return (state[0] if isinstance(state, tuple) else state).transpose(0, 1)
    return out if first else out.transpose(0, 1)


def _packed(m: nn.Module, x: Any) -> Any:
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([3, 5, 2]), batch_first=True, enforce_sorted=False)
    return nn.utils.rnn.pad_packed_sequence(m(packed)[0], batch_first=True)[0]


def _stepped(m: nn.Module, x: Any) -> Any:
    state = None
    for t in x.unbind(1):
        state = m(t, state)
    return torch.cat(state, -1) if isinstance(state, tuple) else state


def _masked(m: nn.Module, x: Any) -> Any:
    return m(x, x, x, attn_mask=torch.ones(5, 5, dtype=torch.bool).triu(1), key_padding_mask=torch.zeros(3, 5, dtype=torch.bool))[0]


for net in (nn.LSTM, nn.GRU, nn.RNN):
    n = net.__name__.lower()
    modules(WORDS, **{n: around(lambda net=net: net(4, 3, batch_first=True), _timed), f"{n}_two_ways_two_layers_time_first": around(lambda net=net: net(4, 3, 2, bidirectional=True), _timed),
                      f"{n}_started": around(lambda net=net: net(4, 3, batch_first=True), functools.partial(_timed, start=True)),
                      f"{n}_last_state": around(lambda net=net: net(4, 3, 2, bias=False, batch_first=True), functools.partial(_timed, last=True))})
    modules(WORDS, mixed=True, **{f"{n}_packed": around(lambda net=net: net(4, 3, bidirectional=True, batch_first=True), _packed)})
modules(WORDS, rnn_relu=around(lambda: nn.RNN(4, 3, nonlinearity="relu", batch_first=True), _timed),
        lstm_projected=around(lambda: nn.LSTM(4, 3, proj_size=2, batch_first=True), _timed), lstm_cell=around(lambda: nn.LSTMCell(4, 3), _stepped),
        gru_cell=around(lambda: nn.GRUCell(4, 3), _stepped), rnn_cell=around(lambda: nn.RNNCell(4, 3), _stepped),
        rnn_cell_relu=around(lambda: nn.RNNCell(4, 3, nonlinearity="relu", bias=False), _stepped))
modules(WORDS, mixed=True, gru_unbatched=around(lambda: nn.GRU(4, 3), lambda m, x: torch.stack([m(r)[0] for r in x])),
        mha=around(lambda: nn.MultiheadAttention(4, 2, batch_first=True), lambda m, x: m(x, x, x)[0]),
        mha_fused=around(lambda: nn.MultiheadAttention(4, 2, batch_first=True), lambda m, x: m(x, x, x, need_weights=False)[0]),
        mha_masked=around(lambda: nn.MultiheadAttention(4, 2, batch_first=True), _masked),

        mha_added=around(lambda: nn.MultiheadAttention(4, 2, batch_first=True, add_bias_kv=True, add_zero_attn=True), lambda m, x: m(x, x, x)[0]))
modules(WORDS, mixed=True, encoder=lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2),
        encoder_normed_first=lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, norm_first=True, activation="gelu"), 1, enable_nested_tensor=False))
same(HEADS, sdpa=lambda q: F.scaled_dot_product_attention(q, q.flip(1), q.roll(1, 2)),
     sdpa_keywords=lambda q: F.scaled_dot_product_attention(query=q, key=q.flip(1), value=q.roll(1, 2)), sdpa_hand=lambda q: (q @ q.flip(1).mT / 2).softmax(-1) @ q.roll(1, 2),
     sdpa_aten=lambda q: aten.scaled_dot_product_attention.default(q, q.flip(1), q.roll(1, 2)))
same(HEADS, sdpa_causal=lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True),
     sdpa_masked=lambda q: F.scaled_dot_product_attention(q, q, q, torch.ones(5, 5, dtype=torch.bool).tril()),
     sdpa_causal_hand=lambda q: (q @ q.mT / 2).masked_fill(torch.ones(5, 5, dtype=torch.bool).triu(1), float("-inf")).softmax(-1) @ q)
functions(HEADS, sdpa_added=lambda q: F.scaled_dot_product_attention(q, q, q, normal(5, 5)), sdpa_scaled=lambda q: F.scaled_dot_product_attention(q, q, q, scale=0.3),
          sdpa_grouped=lambda q: F.scaled_dot_product_attention(q, q[:, :1], q[:, :1], enable_gqa=True),
          sdpa_constant=lambda q: F.scaled_dot_product_attention(q, normal(3, 2, 6, 4), normal(3, 2, 6, 4)),
          sdpa_live_mask=lambda q: F.scaled_dot_product_attention(q, q, q, q @ q.mT))

# ---------------------------------------------------------------- ways to call

PLAIN = lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.LayerNorm(4))  # noqa: E731
modules(ROWS, fx=lambda: torch.fx.symbolic_trace(PLAIN()),
        functional_call=around(PLAIN, lambda m, x: torch.func.functional_call(m, {k: v * 2 for k, v in m.state_dict().items()}, (x,))),
        checkpointed=around(PLAIN, lambda m, x: checkpoint(lambda y: m(y) * y.sigmoid(), x, use_reentrant=False)),
        weight_norm=lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), spectral_norm=lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)))

# ---------------------------------------------------------------- the rules


def identity(c):
    ratio = safe(c.output()) / safe(c.args[0].detach())
    return c.keep(c.output(), lambda g: (g * ratio,), c.args[0], conserves=True)


def share(c):
    n = len(c.live())

    def part(a):
        if isinstance(a, (list, tuple)):
            return type(a)(part(v) for v in a)
        return keep(a, lambda g: (g / n,), a) if isinstance(a, torch.Tensor) and a.requires_grad else a

    return c.run(*map(part, c.args)) if n > 1 else c.native()


CONSERVING = Rules(pointwise=identity, product=share, scale=lambda c: c.output(), softmax=lambda c: c.keep(c.output(), lambda g: vjp(c.run, c.args[:1], g), c.args[0]))
"""Of the kind of LRP-0: what passes is shared by what flowed forwards, and what a rule withholds is entered in the ledger."""


class Read(nn.Module):
    """One number a row of what a case gives, and of the point besides."""

    def __init__(self, f: Callable[..., Any], dtype: torch.dtype) -> None:
        super().__init__()
        self.f, self.dtype = f, dtype

    def forward(self, x: Any) -> Any:
        y = self.f(x * 1.25 - 0.1).flatten(1)
        return y @ torch.cos(torch.arange(y.shape[1]) * 1.7 + 0.3).to(self.dtype) + 0.1 * x.flatten(1).sum(1)


def network(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    return made(lambda: Read(CASES[name].build(), dtype), dtype=dtype).requires_grad_(False)


def point(name: str, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return normal(*CASES[name].shape, dtype=dtype)


@dataclass(frozen=True)
class Flow:
    """What one pass under rules gave."""

    out: torch.Tensor
    grad: torch.Tensor
    absorbed: torch.Tensor
    by_row: bool
    before: torch.Tensor | None = None


def under(rules: Rules, net: nn.Module, x: torch.Tensor, start: torch.Tensor | None = None) -> Flow:
    """One forward and backward pass of `net` under rules."""
    mode, leaf, before = rules.mode(dict(net.named_modules()), len(x)), x.clone().requires_grad_(), None
    with mode:
        if start is not None:
            with mode.recording():
                before = net(start.clone().requires_grad_())
        out = net(leaf)
    mode.check([out])
    (g,) = torch.autograd.grad(out.sum(), leaf)
    return Flow(out.detach(), g, sum(mode.ledger.take().values(), torch.zeros(len(x)).to(x)), mode.ledger.by_row, None if before is None else before.detach())


# ---------------------------------------------------------------- the tests


def plain_rules_are_the_plain_gradient(net, x, _):
    leaf = x.clone().requires_grad_()
    out = net(leaf)
    (want,) = torch.autograd.grad(out.sum(), leaf)
    got = under(Rules(), net, x)
    torch.testing.assert_close(got.out, out.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got.grad, want, rtol=1e-9, atol=1e-11)
    assert want.abs().max() > 1e-3


def relevance_and_what_was_absorbed_make_up_the_answer(net, x, case):
    got = under(CONSERVING, net, x)
    torch.testing.assert_close(got.out, net(x), rtol=1e-12, atol=1e-12)
    relevance = (safe(x) * got.grad).flatten(1).sum(1) + got.absorbed
    if case.mixed:
        torch.testing.assert_close(relevance.sum(), got.out.sum(), rtol=1e-9, atol=1e-9)
    else:
        assert got.by_row
        torch.testing.assert_close(relevance, got.out, rtol=1e-9, atol=1e-9)


def secants_are_complete_or_refuse(net, x, case):
    start = normal(*case.shape, seed=5)
    if case.refused:
        with pytest.raises(NotApplicable, match=case.refused):
            under(RESCALE, net, x, start)
        return
    got = under(RESCALE, net, x, start)
    torch.testing.assert_close(got.out, net(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got.before, net(start), rtol=1e-12, atol=1e-12)
    gap = ((x - start) * got.grad).flatten(1).sum(1) - (got.out - got.before)
    assert float(gap.sum().abs() if case.mixed else gap.abs().max()) < 1e-9


@pytest.mark.parametrize("name", CASES)
def test_every_rule_holds(name):
    net, x = network(name), point(name)
    plain_rules_are_the_plain_gradient(net, x, CASES[name])
    relevance_and_what_was_absorbed_make_up_the_answer(net, x, CASES[name])
    secants_are_complete_or_refuse(net, x, CASES[name])


@pytest.mark.parametrize("family", SPELT)
def test_spellings_of_one_operation_share_relevance_alike(family):
    """Under secant rules, which know no difference between a fused operation and its parts."""
    x, start = point(family), normal(*CASES[family].shape, seed=5)
    want = under(RESCALE, network(family), x, start)
    for name in SPELT[family][1:]:
        got = under(RESCALE, network(name), x, start)
        torch.testing.assert_close(got.out, want.out, rtol=1e-10, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")
        torch.testing.assert_close(got.grad, want.grad, rtol=1e-8, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")


HALF = ["conv2d_normed", "linear_normed", "max_pool2d", "softmax", "log_softmax", "layer_norm", "rms_norm",
        "group_norm", "gru", "lstm", "encoder", "sdpa", "act_gelu", "act_silu", "normalize", "div", "cosine"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", HALF)
def test_half_precision_stays_finite(name, dtype):
    net, x, start = network(name, dtype), point(name, dtype), normal(*CASES[name].shape, seed=5, dtype=dtype)
    for rules, against in ((CONSERVING, None), (RESCALE, start)):
        got = under(rules, net, x, against)
        assert got.grad.isfinite().all()
        assert got.absorbed.isfinite().all()


# ---------------------------------------------------------------- refusals


def _elsewhere(x):
    found = []

    def work():
        with torch.enable_grad():
            found.append(F.relu(x))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]


REFUSED = {
    "prod": (lambda: lambda x: x.prod(1, keepdim=True).expand(-1, 4), "operation 'prod' in module 'inner'"),
    "cumprod": (lambda: lambda x: torch.cumprod(x, 1), "operation 'cumprod' in module 'inner'"),
    "fft": (lambda: lambda x: torch.fft.fft(x).real, "operation 'fft_fft' in module 'inner'"),
    "complex numbers": (lambda: lambda x: x.to(torch.complex128).exp().real, "real numbers; got complex ones in module 'inner'"),
    "script": (lambda: torch.jit.script(nn.ReLU()), "ReluBackward0"),
    "trace": (lambda: torch.jit.trace(nn.ReLU(), torch.ones(3, 4)), "ReluBackward0"),
    "autograd.Function": (lambda: Hidden.apply, "HiddenBackward"),
    "thread": (lambda: _elsewhere, "another thread"),
    "dropout in attention": (lambda: lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None], dropout_p=0.5)[0], "attention without dropout"),
    "bag of maxima": (lambda: lambda x: F.embedding_bag(AT, x[:, :, None].sum(0), mode="max").expand(-1, 4), "embedding_bag with mode sum or mean; module 'inner'"),
    "scattered maxima": (lambda: lambda x: torch.zeros(3, 4).double().scatter_reduce(1, AT.expand(3, 4), x, "amax"), "scatter_reduce with sum or mean; module 'inner'"),
    "live grid": (lambda: lambda x: F.grid_sample(normal(3, 1, 2, 2), x.reshape(3, 1, 2, 2), align_corners=False).reshape(3, 2).repeat(1, 2), "grid_sample with a grid"),
    "rounded division": (lambda: lambda x: torch.div(x, x.abs() + 1, rounding_mode="floor"), "division without rounding"),
}


class Inner(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


class Odd(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.a, self.inner, self.b = nn.Linear(4, 4), Inner(f), nn.Linear(4, 2)

    def forward(self, x):
        return self.b(self.inner(self.a(x)))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_no_rule_explains_is_refused_and_leaves_no_trace(name):
    build, words = REFUSED[name]
    net, x = made(lambda: Odd(build())), normal(3, 4)
    before, known = {n: (t.clone(), t._version, t.requires_grad) for n, t in net.named_parameters()}, x.clone()
    q = ask(wrap(net), x, [0, 1, 0]).with_rules(CONSERVING)
    with pytest.raises(NotApplicable) as e:
        q.grad()
    assert words in str(e.value)
    assert any(do in str(e.value) for do in ("Use", "Put", "Give")) or name in ("bag of maxima", "scattered maxima", "live grid", "rounded division")
    for n, t in net.named_parameters():
        value, version, flag = before[n]
        assert torch.equal(t, value)
        assert (t._version, t.requires_grad, t.grad) == (version, flag, None)
    assert torch.equal(x, known)
    assert not x.requires_grad
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in net.modules())
    assert torch.overrides._get_current_function_mode_stack() == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_children_run_as_they_are_written():
    net, x = made(lambda: Odd(torch.compile(nn.Sequential(nn.Linear(4, 4), nn.GELU()), backend="eager"))), normal(3, 4)
    q = ask(wrap(net), x, [0, 1, 0])
    torch.testing.assert_close(q.with_rules(Rules()).grad(), q.grad(), rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_exported_programs_are_rows_of_core_operations():
    net, x = made(lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.GELU(), nn.Softmax(-1))), normal(3, 4)
    exported = torch.export.export(net, (x,)).run_decompositions().module()
    leaf = x.clone().requires_grad_()
    (want,) = torch.autograd.grad(net(leaf)[:, 0].sum(), leaf)
    torch.testing.assert_close(under(Rules(), Inner(lambda v: exported(v)[:, 0]), x).grad, want, rtol=1e-9, atol=1e-12)
