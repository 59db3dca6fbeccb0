"""Vectors of rows for numba: it cannot prove that its arrays are apart and would not vectorize, so the few operations that matter say so themselves.

Every operation reads and writes LANES numbers at offsets of one flat workspace. Change VERSION with any change here: numba's cache does not see it.
"""

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16
"""Rows at once; a constant when the kernels are compiled."""
VERSION = 1

jit = numba.njit(cache=True, error_model="numpy")
jit_free = numba.njit(cache=True, error_model="numpy", nogil=True)
"""Runs beside other threads: callers share out the rows, which costs half the time to compile that numba's own parallel loops do."""


def _fused(b: Any, x: Any, y: Any, z: Any) -> Any:
    """x y + z, in one rounding where the machine can."""
    return b.fadd(b.fmul(x, y, flags=["contract"]), z, flags=["contract"])


def _lanes(vectors: int, scalars: int, body: Callable[..., Any]) -> Any:
    """`f(workspace, (offsets, ...), (scalars, ...))`: what `body` makes of the vectors there is stored at the first offset."""

    @intrinsic  # type: ignore[misc, untyped-decorator, unused-ignore]
    def operation(context: Any, workspace: Any, offsets: Any, numbers: Any) -> Any:
        def emit(ctx: Any, b: Any, signature: Any, args: Any) -> Any:
            wide = ir.VectorType(ir.DoubleType(), LANES)
            data = ctx.make_array(signature.args[0])(ctx, b, args[0]).data
            where = [b.bitcast(b.gep(data, [b.extract_value(args[1], i)]), wide.as_pointer()) for i in range(vectors)]
            read = [b.load(p, align=8) for p in where]
            spread = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            empty, first = ir.Constant(wide, ir.Undefined), ir.Constant(ir.IntType(32), 0)
            given = [b.shuffle_vector(b.insert_element(empty, b.extract_value(args[2], i), first), empty, spread) for i in range(scalars)]
            b.store(body(b, read, given, wide), where[0], align=8)
            return ctx.get_dummy_value()

        return types.void(workspace, offsets, numbers), emit

    return operation


def _left(b: Any, v: Any, s: Any, wide: Any) -> Any:
    zero = ir.Constant(wide, [0.0] * LANES)
    missing = b.and_(b.fcmp_unordered("uno", v[1], v[1]), b.fcmp_ordered(">", s[1], zero))
    return b.uitofp(b.or_(b.fcmp_ordered("<=", v[1], s[0]), missing), wide)


goes_left = _lanes(2, 2, _left)
"""to = 1 where x <= s0, or x is NaN and s1 is 1; else 0."""
weigh = _lanes(4, 3, lambda b, v, s, _: b.fmul(v[1], _fused(b, v[3], s[2], _fused(b, v[2], s[1], s[0]))))
"""to = x (s0 + s1 y + s2 z)."""
carry = _lanes(2, 2, lambda b, v, s, _: _fused(b, v[1], s[1], b.fmul(v[0], s[0])))
"""to = s0 to + s1 x."""
meet = _lanes(3, 2, lambda b, v, s, _: _fused(b, b.fmul(v[1], v[2]), s[1], b.fmul(v[1], s[0])))
"""to = x (s0 + s1 y)."""
hand_out = _lanes(4, 4, lambda b, v, s, _: _fused(b, b.fsub(b.fmul(v[1], s[0]), b.fmul(v[2], s[1])), _fused(b, v[3], s[3], s[2]), v[0]))
"""to += (s0 x - s1 y) (s2 + s3 z)."""
line = _lanes(2, 2, lambda b, v, s, _: _fused(b, v[1], s[1], s[0]))
"""to = s0 + s1 x."""
dot = _lanes(3, 1, lambda b, v, s, _: _fused(b, b.fmul(v[1], v[2]), s[0], v[0]))
"""to += s0 x y."""
