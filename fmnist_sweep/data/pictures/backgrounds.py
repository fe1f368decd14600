"""A picture's background, as a surface behind the garment, and the garment in front of it.

The surface is a quadratic in the two coordinates: a slope or a bowl, as lamps and lenses make them. It is fitted to
the border by iteratively reweighted least squares with Tukey's biweight (Beaton, Tukey: Technometrics 16, 1974) from
several starts, so that a garment that touches the border does not bend it. Then it follows what the border cannot show
(a lamp's spot, the edge of a shadow) as far as the picture changes gradually.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data.pictures.divided_grounds import DividedGrounds, divide_grounds
from fmnist_sweep.data.pictures.picture_colours import TOLERANCE, measure_distances, measure_luma, take_median

Mask = NDArray[np.bool_]
Values = NDArray[np.float64]

_LEAST_TOLERANCE = 0.02 * 255  # within which grounds are told apart
_NOISE_FACTOR = 4.0  # and those within so many standard deviations of the background's noise
_BORDER_SHARE = 1 / 24  # the border's width, of the shorter side
_CURVATURE_PENALTY = 0.02  # per pixel of the border: where it shows little, the surface stays flat
_START_TOLERANCES = (60.0, 40.0, 25.0)
_GROWTH_ROUNDS = 12
_REACH = 1 / 16  # how far the surface is continued in each round, of the longer side
_SEVERAL_BELOW = 0.9  # of the border: what explains more needs no second model
_LEAST_GAIN = 0.1  # of the border, that a second model explains
_EDGE_REACH = 3  # pixels: half of the width of the edge between two grounds, and one
_MOST_DRIFT = 0.3  # of the contrast: what departs more from the quadratic is garment


class Background(NamedTuple):
    """The background of a picture of (h, w) pixels, and what is in front of it.

    surface: (h, w, 3) its colours, behind the garment too; foreground: (h, w); noise: standard deviation in grey
    values; border_share: how much of the border it explains; bands: whether it has two colours or more, as wall and
    table; corners: how many of the four it explains; rival_share: how much of the border the best other surface
    explains, one of another brightness; bright: whether it is brighter than the foreground; certainty: the share of the
    foreground on that side.
    """

    surface: Values
    foreground: Mask
    noise: float
    tolerance: float
    border_share: float
    bands: bool
    corners: int
    rival_share: float
    bright: bool
    certainty: float


def find_background(colours: Values) -> Background:
    """Fit the background of a picture (h, w, 3), 0..255, of about 100 pixels a side."""
    smooth = take_median(colours, 3) if min(colours.shape[:2]) > 40 else colours
    border = _mark_border(*colours.shape[:2])
    terms = _build_terms(*colours.shape[:2])
    fits = _fit_starts(smooth[border], terms[border])
    best = max(fits, key=lambda fit: fit.share)
    level = float(measure_luma(best.values.mean(axis=0)))
    rivals = [fit.share for fit in fits if abs(float(measure_luma(fit.values.mean(axis=0))) - level) > 3 * TOLERANCE]
    tolerance = max(TOLERANCE, _NOISE_FACTOR * best.noise)
    grounds = _find_several_grounds(smooth, fits, terms, border, tolerance)
    if grounds is None:
        share = best.share
        surface, ground = _grow(smooth, _evaluate(terms, best.coefficients), border, terms, tolerance)
    else:
        surface, ground = _follow(smooth, grounds.surface, border, tolerance)
        surface, ground = _restore_edge(surface, ground, grounds)
        share = float(np.mean(ground[border]))
    foreground = ~ground
    differences = measure_luma(smooth - surface)
    seen = differences[foreground & (np.abs(differences) > tolerance / 2)]
    darker = float(np.mean(seen < 0)) if len(seen) else 0.5
    return Background(
        surface=surface,
        foreground=foreground,
        noise=best.noise,
        tolerance=tolerance,
        border_share=share,
        bands=grounds is not None,
        corners=count_corners(ground),
        rival_share=max(rivals, default=0.0),
        bright=darker > 0.5,
        certainty=max(darker, 1 - darker),
    )


def count_corners(ground: Mask) -> int:
    """In how many corners most of a patch is background."""
    side = max(1, round(min(ground.shape) / 28))
    ends = (slice(None, side), slice(-side, None))
    return sum(bool(ground[rows, columns].mean() > 0.5) for rows in ends for columns in ends)


class _Fit(NamedTuple):
    coefficients: Values  # (6, 3)
    values: Values  # (n, 3) at the border's pixels
    share: float  # of the border's pixels that it explains
    noise: float


def _mark_border(height: int, width: int) -> Mask:
    wide = max(1, round(min(height, width) * _BORDER_SHARE))
    border = np.ones((height, width), bool)
    border[wide:-wide, wide:-wide] = False
    return border


def _build_terms(height: int, width: int) -> Values:
    """The quadratic's terms at each pixel, (h, w, 6)."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=2)


def _fit_starts(colours: Values, terms: Values) -> list[_Fit]:
    """Fit the border's colours (n, 3) from several starts: colours that occur in it."""
    return [_fit_start(colours, terms, start) for start in _choose_starts(colours)]


def _choose_starts(colours: Values) -> list[Values]:
    """Colours (3,) that occur in the border, of all its brightnesses."""
    order = np.argsort(measure_luma(colours))
    quantiles = [order[round(q * (len(order) - 1))] for q in (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)]
    return [np.median(colours, axis=0), *colours[quantiles]]


def _fit_start(colours: Values, terms: Values, start: Values) -> _Fit:
    values: Values = np.broadcast_to(start, colours.shape)
    coefficients = np.zeros((terms.shape[-1], 3))
    coefficients[0] = start
    for tolerance in (*_START_TOLERANCES, 0.0, 0.0):
        distances = measure_distances(colours, values)
        bound = tolerance or 3 * max(_measure_noise(distances), TOLERANCE / 3)
        weights = np.clip(1 - (distances / bound) ** 2, 0, None) ** 2
        if weights.sum() < 0.05 * len(weights):
            break
        coefficients = _solve(terms, colours, weights)
        values = _evaluate(terms, coefficients)
    distances = measure_distances(colours, values)
    noise = _measure_noise(distances)
    share = float(np.mean(distances <= max(TOLERANCE, min(3 * noise, 3 * TOLERANCE))))
    return _Fit(coefficients, values, share, noise)


def _measure_noise(distances: Values) -> float:
    """Standard deviation of the background's pixels: the median of those that are near it."""
    near = distances[distances < 4 * TOLERANCE]
    return float(np.median(near)) / 1.2 if len(near) else 0.0


def _solve(terms: Values, colours: Values, weights: Values) -> Values:
    penalty = np.diag([0.0, 0.1, 0.1, 1, 1, 1]) * _CURVATURE_PENALTY * len(weights)
    weighted = terms * weights[:, None]
    normal = np.einsum("nk,nl->kl", weighted, terms) + penalty + 1e-9 * np.eye(len(penalty))
    return np.asarray(np.linalg.solve(normal, np.einsum("nk,nc->kc", weighted, colours)), np.float64)


def _evaluate(terms: Values, coefficients: Values) -> Values:
    """The surface (..., 3) of coefficients (6, 3) at terms (..., 6)."""
    # Not as a product of matrices: the threads of such a small one wait for each other where others compute, too.
    return np.asarray(np.einsum("...k,kc->...c", terms, coefficients), np.float64)


def _grow(colours: Values, surface: Values, border: Mask, terms: Values, tolerance: float) -> tuple[Values, Mask]:
    """Fit the surface to all background that it reaches from the border, and let it follow that."""
    ground = _connect(measure_distances(colours, surface) <= tolerance, border)
    if ground.sum() > 0.1 * ground.size:
        refitted = _solve(terms[ground], colours[ground], np.ones(int(ground.sum())))
        surface = _evaluate(terms, refitted)
    return _follow(colours, surface, border, tolerance)


def _follow(colours: Values, surface: Values, border: Mask, tolerance: float) -> tuple[Values, Mask]:
    """Extend the background from the border inwards, and let the surface follow it.

    Returns the surface, and which pixels are background. Each round continues the surface a little from what is
    background already; a pixel joins where it lies within the tolerance of it and is connected.
    """
    from scipy.ndimage import gaussian_filter

    ground = _connect(measure_distances(colours, surface) <= tolerance, border)
    contrast = float(np.percentile(measure_distances(colours, surface), 98))
    drift = max(tolerance, _MOST_DRIFT * contrast)
    radius = max(1.0, max(ground.shape) * _REACH)
    local = surface
    for _ in range(_GROWTH_ROUNDS):
        known = gaussian_filter(ground.astype(np.float64), radius / 2)
        residuals = gaussian_filter(np.where(ground[:, :, None], colours - surface, 0), (radius / 2, radius / 2, 0))
        # Far from all background the correction fades, and the quadratic remains.
        local = surface + residuals / (known + 0.02)[:, :, None]
        near = measure_distances(colours, local) <= tolerance
        grown = _connect(near & (measure_distances(colours, surface) <= drift), border)
        if (grown == ground).all():
            break
        ground = grown
    return local, ground


def _find_several_grounds(
    colours: Values, fits: list[_Fit], terms: Values, border: Mask, tolerance: float
) -> DividedGrounds | None:
    """The surface of a background of bands, or of two grounds; None where one ground explains about as much."""
    ordered = sorted(fits, key=lambda fit: fit.share, reverse=True)
    surfaces = [_evaluate(terms, fit.coefficients) for fit in ordered]
    # Two grounds may differ by less than garment and ground must, if there is no noise.
    noise = min(fit.noise for fit in ordered if fit.share > 0.5 * ordered[0].share)
    narrow = max(_LEAST_TOLERANCE, min(_NOISE_FACTOR * noise, TOLERANCE))
    # A slope through two grounds that differ little may hide both, so their colours are tried as they are, too.
    flat = [np.broadcast_to(start, colours.shape) for start in _choose_starts(colours[border])]
    best, most = None, _LEAST_GAIN
    for banded, within in ((False, narrow), (True, tolerance)):
        share = _explain(colours, surfaces[0], border, within)
        if share > _SEVERAL_BELOW:
            continue
        found = (
            _interpolate_bands(colours, border, within)
            if banded
            else divide_grounds(colours, [*surfaces, *flat], within)
        )
        if found is not None and _explain(colours, found.surface, border, within) - share > most:
            best, most = found, _explain(colours, found.surface, border, within) - share
    return best


def _restore_edge(surface: Values, ground: Mask, grounds: DividedGrounds) -> tuple[Values, Mask]:
    """Within the garment, the edge of two grounds is sharp: a colour between theirs is the garment's there."""
    from scipy.ndimage import binary_closing

    blurred = (grounds.surface != grounds.sharp).any(axis=2)
    inside = blurred & binary_closing(~ground, iterations=_EDGE_REACH)
    return np.where(inside[:, :, None], grounds.sharp, surface), ground & ~inside


def _interpolate_bands(colours: Values, border: Mask, tolerance: float) -> DividedGrounds | None:
    """A background of bands, as wall and table: straight between the two ends of each row, or of each column.

    None if the ends do not agree.
    """
    candidates = []
    for swapped in (False, True):
        image = colours.swapaxes(0, 1) if swapped else colours
        wide = max(2, image.shape[1] // 28)
        left, right = (np.median(end, axis=1) for end in (image[:, :wide], image[:, -wide:]))
        if np.mean(measure_distances(left, right) <= 2 * tolerance) < 0.9:
            continue
        share = np.linspace(0, 1, image.shape[1])[None, :, None]
        surface = left[:, None] * (1 - share) + right[:, None] * share
        candidates.append(surface.swapaxes(0, 1) if swapped else surface)
    if not candidates:
        return None
    best = max(candidates, key=lambda surface: _explain(colours, surface, border, tolerance))
    return DividedGrounds(best, best)


def _explain(colours: Values, surface: Values, border: Mask, tolerance: float) -> float:
    """The share of the border that a surface explains."""
    return float(np.mean(measure_distances(colours, surface)[border] <= tolerance))


def _connect(mask: Mask, border: Mask) -> Mask:
    """The parts of a mask that reach the border."""
    from scipy.ndimage import label

    parts, _ = label(mask)
    reached = np.unique(parts[border & mask])
    connected: Mask = np.isin(parts, reached[reached > 0])
    return connected
