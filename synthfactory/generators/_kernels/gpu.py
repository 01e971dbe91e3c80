"""CTGAN's loops on a GPU: what stands between two matrix products, in one launch each.

A step of a small network on a GPU is a chain of launches, each of which takes a microsecond or more
however little it does.  Importing this imports triton, which torch brings along on Linux; each
kernel is compiled at its first call and kept on disk (Triton's own cache).  With
``TRITON_INTERPRET=1`` set before the import they run on a processor, slowly, for tests.

Tensors are of float32 or, where a matrix product reads or writes them, of bfloat16; a kernel reads
either and computes in float32.  They are in one piece, except that the members of a step's numbers
(``uniform``, ``share``, ``mask``) may lie apart.

Shapes: K members, B batch rows, M numeric columns, S spans, W width of the logits, V = W - M,
U units of the generator's buffer, H a hidden width, J width of the features, F = J and the
conditions', P rows of a pac, G = B / P pacs, C columns that go through the critic together,
X = F P, L levels of all discrete columns.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

# Rows of the critic's input, and columns, that one program looks at.
CHUNK_ROWS = 32
CHUNK_PACS = 64
# The lower of a tile's two heights, in codes, and its numbers.
LOW = 16
TILE = 1024
FLAT = 1024


def warps_of(numbers: int) -> int:
    """How many warps look at so many numbers."""
    return 8 if numbers >= 4096 else 4 if numbers >= 512 else 2


# The generator's blocks.


@triton.jit
def _normalise(
    sums, gain, bias, epsilon, normed, scales, units, n_hidden, n_units, start, n_rows,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    k, h = row // n_hidden, row % n_hidden
    b = tl.arange(0, BLOCK)
    inside = b < n_rows
    sum_B = tl.load(sums + row * n_rows + b, mask=inside, other=0.0).to(tl.float32)
    centred_B = tl.where(inside, sum_B - tl.sum(sum_B, axis=0) / n_rows, 0.0)
    variance = tl.sum(centred_B * centred_B, axis=0) / n_rows
    scale = 1.0 / tl.sqrt(variance + epsilon)
    normed_B = centred_B * scale
    unit_B = normed_B * tl.load(gain + row) + tl.load(bias + row)
    # A comparison that lets pass what is no number.
    unit_B = tl.where(unit_B < 0.0, 0.0, unit_B)
    tl.store(scales + row, scale)
    tl.store(normed + row * n_rows + b, normed_B, mask=inside)
    tl.store(units + (k * n_units + start + h) * n_rows + b, unit_B, mask=inside)


def normalise(
    sums_KHB: Tensor, gain_KH: Tensor, bias_KH: Tensor, epsilon: float, start: int,
    normed_KHB: Tensor, scales_KH: Tensor, units_KUB: Tensor,
) -> None:  # fmt: skip
    """Batch normalisation and ReLU, into the units from ``start`` on."""
    n_members, n_hidden, n_rows = sums_KHB.shape
    block = triton.next_power_of_2(n_rows)
    _normalise[(n_members * n_hidden,)](
        sums_KHB, gain_KH, bias_KH, float(epsilon), normed_KHB, scales_KH, units_KUB, n_hidden,
        units_KUB.shape[1], start, n_rows, BLOCK=block, num_warps=warps_of(block),
    )  # fmt: skip


@triton.jit
def _normalise_backward(
    d_units, gain, bias, normed, scales, d_gain, d_bias, d_sums, n_hidden, n_units, start, n_rows,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    k, h = row // n_hidden, row % n_hidden
    b = tl.arange(0, BLOCK)
    inside = b < n_rows
    place = (k * n_units + start + h) * n_rows + b
    d_unit_B = tl.load(d_units + place, mask=inside, other=0.0).to(tl.float32)
    normed_B = tl.load(normed + row * n_rows + b, mask=inside, other=0.0)
    factor = tl.load(gain + row)
    d_unit_B = tl.where(normed_B * factor + tl.load(bias + row) <= 0.0, 0.0, d_unit_B)
    by_gain, by_bias = tl.sum(d_unit_B * normed_B, axis=0), tl.sum(d_unit_B, axis=0)
    tl.store(d_gain + row, by_gain)
    tl.store(d_bias + row, by_bias)
    # (Ioffe and Szegedy 2015, arXiv 1502.03167, section 3).
    d_sum_B = d_unit_B - (normed_B * (by_gain / n_rows) + by_bias / n_rows)
    d_sum_B *= factor * tl.load(scales + row)
    tl.store(d_sums + row * n_rows + b, d_sum_B, mask=inside)


def normalise_backward(
    d_units_KUB: Tensor, gain_KH: Tensor, bias_KH: Tensor, start: int, normed_KHB: Tensor,
    scales_KH: Tensor, d_gain_KH: Tensor, d_bias_KH: Tensor, d_sums_KHB: Tensor,
) -> None:  # fmt: skip
    """The gradients at what `normalise` read."""
    n_members, n_hidden, n_rows = normed_KHB.shape
    block = triton.next_power_of_2(n_rows)
    _normalise_backward[(n_members * n_hidden,)](
        d_units_KUB, gain_KH, bias_KH, normed_KHB, scales_KH, d_gain_KH, d_bias_KH, d_sums_KHB,
        n_hidden, d_units_KUB.shape[1], start, n_rows, BLOCK=block, num_warps=warps_of(block),
    )  # fmt: skip


# The critic's layers.


@triton.jit
def _activate(
    sums, bias, share, mask, out_weight, directions, local, units, d_sums, d_bias, scored,
    share_stride, mask_stride, n_hidden, n_given, n_pacs, n_columns, n_judged, n_scored, leak,
    BETWEEN: tl.constexpr, MASKED: tl.constexpr, LAST: tl.constexpr, JUDGED: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    k, h = row // n_hidden, row % n_hidden
    c = tl.arange(0, BLOCK)
    inside = c < n_columns
    sum_C = tl.load(sums + row * n_given + c, mask=c < n_given, other=0.0).to(tl.float32)
    if BETWEEN:
        # Sums of points between real and fake pacs are made of theirs.
        between, g = (c >= n_given) & inside, c - n_given
        real_C = tl.load(sums + row * n_given + g, mask=between, other=0.0).to(tl.float32)
        fake_C = tl.load(sums + row * n_given + n_pacs + g, mask=between, other=0.0).to(tl.float32)
        share_C = tl.load(share + k * share_stride + g, mask=between, other=0.0)
        sum_C = tl.where(between, fake_C + share_C * (real_C - fake_C), sum_C)
    sum_C += tl.load(bias + row)
    local_C = tl.where(sum_C > 0.0, 1.0, leak)
    if MASKED:
        place = k * mask_stride + h * n_columns + c
        local_C *= tl.load(mask + place, mask=inside, other=0.0)
    unit_C = sum_C * local_C
    tl.store(local + row * n_columns + c, local_C, mask=inside)
    tl.store(units + row * n_columns + c, unit_C, mask=inside)
    if LAST:
        direction_C = tl.load(directions + c, mask=inside, other=0.0)
        weight = tl.load(out_weight + row)
        d_sum_C = weight * direction_C * local_C
        tl.store(d_sums + row * n_columns + c, d_sum_C, mask=inside)
        if JUDGED:
            tl.store(d_bias + row, tl.sum(tl.where(c < n_judged, d_sum_C, 0.0), axis=0))
        score_C = tl.where(c < n_scored, direction_C * unit_C, 0.0)
        tl.store(scored + row, weight * tl.sum(score_C, axis=0))


def activate(
    sums_KHC: Tensor, bias_KH: Tensor, share_KG: Tensor | None, mask_KHC: Tensor | None,
    leak: float, local_KHC: Tensor, units_KHC: Tensor, last: tuple[Any, ...] | None = None,
    n_judged: int = 0,
) -> None:  # fmt: skip
    """Bias, leaky ReLU and dropout; ``local_KHC`` is what the last two multiply a sum by.

    With shares the sums of points between real and fake pacs are made of theirs, and follow them.

    Parameters
    ----------
    last
        Of the last layer: the weights of the score, what each column's score adds to the loss,
        where the gradients at sums and at the bias go, and, for each unit, its part of the loss.
    n_judged
        Columns that count for the gradient of the bias, and for the loss; 0 for all of them in the
        loss, without a gradient of the bias.
    """
    n_members, n_hidden, n_columns = local_KHC.shape
    n_given = sums_KHC.shape[2]
    block = triton.next_power_of_2(n_columns)
    weight, directions, d_sums, d_bias, scored = last or (bias_KH,) * 5
    _activate[(n_members * n_hidden,)](
        sums_KHC, bias_KH, bias_KH if share_KG is None else share_KG,
        bias_KH if mask_KHC is None else mask_KHC, weight, directions, local_KHC, units_KHC,
        d_sums, d_bias, scored, 0 if share_KG is None else share_KG.stride(0),
        0 if mask_KHC is None else mask_KHC.stride(0), n_hidden, n_given, n_columns - n_given,
        n_columns, n_judged, n_judged or n_columns, float(leak), BETWEEN=share_KG is not None,
        MASKED=mask_KHC is not None, LAST=last is not None, JUDGED=n_judged > 0, BLOCK=block,
        num_warps=warps_of(block),
    )  # fmt: skip


@triton.jit
def _activate_backward(
    d_units, local, d_sums, d_bias, n_columns, n_judged, JUDGED: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BLOCK)
    inside = c < n_columns
    place = row * n_columns + c
    d_sum_C = tl.load(d_units + place, mask=inside, other=0.0).to(tl.float32)
    d_sum_C *= tl.load(local + place, mask=inside, other=0.0)
    tl.store(d_sums + place, d_sum_C, mask=inside)
    if JUDGED:
        tl.store(d_bias + row, tl.sum(tl.where(c < n_judged, d_sum_C, 0.0), axis=0))


def activate_backward(
    d_units_KHC: Tensor, local_KHC: Tensor, n_judged: int, d_sums_KHC: Tensor, d_bias_KH: Tensor
) -> None:
    """The gradient at the sums, and at the bias, where columns are judged."""
    n_members, n_hidden, n_columns = local_KHC.shape
    block = triton.next_power_of_2(n_columns)
    _activate_backward[(n_members * n_hidden,)](
        d_units_KHC, local_KHC, d_sums_KHC, d_bias_KH, n_columns, n_judged, JUDGED=n_judged > 0,
        BLOCK=block, num_warps=warps_of(block),
    )  # fmt: skip


@triton.jit
def _measure(
    slopes, partial, n_inputs, n_pacs, n_chunks, ROUNDS: tl.constexpr, ROWS: tl.constexpr,
    PACS: tl.constexpr,
):  # fmt: skip
    k, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    g = tl.program_id(2) * PACS + tl.arange(0, PACS)
    squares_G = tl.zeros([PACS], tl.float32)
    for turn in range(ROUNDS):
        i = (chunk * ROUNDS + turn) * ROWS + tl.arange(0, ROWS)
        inside = (i < n_inputs)[:, None] & (g < n_pacs)[None, :]
        place = (k * n_inputs + i[:, None]) * n_pacs + g[None, :]
        slope_IG = tl.load(slopes + place, mask=inside, other=0.0).to(tl.float32)
        squares_G += tl.sum(slope_IG * slope_IG, axis=0)
    tl.store(partial + (k * n_chunks + chunk) * n_pacs + g, squares_G, mask=g < n_pacs)


@triton.jit
def _pull(
    slopes, partial, x, penalties, pull, n_inputs, n_pacs, n_chunks, ROUNDS: tl.constexpr,
    ROWS: tl.constexpr, PACS: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    k, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    g = tl.program_id(2) * PACS + tl.arange(0, PACS)
    parts = tl.arange(0, CHUNKS)
    known = (parts < n_chunks)[:, None] & (g < n_pacs)[None, :]
    place = (k * n_chunks + parts[:, None]) * n_pacs + g[None, :]
    norm_G = tl.sqrt(tl.sum(tl.load(partial + place, mask=known, other=0.0), axis=0))
    norm_G = tl.where(norm_G < 1e-12, 1e-12, norm_G)
    if chunk == 0:
        above_G = norm_G - 1.0
        tl.store(penalties + k * n_pacs + g, above_G * above_G, mask=g < n_pacs)
    factor_G = (1.0 - 1.0 / norm_G) * pull
    for turn in range(ROUNDS):
        i = (chunk * ROUNDS + turn) * ROWS + tl.arange(0, ROWS)
        inside = (i < n_inputs)[:, None] & (g < n_pacs)[None, :]
        row = k * n_inputs + i[:, None]
        slope_IG = tl.load(slopes + row * n_pacs + g[None, :], mask=inside, other=0.0)
        pulled_IG = slope_IG.to(tl.float32) * factor_G[None, :]
        tl.store(x + (row * 3 + 2) * n_pacs + g[None, :], pulled_IG, mask=inside)


def chunks_of(n_inputs: int) -> tuple[int, int]:
    """Rounds of a program of `pull`, and how many programs share the inputs: 128 at most."""
    rounds = triton.next_power_of_2(max(1, -(-n_inputs // (128 * CHUNK_ROWS))))
    return rounds, -(-n_inputs // (rounds * CHUNK_ROWS))


def pull(
    slopes_KXG: Tensor, penalty: float, x_KX3G: Tensor, penalties_KG: Tensor, partial: Tensor
) -> None:
    """Each pac's squared distance of the slope's norm from 1, and the penalty's gradient at the
    slopes in the last third of each row of ``x``.

    ``partial`` is a place for **shape** (K, chunks, G), see `chunks_of`.
    """
    n_members, n_inputs, n_pacs = slopes_KXG.shape
    rounds, n_chunks = chunks_of(n_inputs)
    grid = (n_members, n_chunks, -(-n_pacs // CHUNK_PACS))
    sizes = {"ROUNDS": rounds, "ROWS": CHUNK_ROWS, "PACS": CHUNK_PACS}
    _measure[grid](slopes_KXG, partial, n_inputs, n_pacs, n_chunks, **sizes, num_warps=4)
    _pull[grid](
        slopes_KXG, partial, x_KX3G, penalties_KG, 2.0 * float(penalty) / n_pacs, n_inputs, n_pacs,
        n_chunks, **sizes, CHUNKS=triton.next_power_of_2(n_chunks), num_warps=8,
    )  # fmt: skip


@triton.jit
def _replace_between(pulled, local, units, n_pacs, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    g = tl.arange(0, BLOCK)
    inside = g < n_pacs
    place = (row * 3 + 2) * n_pacs + g
    pulled_G = tl.load(pulled + row * n_pacs + g, mask=inside, other=0.0).to(tl.float32)
    unit_G = pulled_G * tl.load(local + place, mask=inside, other=0.0)
    tl.store(units + place, unit_G, mask=inside)


def replace_between(pulled_KHG: Tensor, local_KHC: Tensor, units_KHC: Tensor) -> None:
    """Units of points between become what a layer makes of the pulled slope."""
    n_members, n_hidden, n_pacs = pulled_KHG.shape
    block = triton.next_power_of_2(n_pacs)
    _replace_between[(n_members * n_hidden,)](
        pulled_KHG, local_KHC, units_KHC, n_pacs, BLOCK=block, num_warps=warps_of(block)
    )


@triton.jit
def _score_gradient(pulled, local, units, directions, d_weight, n_pacs, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BLOCK)
    given, between = c < 2 * n_pacs, (c >= 2 * n_pacs) & (c < 3 * n_pacs)
    unit_C = tl.load(units + row * 3 * n_pacs + c, mask=given, other=0.0)
    place = row * n_pacs + c - 2 * n_pacs
    pulled_C = tl.load(pulled + place, mask=between, other=0.0).to(tl.float32)
    local_C = tl.load(local + row * 3 * n_pacs + c, mask=between, other=0.0)
    direction_C = tl.load(directions + c, mask=c < 3 * n_pacs, other=0.0)
    total = tl.sum((unit_C + pulled_C * local_C) * direction_C, axis=0)
    tl.store(d_weight + row, total)


def score_gradient(
    pulled_KHG: Tensor, local_KHC: Tensor, units_KHC: Tensor, directions_C: Tensor,
    d_weight_KH: Tensor,
) -> None:  # fmt: skip
    """The gradient of what makes scores of the last units, with `replace_between` of them."""
    n_members, n_hidden, n_pacs = pulled_KHG.shape
    block = triton.next_power_of_2(3 * n_pacs)
    _score_gradient[(n_members * n_hidden,)](
        pulled_KHG, local_KHC, units_KHC, directions_C, d_weight_KH, n_pacs, BLOCK=block,
        num_warps=warps_of(block),
    )  # fmt: skip


# Rows.
#
# A program sees one span of some rows.  Most spans are short and few are long, so that a kernel is
# compiled for two heights of its tile, and each program takes the lower one where that will do.


@triton.jit
def _write_span(
    codes, scalars, x, span, start, size, first, n_numeric, n_rows, n_pacs, n_in_pac,
    CODES: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    # The pointers are this member's.
    b, w = first + tl.arange(0, ROWS), tl.arange(0, CODES)
    here = b < n_rows
    row_B = (b // n_pacs) * 3 * n_pacs + b % n_pacs
    apart = n_in_pac * 3 * n_pacs
    code_B = tl.load(codes + span * n_rows + b, mask=here, other=-1).to(tl.int32)
    inside = (w < size)[:, None] & here[None, :]
    place_VB = row_B[None, :] + (start + w)[:, None] * apart
    tl.store(x + place_VB, tl.where(w[:, None] == code_B[None, :], 1.0, 0.0), mask=inside)
    if span < n_numeric:
        scalar_B = tl.load(scalars + span * n_rows + b, mask=here, other=0.0)
        tl.store(x + row_B + span * apart, scalar_B, mask=here)


@triton.jit
def _write_known(
    codes, scalars, pairs, before, starts, sizes, inputs, x, inputs_stride, n_numeric, n_spans,
    n_features, n_all, n_levels, n_noise, n_rows, n_pacs, LOW: tl.constexpr, HIGH: tl.constexpr,
    TILE: tl.constexpr,
):  # fmt: skip
    block, span, k = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    n_in_pac = n_rows // n_pacs
    apart = n_in_pac * 3 * n_pacs
    codes += k * n_spans * n_rows
    scalars += k * n_numeric * n_rows
    x += k * n_all * apart
    if span < n_spans:
        start = tl.load(starts + span).to(tl.int32)
        size = tl.load(sizes + span).to(tl.int32)
        if size <= LOW:
            first = block * (TILE // LOW)
            if first < n_rows:
                _write_span(
                    codes, scalars, x, span, start, size, first, n_numeric, n_rows, n_pacs,
                    n_in_pac, CODES=LOW, ROWS=TILE // LOW,
                )  # fmt: skip
        else:
            first = block * (TILE // HIGH)
            _write_span(
                codes, scalars, x, span, start, size, first, n_numeric, n_rows, n_pacs, n_in_pac,
                CODES=HIGH, ROWS=TILE // HIGH,
            )  # fmt: skip
    else:
        first = block * (TILE // LOW)
        if first < n_rows:
            b, level = first + tl.arange(0, TILE // LOW), (span - n_spans) * LOW + tl.arange(0, LOW)
            here = b < n_rows
            inside = (level < n_levels)[:, None] & here[None, :]
            fake_B = tl.load(pairs + k * n_rows + b, mask=here, other=-1).to(tl.int32)
            real_B = tl.load(before + k * n_rows + b, mask=here, other=-1).to(tl.int32)
            is_fake = tl.where(level[:, None] == fake_B[None, :], 1.0, 0.0)
            is_real = tl.where(level[:, None] == real_B[None, :], 1.0, 0.0)
            row_B = (b // n_pacs) * 3 * n_pacs + b % n_pacs
            place_VB = row_B[None, :] + (n_features + level)[:, None] * apart
            tl.store(x + place_VB, is_real, mask=inside)
            tl.store(x + place_VB + n_pacs, is_fake, mask=inside)
            place_VB = (n_noise + level)[:, None] * n_rows + b[None, :]
            tl.store(inputs + k * inputs_stride + place_VB, is_fake, mask=inside)


def write_known(
    codes_KSB: Tensor, scalars_KMB: Tensor, pairs_KB: Tensor | None, before_KB: Tensor | None,
    starts_S: Tensor, sizes_S: Tensor, widest: int, n_levels: int, inputs_KIB: Tensor,
    x_KFP3G: Tensor,
) -> None:  # fmt: skip
    """Real rows, and the one-hot conditions in the generator's input and beside both sorts of rows.

    ``pairs_KB`` are the conditions of fake rows, ``before_KB`` those of real ones.
    """
    n_members, n_all, n_in_pac, _, n_pacs = x_KFP3G.shape
    n_spans, n_rows = codes_KSB.shape[1], n_in_pac * n_pacs
    tile, n_blocks = tile_of(widest, n_rows)
    nothing = codes_KSB
    _write_known[(n_blocks, n_spans + -(-n_levels // tile["LOW"]), n_members)](
        codes_KSB, scalars_KMB, nothing if pairs_KB is None else pairs_KB,
        nothing if before_KB is None else before_KB, starts_S, sizes_S, inputs_KIB, x_KFP3G,
        inputs_KIB.stride(0), scalars_KMB.shape[1], n_spans, n_all - n_levels, n_all, n_levels,
        inputs_KIB.shape[1] - n_levels, n_rows, n_pacs, **tile, num_warps=4,
    )  # fmt: skip


def tile_of(widest: int, n_rows: int) -> tuple[dict[str, int], int]:
    """The heights of a tile, its size, and how many are needed for all rows."""
    high = max(LOW, triton.next_power_of_2(widest))
    tile = max(TILE, 4 * high)
    return {"LOW": LOW, "HIGH": high, "TILE": tile}, -(-n_rows // (tile // high))


@triton.jit
def _draw_span(
    logits, uniform, shares, scalars, present, x, count, span, start, size, first, n_numeric,
    n_rows, n_pacs, n_in_pac, warmth, CODES: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    b, w = first + tl.arange(0, ROWS), tl.arange(0, CODES)
    here = b < n_rows
    row_B = ((b // n_pacs) * 3 + 1) * n_pacs + b % n_pacs
    apart = n_in_pac * 3 * n_pacs
    own = (w < size)[:, None]
    inside = own & here[None, :]
    logit_VB = tl.load(logits + (start + w)[:, None] * n_rows + b[None, :], mask=inside, other=0.0)
    place_VB = (start - n_numeric + w)[:, None] * n_rows + b[None, :]
    chance_VB = tl.load(uniform + place_VB, mask=inside, other=0.5)
    chance_VB = -tl.log(tl.where(chance_VB < 1e-20, 1e-20, chance_VB))
    chance_VB = tl.log(tl.where(chance_VB < 1e-20, 1e-20, chance_VB))
    noisy_VB = tl.where(own, (logit_VB - chance_VB) * warmth, -3e38)
    below_VB = noisy_VB - tl.max(noisy_VB, axis=0)[None, :]
    # Exactly 0 for codes that a member does not have: Adam makes much of little.
    share_VB = tl.where(below_VB < -87.0, 0.0, tl.exp(below_VB))
    share_VB = share_VB / tl.sum(share_VB, axis=0)[None, :]
    tl.store(shares + place_VB, share_VB, mask=inside)
    tl.store(x + row_B[None, :] + (start + w)[:, None] * apart, share_VB, mask=inside)
    if span < n_numeric:
        place_B = span * n_rows + b
        power_B = tl.exp(2.0 * tl.load(logits + place_B, mask=here, other=0.0))
        scalar_B = 1.0 - 2.0 / (power_B + 1.0)
        present_B = tl.sum(tl.where(w[:, None] < count, share_VB, 0.0), axis=0)
        present_B = tl.where(count >= 0, present_B, 1.0)
        tl.store(scalars + place_B, scalar_B, mask=here)
        tl.store(present + place_B, present_B, mask=here)
        tl.store(x + row_B + span * apart, scalar_B * present_B, mask=here)


@triton.jit
def _draw_rows(
    logits, uniform, starts, sizes, counts, shares, scalars, present, x, uniform_stride, n_numeric,
    width, n_all, n_rows, n_pacs, warmth, LOW: tl.constexpr, HIGH: tl.constexpr,
    TILE: tl.constexpr,
):  # fmt: skip
    block, span, k = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    n_in_pac = n_rows // n_pacs
    start, size = tl.load(starts + span).to(tl.int32), tl.load(sizes + span).to(tl.int32)
    count = tl.load(counts + k * n_numeric + span, mask=span < n_numeric, other=0).to(tl.int32)
    logits += k * width * n_rows
    uniform += k * uniform_stride
    shares += k * (width - n_numeric) * n_rows
    scalars += k * n_numeric * n_rows
    present += k * n_numeric * n_rows
    x += k * n_all * n_in_pac * 3 * n_pacs
    if size <= LOW:
        first = block * (TILE // LOW)
        if first < n_rows:
            _draw_span(
                logits, uniform, shares, scalars, present, x, count, span, start, size, first,
                n_numeric, n_rows, n_pacs, n_in_pac, warmth, CODES=LOW, ROWS=TILE // LOW,
            )  # fmt: skip
    else:
        first = block * (TILE // HIGH)
        _draw_span(
            logits, uniform, shares, scalars, present, x, count, span, start, size, first,
            n_numeric, n_rows, n_pacs, n_in_pac, warmth, CODES=HIGH, ROWS=TILE // HIGH,
        )  # fmt: skip


def draw_rows(
    logits_KWB: Tensor, uniform_KVB: Tensor, starts_S: Tensor, sizes_S: Tensor, widest: int,
    counts_KM: Tensor, warmth: float, shares_KVB: Tensor, scalars_KMB: Tensor, present_KMB: Tensor,
    x_KFP3G: Tensor,
) -> None:  # fmt: skip
    """Fake rows: the Gumbel-softmax of every span, and scalars times the chance that there is one.

    ``counts_KM`` are the modes that have a scalar, the first ones; -1 where all have one.
    ``warmth`` is 1 / temperature, ``widest`` the largest of the sizes.
    """
    n_members, n_all, n_in_pac, _, n_pacs = x_KFP3G.shape
    n_rows = n_in_pac * n_pacs
    tile, n_blocks = tile_of(widest, n_rows)
    _draw_rows[(n_blocks, len(starts_S), n_members)](
        logits_KWB, uniform_KVB, starts_S, sizes_S, counts_KM, shares_KVB, scalars_KMB, present_KMB,
        x_KFP3G, uniform_KVB.stride(0), scalars_KMB.shape[1], logits_KWB.shape[1], n_all, n_rows,
        n_pacs, float(warmth), **tile, num_warps=4,
    )  # fmt: skip


@triton.jit
def _span_backward(
    d_rows, logits, pairs, shares, scalars, present, d_logits, losses, count, level, span, start,
    size, first, n_numeric, n_rows, warmth, FOLLOW: tl.constexpr, CODES: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    b, w = first + tl.arange(0, ROWS), tl.arange(0, CODES)
    here = b < n_rows
    own = (w < size)[:, None]
    inside = own & here[None, :]
    place_VB = (start + w)[:, None] * n_rows + b[None, :]
    d_row_VB = tl.load(d_rows + place_VB, mask=inside, other=0.0).to(tl.float32)
    share_VB = tl.load(shares + place_VB - n_numeric * n_rows, mask=inside, other=0.0)
    if span < n_numeric:
        place_B = span * n_rows + b
        d_row_B = tl.load(d_rows + place_B, mask=here, other=0.0).to(tl.float32)
        scalar_B = tl.load(scalars + place_B, mask=here, other=0.0)
        present_B = tl.load(present + place_B, mask=here, other=0.0)
        d_scalar_B = d_row_B * present_B * (1.0 - scalar_B * scalar_B)
        tl.store(d_logits + place_B, d_scalar_B, mask=here)
        d_row_VB += tl.where(w[:, None] < count, (d_row_B * scalar_B)[None, :], 0.0)
    dot_B = tl.sum(share_VB * d_row_VB, axis=0)
    d_logit_VB = share_VB * (d_row_VB - dot_B[None, :]) * warmth
    if FOLLOW:
        if span >= n_numeric:
            # The conditioned column's cross-entropy, of those rows whose condition is in this one.
            level_B = tl.load(pairs + b, mask=here, other=-1).to(tl.int32) - level
            asked_B = (level_B >= 0) & (level_B < size) & here
            asked_VB = own & asked_B[None, :]
            logit_VB = tl.load(logits + place_VB, mask=asked_VB, other=0.0)
            logit_VB = tl.where(own, logit_VB, -3e38)
            highest_B = tl.max(logit_VB, axis=0)
            power_VB = tl.exp(logit_VB - highest_B[None, :])
            whole_B = tl.sum(power_VB, axis=0)
            is_level = w[:, None] == level_B[None, :]
            d_asked_VB = power_VB / whole_B[None, :] - tl.where(is_level, 1.0, 0.0)
            d_logit_VB += tl.where(asked_VB, d_asked_VB / n_rows, 0.0)
            reached_B = tl.sum(tl.where(is_level & own, logit_VB, 0.0), axis=0)
            loss_B = tl.log(whole_B) + highest_B - reached_B
            tl.store(losses + b, loss_B, mask=asked_B)
    tl.store(d_logits + place_VB, d_logit_VB, mask=inside)


@triton.jit
def _rows_backward(
    d_rows, logits, starts, sizes, counts, firsts, pairs, shares, scalars, present, d_logits,
    losses, n_numeric, width, n_features, n_rows, warmth, FOLLOW: tl.constexpr, LOW: tl.constexpr,
    HIGH: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    block, span, k = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    start, size = tl.load(starts + span).to(tl.int32), tl.load(sizes + span).to(tl.int32)
    level = tl.load(firsts + span).to(tl.int32)
    count = tl.load(counts + k * n_numeric + span, mask=span < n_numeric, other=0).to(tl.int32)
    d_rows += k * n_features * n_rows
    logits += k * width * n_rows
    pairs += k * n_rows
    shares += k * (width - n_numeric) * n_rows
    scalars += k * n_numeric * n_rows
    present += k * n_numeric * n_rows
    d_logits += k * width * n_rows
    losses += k * n_rows
    if size <= LOW:
        first = block * (TILE // LOW)
        if first < n_rows:
            _span_backward(
                d_rows, logits, pairs, shares, scalars, present, d_logits, losses, count, level,
                span, start, size, first, n_numeric, n_rows, warmth, FOLLOW=FOLLOW, CODES=LOW,
                ROWS=TILE // LOW,
            )  # fmt: skip
    else:
        first = block * (TILE // HIGH)
        _span_backward(
            d_rows, logits, pairs, shares, scalars, present, d_logits, losses, count, level, span,
            start, size, first, n_numeric, n_rows, warmth, FOLLOW=FOLLOW, CODES=HIGH,
            ROWS=TILE // HIGH,
        )  # fmt: skip


def rows_backward(
    d_rows_KJB: Tensor, logits_KWB: Tensor, starts_S: Tensor, sizes_S: Tensor, widest: int,
    counts_KM: Tensor, firsts_S: Tensor, pairs_KB: Tensor | None, warmth: float,
    shares_KVB: Tensor, scalars_KMB: Tensor, present_KMB: Tensor, d_logits_KWB: Tensor,
    losses_KB: Tensor,
) -> None:  # fmt: skip
    """The gradient at the logits that `draw_rows` read, and that of the conditions' cross-entropy.

    ``firsts_S`` is each span's first level among all levels, ``losses_KB`` each row's
    cross-entropy.
    """
    n_members, width, n_rows = logits_KWB.shape
    tile, n_blocks = tile_of(widest, n_rows)
    _rows_backward[(n_blocks, len(starts_S), n_members)](
        d_rows_KJB, logits_KWB, starts_S, sizes_S, counts_KM, firsts_S,
        firsts_S if pairs_KB is None else pairs_KB, shares_KVB, scalars_KMB, present_KMB,
        d_logits_KWB, losses_KB, scalars_KMB.shape[1], width, d_rows_KJB.shape[1], n_rows,
        float(warmth), FOLLOW=pairs_KB is not None, **tile, num_warps=4,
    )  # fmt: skip


# Losses and weights.


@triton.jit
def _add_losses(
    scored, penalties, guided, out_bias, conditions, losses, n_hidden, n_pacs, n_rows, n_members,
    penalty, FOLLOW: tl.constexpr, HIDDEN: tl.constexpr, PACS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    k = tl.program_id(0)
    h, g, b = tl.arange(0, HIDDEN), tl.arange(0, PACS), tl.arange(0, ROWS)
    # The score's bias is in real and fake scores alike.
    difference = tl.sum(tl.load(scored + k * n_hidden + h, mask=h < n_hidden, other=0.0), axis=0)
    above_G = tl.load(penalties + k * n_pacs + g, mask=g < n_pacs, other=0.0)
    slope = penalty * tl.sum(above_G, axis=0) / n_pacs
    guide = tl.sum(tl.load(guided + k * n_hidden + h, mask=h < n_hidden, other=0.0), axis=0)
    guide -= tl.load(out_bias + k)
    tl.store(losses + k, tl.load(losses + k) + difference)
    tl.store(losses + n_members + k, tl.load(losses + n_members + k) + slope)
    tl.store(losses + 2 * n_members + k, tl.load(losses + 2 * n_members + k) + guide)
    if FOLLOW:
        missed_B = tl.load(conditions + k * n_rows + b, mask=b < n_rows, other=0.0)
        missed = tl.sum(missed_B, axis=0) / n_rows
        tl.store(losses + 3 * n_members + k, tl.load(losses + 3 * n_members + k) + missed)


def add_losses(
    scored_KH: Tensor, penalties_KG: Tensor, guided_KH: Tensor, out_bias_K1: Tensor,
    losses_KB: Tensor | None, penalty: float, losses_4K: Tensor,
) -> None:  # fmt: skip
    """Add the means of a step's losses, in the order of ``CTGANTrainer.loss_names``."""
    n_members, n_hidden = scored_KH.shape
    n_pacs = penalties_KG.shape[1]
    n_rows = 1 if losses_KB is None else losses_KB.shape[1]
    _add_losses[(n_members,)](
        scored_KH, penalties_KG, guided_KH, out_bias_K1,
        scored_KH if losses_KB is None else losses_KB, losses_4K, n_hidden, n_pacs, n_rows,
        n_members, float(penalty), FOLLOW=losses_KB is not None,
        HIDDEN=triton.next_power_of_2(n_hidden), PACS=triton.next_power_of_2(n_pacs),
        ROWS=triton.next_power_of_2(n_rows), num_warps=4,
    )  # fmt: skip


@triton.jit
def _update(
    values, grads, means, squares, low, average, steps, done, lr, beta_1, beta_2, decay, epsilon,
    most, length, LOW: tl.constexpr, AVERAGE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < length
    step = tl.load(steps).to(tl.float64)
    one_left = 1.0 - tl.exp(step * tl.log(beta_1 + 0.0 * step)).to(tl.float32)
    two_left = 1.0 - tl.exp(step * tl.log(beta_2 + 0.0 * step)).to(tl.float32)
    value = tl.load(values + i, mask=inside, other=0.0)
    grad = tl.load(grads + i, mask=inside, other=0.0) + decay * value
    mean = tl.load(means + i, mask=inside, other=0.0)
    mean += (1.0 - beta_1) * (grad - mean)
    square = beta_2 * tl.load(squares + i, mask=inside, other=0.0) + (1.0 - beta_2) * grad * grad
    value -= (lr / one_left) * mean / (tl.sqrt(square) / tl.sqrt(two_left) + epsilon)
    tl.store(means + i, mean, mask=inside)
    tl.store(squares + i, square, mask=inside)
    tl.store(values + i, value, mask=inside)
    if LOW:
        tl.store(low + i, value, mask=inside)
    if AVERAGE:
        count = tl.load(done)
        share = (1.0 + count) / (10.0 + count)
        share = 1.0 - tl.where(share < most, share, most)
        before = tl.load(average + i, mask=inside, other=0.0)
        tl.store(average + i, before + share * (value - before), mask=inside)


def update(
    values: Tensor, grads: Tensor, means: Tensor, squares: Tensor, low: Tensor | None,
    steps: Tensor, *, lr: float, betas: tuple[float, float], decay: float, epsilon: float,
    average: tuple[Tensor, Tensor, float] | None = None,
) -> None:  # fmt: skip
    """Adam (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1) of all weights.

    Parameters
    ----------
    low
        A copy of the values in bfloat16, which follows.
    steps
        The number of this step, from 1, on the device.
    average
        A moving average of the values, the number of its steps on the device, and the most that it
        keeps of itself.
    """
    length = values.numel()
    moving, done, most = average or (values, steps, 0.0)
    _update[(-(-length // FLAT),)](
        values, grads, means, squares, values if low is None else low, moving, steps, done, lr,
        betas[0], betas[1], decay, epsilon, most, length, LOW=low is not None,
        AVERAGE=average is not None, BLOCK=FLAT, num_warps=4,
    )  # fmt: skip
