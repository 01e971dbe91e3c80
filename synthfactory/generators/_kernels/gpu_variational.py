"""TVAE's loops on a GPU: what stands between two matrix products, in one launch each.

See `synthfactory.generators._kernels.gpu`.

Shapes: K members, B batch rows, M numeric columns, S spans, W width of the logits and of the
features, Z latent width, H a hidden width, N blocks of rows, Y = W + M + S sums of each block.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from synthfactory.generators._kernels.gpu import FLAT, tile_of, warps_of

# Of the sums over blocks of rows.
MAX_BLOCKS = 32
COLUMNS = 64


# Rows.


def _tile(widest: int, n_rows: int, most: int) -> tuple[dict[str, int], int]:
    """As `tile_of`, and how many tiles each program looks at, one after the other, so that there
    are no more than ``most`` programs to a long span; and how many programs there are."""
    tile, n_tiles = tile_of(widest, n_rows)
    rounds = triton.next_power_of_2(-(-n_tiles // most))
    return {**tile, "ROUNDS": rounds}, -(-n_tiles // rounds)


@triton.jit
def _write_span(
    codes, scalars, out, span, start, size, first, n_numeric, n_rows, ROUNDS: tl.constexpr,
    CODES: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    # The pointers are this member's.
    w = tl.arange(0, CODES)
    for turn in range(ROUNDS):
        b = first + turn * ROWS + tl.arange(0, ROWS)
        here = b < n_rows
        code_B = tl.load(codes + span * n_rows + b, mask=here, other=-1).to(tl.int32)
        is_code = tl.where(w[:, None] == code_B[None, :], 1.0, 0.0)
        place_VB = (start + w)[:, None] * n_rows + b[None, :]
        tl.store(out + place_VB, is_code, mask=(w < size)[:, None] & here[None, :])
        if span < n_numeric:
            scalar_B = tl.load(scalars + span * n_rows + b, mask=here, other=0.0)
            tl.store(out + span * n_rows + b, scalar_B, mask=here)


@triton.jit
def _write_rows(
    codes, scalars, starts, sizes, out, n_numeric, n_spans, width, n_rows, LOW: tl.constexpr,
    HIGH: tl.constexpr, TILE: tl.constexpr, ROUNDS: tl.constexpr,
):  # fmt: skip
    block, span, k = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    start, size = tl.load(starts + span).to(tl.int32), tl.load(sizes + span).to(tl.int32)
    codes += k * n_spans * n_rows
    scalars += k * n_numeric * n_rows
    out += k * width * n_rows
    if size <= LOW:
        first = block * ROUNDS * (TILE // LOW)
        if first < n_rows:
            _write_span(
                codes, scalars, out, span, start, size, first, n_numeric, n_rows, ROUNDS=ROUNDS,
                CODES=LOW, ROWS=TILE // LOW,
            )  # fmt: skip
    else:
        first = block * ROUNDS * (TILE // HIGH)
        _write_span(
            codes, scalars, out, span, start, size, first, n_numeric, n_rows, ROUNDS=ROUNDS,
            CODES=HIGH, ROWS=TILE // HIGH,
        )  # fmt: skip


def write_rows(
    codes_KSB: Tensor, scalars_KMB: Tensor, starts_S: Tensor, sizes_S: Tensor, widest: int,
    out_KWB: Tensor,
) -> None:  # fmt: skip
    """Scalars and one-hot codes; ``widest`` is the largest of the sizes."""
    n_members, width, n_rows = out_KWB.shape
    tile, n_blocks = _tile(widest, n_rows, n_rows)
    _write_rows[(n_blocks, len(starts_S), n_members)](
        codes_KSB, scalars_KMB, starts_S, sizes_S, out_KWB, scalars_KMB.shape[1], len(starts_S),
        width, n_rows, **tile, num_warps=4,
    )  # fmt: skip


# Layers.


@triton.jit
def _rectify(sums, bias, n_rows, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    b = tl.arange(0, BLOCK)
    place = sums + row * n_rows + b
    sum_B = tl.load(place, mask=b < n_rows, other=0.0).to(tl.float32)
    sum_B += tl.load(bias + row).to(tl.float32)
    # A comparison that lets pass what is no number.
    tl.store(place, tl.where(sum_B < 0.0, 0.0, sum_B), mask=b < n_rows)


def rectify(sums_KHB: Tensor, bias_KH: Tensor) -> None:
    """Bias and ReLU, in place."""
    n_members, n_hidden, n_rows = sums_KHB.shape
    block = triton.next_power_of_2(n_rows)
    _rectify[(n_members * n_hidden,)](
        sums_KHB, bias_KH, n_rows, BLOCK=block, num_warps=warps_of(block)
    )


@triton.jit
def _rectify_backward(d_units, units, d_bias, n_rows, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    b = tl.arange(0, BLOCK)
    inside = b < n_rows
    place = row * n_rows + b
    d_unit_B = tl.load(d_units + place, mask=inside, other=0.0).to(tl.float32)
    unit_B = tl.load(units + place, mask=inside, other=0.0).to(tl.float32)
    d_unit_B = tl.where(unit_B <= 0.0, 0.0, d_unit_B)
    tl.store(d_units + place, d_unit_B, mask=inside)
    tl.store(d_bias + row, tl.sum(d_unit_B, axis=0))


def rectify_backward(d_units_KHB: Tensor, units_KHB: Tensor, d_bias_KH: Tensor) -> None:
    """The gradient at the sums, in place of that at the units, and the bias's."""
    n_members, n_hidden, n_rows = units_KHB.shape
    block = triton.next_power_of_2(n_rows)
    _rectify_backward[(n_members * n_hidden,)](
        d_units_KHB, units_KHB, d_bias_KH, n_rows, BLOCK=block, num_warps=warps_of(block)
    )


# The latent point.


@triton.jit
def _distribution(encoded, bias, k, z, b, inside, n_latent, n_rows, low, high):
    """Means and logarithms of variances, these within their range."""
    row = k * 2 * n_latent + z
    mean_B = tl.load(encoded + row * n_rows + b, mask=inside, other=0.0).to(tl.float32)
    mean_B += tl.load(bias + row).to(tl.float32)
    row += n_latent
    log_B = tl.load(encoded + row * n_rows + b, mask=inside, other=0.0).to(tl.float32)
    log_B += tl.load(bias + row).to(tl.float32)
    log_B = tl.where(log_B < low, low, log_B)
    return mean_B, tl.where(log_B > high, high, log_B)


@triton.jit
def _draw(
    encoded, bias, noise, points, totals, noise_stride, n_latent, n_rows, low, high,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    k, z = row // n_latent, row % n_latent
    b = tl.arange(0, BLOCK)
    inside = b < n_rows
    mean_B, log_B = _distribution(encoded, bias, k, z, b, inside, n_latent, n_rows, low, high)
    noise_B = tl.load(noise + k * noise_stride + z * n_rows + b, mask=inside, other=0.0)
    deviation_B = tl.exp(0.5 * log_B)
    tl.store(points + row * n_rows + b, mean_B + noise_B * deviation_B, mask=inside)
    each_B = mean_B * mean_B + (deviation_B * deviation_B - 1.0 - log_B)
    tl.store(totals + row, 0.5 / n_rows * tl.sum(tl.where(inside, each_B, 0.0), axis=0))


def draw(
    encoded_K2ZB: Tensor, bias_K2Z: Tensor, noise_KZB: Tensor, low: float, high: float,
    points_KZB: Tensor, totals_KZ: Tensor,
) -> None:  # fmt: skip
    """Points of normal distributions, of which ``encoded`` has means and logarithms of variances
    without their bias, and what each number of a point adds to the divergence."""
    n_members, n_latent, n_rows = points_KZB.shape
    block = triton.next_power_of_2(n_rows)
    _draw[(n_members * n_latent,)](
        encoded_K2ZB, bias_K2Z, noise_KZB, points_KZB, totals_KZ, noise_KZB.stride(0), n_latent,
        n_rows, float(low), float(high), BLOCK=block, num_warps=warps_of(block),
    )  # fmt: skip


@triton.jit
def _draw_backward(
    encoded, bias, noise, d_points, d_encoded, d_bias, noise_stride, n_latent, n_rows, low, high,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    k, z = row // n_latent, row % n_latent
    b = tl.arange(0, BLOCK)
    inside = b < n_rows
    mean_B, log_B = _distribution(encoded, bias, k, z, b, inside, n_latent, n_rows, low, high)
    noise_B = tl.load(noise + k * noise_stride + z * n_rows + b, mask=inside, other=0.0)
    d_point_B = tl.load(d_points + row * n_rows + b, mask=inside, other=0.0).to(tl.float32)
    deviation_B = tl.exp(0.5 * log_B)
    d_mean_B = d_point_B + mean_B / n_rows
    d_log_B = 0.5 / n_rows * (deviation_B * deviation_B - 1.0)
    d_log_B += 0.5 * d_point_B * (noise_B * deviation_B)
    d_log_B = tl.where((log_B <= low) | (log_B >= high), 0.0, d_log_B)
    place = k * 2 * n_latent + z
    tl.store(d_encoded + place * n_rows + b, d_mean_B, mask=inside)
    tl.store(d_bias + place, tl.sum(tl.where(inside, d_mean_B, 0.0), axis=0))
    place += n_latent
    tl.store(d_encoded + place * n_rows + b, d_log_B, mask=inside)
    tl.store(d_bias + place, tl.sum(tl.where(inside, d_log_B, 0.0), axis=0))


def draw_backward(
    encoded_K2ZB: Tensor, bias_K2Z: Tensor, noise_KZB: Tensor, low: float, high: float,
    d_points_KZB: Tensor, d_encoded_K2ZB: Tensor, d_bias_K2Z: Tensor,
) -> None:  # fmt: skip
    """The gradients at what `draw` was given, the divergence's included."""
    n_members, n_latent, n_rows = d_points_KZB.shape
    block = triton.next_power_of_2(n_rows)
    _draw_backward[(n_members * n_latent,)](
        encoded_K2ZB, bias_K2Z, noise_KZB, d_points_KZB, d_encoded_K2ZB, d_bias_K2Z,
        noise_KZB.stride(0), n_latent, n_rows, float(low), float(high), BLOCK=block,
        num_warps=warps_of(block),
    )  # fmt: skip


# The likelihood.


@triton.jit
def _learn_span(
    logits, bias, codes, scalars, present, sigma, d_logits, sums, span, start, size, first,
    n_numeric, width, n_rows, scale, ROUNDS: tl.constexpr, CODES: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    # The pointers are this member's, that of sums this block's.
    w = tl.arange(0, CODES)
    own = w < size
    bias_V = tl.load(bias + start + w, mask=own, other=0.0)
    by_bias_V = tl.zeros([CODES], tl.float32)
    by_mean_B = tl.zeros([ROWS], tl.float32)
    by_sigma_B = tl.zeros([ROWS], tl.float32)
    loss_B = tl.zeros([ROWS], tl.float32)
    for turn in range(ROUNDS):
        b = first + turn * ROWS + tl.arange(0, ROWS)
        here = b < n_rows
        inside = own[:, None] & here[None, :]
        place_VB = (start + w)[:, None] * n_rows + b[None, :]
        logit_VB = tl.load(logits + place_VB, mask=inside, other=0.0).to(tl.float32)
        logit_VB = tl.where(own[:, None], logit_VB + bias_V[:, None], -3e38)
        below_VB = logit_VB - tl.max(logit_VB, axis=0)[None, :]
        power_VB = tl.exp(below_VB)
        whole_B = tl.sum(power_VB, axis=0)
        code_B = tl.load(codes + span * n_rows + b, mask=here, other=-1).to(tl.int32)
        is_code = w[:, None] == code_B[None, :]
        reached_B = tl.sum(tl.where(is_code, below_VB, 0.0), axis=0)
        loss_B += tl.where(here, tl.log(whole_B) - reached_B, 0.0)
        d_logit_VB = scale * (power_VB / whole_B[None, :] - tl.where(is_code, 1.0, 0.0))
        tl.store(d_logits + place_VB, d_logit_VB, mask=inside)
        by_bias_V += tl.sum(tl.where(inside, d_logit_VB, 0.0), axis=1)
        if span < n_numeric:
            place_B = span * n_rows + b
            raw_B = tl.load(logits + place_B, mask=here, other=0.0).to(tl.float32)
            raw_B += tl.load(bias + span)
            mean_B = 1.0 - 2.0 / (tl.exp(2.0 * raw_B) + 1.0)
            deviation = tl.load(sigma + span)
            scalar_B = tl.load(scalars + place_B, mask=here, other=0.0)
            present_B = tl.load(present + place_B, mask=here, other=0.0)
            error_B = (scalar_B - mean_B) * present_B / deviation
            d_raw_B = -scale / deviation * error_B * (1.0 - mean_B * mean_B)
            tl.store(d_logits + place_B, d_raw_B, mask=here)
            by_mean_B += tl.where(here, d_raw_B, 0.0)
            by_sigma_B += tl.where(here, present_B - error_B * error_B, 0.0)
            # 0.5 * (error / sigma)^2 + log sigma, where there is a scalar.
            loss = 0.5 * error_B * error_B + present_B * tl.log(deviation)
            loss_B += tl.where(here, loss, 0.0)
    tl.store(sums + start + w, by_bias_V, mask=own)
    if span < n_numeric:
        tl.store(sums + span, tl.sum(by_mean_B, axis=0))
        tl.store(sums + width + span, tl.sum(by_sigma_B, axis=0))
    tl.store(sums + width + n_numeric + span, tl.sum(loss_B, axis=0))


@triton.jit
def _learn(
    logits, bias, codes, scalars, present, sigma, starts, own_sizes, d_logits, sums, n_numeric,
    n_spans, width, n_rows, n_blocks, scale, LOW: tl.constexpr, HIGH: tl.constexpr,
    TILE: tl.constexpr, ROUNDS: tl.constexpr,
):  # fmt: skip
    block, span, k = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    start = tl.load(starts + span).to(tl.int32)
    size = tl.load(own_sizes + k * n_spans + span).to(tl.int32)
    logits += k * width * n_rows
    bias += k * width
    codes += k * n_spans * n_rows
    scalars += k * n_numeric * n_rows
    present += k * n_numeric * n_rows
    sigma += k * n_numeric
    d_logits += k * width * n_rows
    sums += (k * n_blocks + block) * (width + n_numeric + n_spans)
    if size <= LOW:
        first = block * ROUNDS * (TILE // LOW)
        if first < n_rows:
            _learn_span(
                logits, bias, codes, scalars, present, sigma, d_logits, sums, span, start, size,
                first, n_numeric, width, n_rows, scale, ROUNDS=ROUNDS, CODES=LOW, ROWS=TILE // LOW,
            )  # fmt: skip
    else:
        first = block * ROUNDS * (TILE // HIGH)
        _learn_span(
            logits, bias, codes, scalars, present, sigma, d_logits, sums, span, start, size, first,
            n_numeric, width, n_rows, scale, ROUNDS=ROUNDS, CODES=HIGH, ROWS=TILE // HIGH,
        )  # fmt: skip


def blocks_of(widest: int, n_rows: int) -> int:
    """N: how many programs of `learn` share the rows of the longest span."""
    return _tile(widest, n_rows, MAX_BLOCKS)[1]


def learn(
    logits_KWB: Tensor, bias_KW: Tensor, codes_KSB: Tensor, scalars_KMB: Tensor,
    present_KMB: Tensor, sigma_KM: Tensor, starts_S: Tensor, own_sizes_KS: Tensor, widest: int,
    scale: float, d_logits_KWB: Tensor, sums_KNY: Tensor,
) -> None:  # fmt: skip
    """Gradients of the negative log-likelihood of rows, times ``scale``, and what `close` sums up.

    Logits come without their bias.  ``d_logits`` and ``sums`` are zeros at first: places of codes
    that a member does not have, and of blocks that a short span does not need, stay as they are.
    The sums of each block of rows (see `blocks_of`) are, one behind the other: the gradient at the
    bias, deviations' gradients times ``sigma / scale``, each span's loss.
    """
    n_members, width, n_rows = logits_KWB.shape
    tile, n_blocks = _tile(widest, n_rows, MAX_BLOCKS)
    _learn[(n_blocks, len(starts_S), n_members)](
        logits_KWB, bias_KW, codes_KSB, scalars_KMB, present_KMB, sigma_KM, starts_S, own_sizes_KS,
        d_logits_KWB, sums_KNY, scalars_KMB.shape[1], len(starts_S), width, n_rows, n_blocks,
        float(scale), **tile, num_warps=4,
    )  # fmt: skip


@triton.jit
def _close(
    sums, sigma, divergences, d_bias, d_sigma, losses, n_numeric, n_spans, width, n_rows, n_blocks,
    n_chunks, n_latent, n_members, scale, ROUNDS: tl.constexpr, BLOCKS: tl.constexpr,
    CHUNK: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    k, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    n_sums = width + n_numeric + n_spans
    mine = sums + k * n_blocks * n_sums
    if chunk < n_chunks:
        n, y = tl.arange(0, BLOCKS), chunk * CHUNK + tl.arange(0, CHUNK)
        inside = (n < n_blocks)[:, None] & (y < width + n_numeric)[None, :]
        part_NY = tl.load(mine + n[:, None] * n_sums + y[None, :], mask=inside, other=0.0)
        total_Y = tl.sum(part_NY, axis=0)
        tl.store(d_bias + k * width + y, total_Y, mask=y < width)
        m = k * n_numeric + y - width
        numeric = (y >= width) & (y < width + n_numeric)
        deviation_Y = tl.load(sigma + m, mask=numeric, other=1.0)
        tl.store(d_sigma + m, total_Y * scale / deviation_Y, mask=numeric)
    else:
        loss_P, divergence_P = tl.zeros([PARTS], tl.float32), tl.zeros([PARTS], tl.float32)
        for turn in range(ROUNDS):
            part = turn * PARTS + tl.arange(0, PARTS)
            place = part // n_spans * n_sums + width + n_numeric + part % n_spans
            loss_P += tl.load(mine + place, mask=part < n_spans * n_blocks, other=0.0)
            place = divergences + k * n_latent + part
            divergence_P += tl.load(place, mask=part < n_latent, other=0.0)
        loss, divergence = tl.sum(loss_P, axis=0) / n_rows, tl.sum(divergence_P, axis=0)
        tl.store(losses + k, tl.load(losses + k) + loss)
        tl.store(losses + n_members + k, tl.load(losses + n_members + k) + divergence)


def close(
    sums_KNY: Tensor, sigma_KM: Tensor, divergences_KZ: Tensor, scale: float, n_rows: int,
    d_bias_KW: Tensor, d_sigma_KM: Tensor, losses_2K: Tensor,
) -> None:  # fmt: skip
    """Sum up what `learn` left of each block, and add a step's losses, in the order of
    ``TVAETrainer.loss_names``."""
    n_members, n_blocks, n_sums = sums_KNY.shape
    width, n_numeric = d_bias_KW.shape[1], d_sigma_KM.shape[1]
    n_spans, n_latent = n_sums - width - n_numeric, divergences_KZ.shape[1]
    n_chunks = -(-(width + n_numeric) // COLUMNS)
    _close[(n_members, n_chunks + 1)](
        sums_KNY, sigma_KM, divergences_KZ, d_bias_KW, d_sigma_KM, losses_2K, n_numeric, n_spans,
        width, n_rows, n_blocks, n_chunks, n_latent, n_members, float(scale),
        ROUNDS=-(-max(n_spans * n_blocks, n_latent) // FLAT),
        BLOCKS=triton.next_power_of_2(n_blocks), CHUNK=COLUMNS, PARTS=FLAT, num_warps=4,
    )  # fmt: skip
