"""The ten garments of the drawn stand-in, as coverage and shade of a batch of 28 x 28 images.

The four upper-body labels share one pattern, `_upper_body`, and differ only in how probable each sleeve,
neck, collar, opening and texture is. These overlap, so that no classifier gets all of them right, as with
Fashion-MNIST.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fmnist_sweep.data.canvas import (
    Dice,
    Grid,
    Map,
    Values,
    either,
    inside,
    limb,
    line,
    profile,
    soft_or,
    wave,
)

Range = tuple[float, float]


class Garment(NamedTuple):
    """Coverage 0..1 and brightness factor (about 1) of each pixel."""

    cover: Map
    shade: Map


@dataclass(frozen=True)
class UpperBody:
    """How probable each feature of an upper-body label is; lengths in pixels."""

    long_sleeves: float
    short: Range
    long: Range
    bottom: Range
    width: Range
    flare: Range
    neck: Range
    v_neck: float
    opening: float
    opening_strength: Range
    buttons: float
    collar: float
    hem: float
    stripes: float
    checks: float
    print: float


T_SHIRT = UpperBody(
    long_sleeves=0.08, short=(4.0, 9.0), long=(15, 20), bottom=(10.0, 13.0), width=(5.6, 7.6),
    flare=(-0.4, 0.7), neck=(1.6, 4.6), v_neck=0.2, opening=0.04, opening_strength=(0.1, 0.4), buttons=0.04,
    collar=0.05, hem=0.1, stripes=0.22, checks=0.04, print=0.42,
)  # fmt: skip
PULLOVER = UpperBody(
    long_sleeves=0.95, short=(8.0, 12.0), long=(15.5, 21), bottom=(10.0, 13.2), width=(5.6, 7.6),
    flare=(-0.8, 0.5), neck=(0.8, 3.4), v_neck=0.25, opening=0.06, opening_strength=(0.1, 0.5), buttons=0.04,
    collar=0.1, hem=0.6, stripes=0.3, checks=0.08, print=0.2,
)  # fmt: skip
COAT = UpperBody(
    long_sleeves=0.96, short=(8.0, 12.0), long=(15.5, 21), bottom=(11.2, 13.8), width=(5.8, 7.8),
    flare=(-0.2, 1.3), neck=(1.4, 5.0), v_neck=0.6, opening=0.93, opening_strength=(0.35, 0.9), buttons=0.1,
    collar=0.25, hem=0.2, stripes=0.06, checks=0.1, print=0.03,
)  # fmt: skip
SHIRT = UpperBody(
    long_sleeves=0.6, short=(4.5, 10.0), long=(15, 21), bottom=(10.4, 13.4), width=(5.5, 7.6),
    flare=(-0.5, 0.9), neck=(1.0, 4.2), v_neck=0.4, opening=0.35, opening_strength=(0.1, 0.45), buttons=0.85,
    collar=0.88, hem=0.12, stripes=0.2, checks=0.3, print=0.06,
)  # fmt: skip


def _upper_body(grid: Grid, dice: Dice, law: UpperBody) -> Garment:
    x, y = np.abs(grid.x), grid.y
    top, bottom = dice.around(-12, 0.5), dice.between(*law.bottom)
    chest, flare = dice.between(*law.width), dice.between(*law.flare)
    shoulder = chest + dice.between(-0.4, 0.9)
    half = profile(y, [top, top + 6, bottom], [shoulder, chest, chest + flare])
    body = inside(half - x) * inside(y - top - x * dice.between(0.12, 0.4)) * inside(bottom - y)
    sleeve = _sleeve(Grid(x, y), dice, law, top, shoulder)
    neck_width = dice.between(2.2, 3.8)
    neck, opened = dice.between(*law.neck), dice.chance(law.v_neck)
    across = x / neck_width
    depth = neck * (1 - either(opened, across, across * across))
    hole = inside(depth - (y - top))
    cover = soft_or(body, sleeve) * (1 - hole)
    armpit = line(half - x, 0.4) * inside(y - top - 4) * inside(bottom - y)
    shade = 1 - armpit * dice.between(0.1, 0.75)
    shade = shade * _front(grid, dice, law, top + neck, bottom) * _collar(x, y, dice, law, top, neck, neck_width)
    shade = shade * (1 - inside(y - bottom + 2) * dice.chance(law.hem) * dice.between(0.1, 0.4))
    return Garment(cover, shade * _texture(grid, dice, law))


def _sleeve(grid: Grid, dice: Dice, law: UpperBody, top: Values, shoulder: Values) -> Map:
    """Both sleeves at once, as x is the distance from the middle."""
    long = dice.chance(law.long_sleeves)
    length = either(long, dice.between(*law.long), dice.between(*law.short))
    # Long sleeves hang; short ones may stand off.
    slope = either(long, dice.between(0.1, 0.42), dice.between(0.25, 1.1))
    down = length / np.sqrt(1 + slope * slope)
    thick = dice.between(1.9, 2.9)
    thin = either(long, dice.between(1.1, 1.9), thick * dice.between(0.8, 1.05))
    start = (shoulder - 1.4, top + thick + 0.6)
    return limb(grid.x, grid.y, start, (down * slope, down - thick), (thick, thin))


def _front(grid: Grid, dice: Dice, law: UpperBody, top: Values, bottom: Values) -> Map:
    """An opening from the neck down, and buttons beside it."""
    lower = dice.either(0.75, bottom, dice.between(-4, 4))
    within = inside(grid.y - top) * inside(lower - grid.y)
    x = grid.x - dice.around(0, 1.1)
    gap = line(x, dice.between(0.1, 0.6)) * dice.chance(law.opening) * dice.between(*law.opening_strength)
    gap = gap * (1 - 2 * dice.chance(0.3))  # some zips are lighter than the cloth
    dots = inside(wave(grid.y, dice.between(2.6, 4.5), dice.between(0, 1)) * 3 - 1.6) * line(x - 0.9, 0.5)
    sign = dice.either(0.5, dice.between(0.3, 0.8), -dice.between(0.3, 0.8))
    return 1 - within * (gap + dots * dice.chance(law.buttons) * sign)


def _collar(x: Map, y: Map, dice: Dice, law: UpperBody, top: Values, neck: Values, width: Values) -> Map:
    """Two flaps beside the neck, lighter or darker than the garment."""
    drop = y - top - neck * (1 - x / width)
    flap = line(drop - 1.2, dice.between(1, 1.9)) * inside(width + dice.between(0.8, 2.2) - x) * inside(y - top + 1)
    sign = dice.either(0.5, dice.between(0.3, 0.75), -dice.between(0.3, 0.75))
    return 1 - flap * dice.chance(law.collar) * sign


def _texture(grid: Grid, dice: Dice, law: UpperBody) -> Map:
    """Stripes, checks or a print on the chest."""
    across, checks = dice.chance(law.stripes), dice.chance(law.checks)
    depth = dice.between(0.15, 0.6)
    rows = wave(grid.y, dice.between(2.2, 7), dice.between(0, 1)) * np.maximum(across, checks)
    columns = wave(grid.x, dice.between(2.2, 6), dice.between(0, 1)) * checks
    place = inside(dice.between(2, 5) - np.abs(grid.x)) * inside(dice.between(2, 5) - np.abs(grid.y + 1.5))
    motif = place * dice.grain(9) * dice.chance(law.print) * dice.between(0.4, 1.2)
    return (1 - depth * (rows + columns) * 0.7) * (1 + motif)


def t_shirt(grid: Grid, dice: Dice) -> Garment:
    """Mostly short sleeves, often a print."""
    return _upper_body(grid, dice, T_SHIRT)


def pullover(grid: Grid, dice: Dice) -> Garment:
    """Long sleeves, closed, a ribbed hem."""
    return _upper_body(grid, dice, PULLOVER)


def coat(grid: Grid, dice: Dice) -> Garment:
    """Long sleeves, a front opening, longer than the rest."""
    return _upper_body(grid, dice, COAT)


def shirt(grid: Grid, dice: Dice) -> Garment:
    """Something of all the others: any sleeve, often a collar and buttons."""
    return _upper_body(grid, dice, SHIRT)


def dress(grid: Grid, dice: Dice) -> Garment:
    """Narrow to the waist, wider below, to the edge of the image; some have sleeves."""
    x, y = np.abs(grid.x), grid.y
    top, bottom = dice.around(-13.2, 0.4), dice.between(11, 14)
    wide = dice.chance(0.2) * dice.between(1, 2.4)
    waist, chest = dice.between(2.6, 4.6) + wide, dice.between(3.4, 5.4) + wide
    skirt = waist + dice.between(0.2, 5.2)
    half = profile(y, [top, top + 5, dice.between(-4, 0), bottom], [dice.between(2.6, 5), chest, waist, skirt])
    body = inside(half - x) * inside(bottom - y) * inside(y - top)
    neck = dice.between(0.5, 5)
    hole = inside(neck * (1 - x / dice.between(1.6, 3.2)) - (y - top))
    length = dice.either(0.3, dice.between(9, 17), dice.between(2, 6))
    slope = dice.between(0.15, 0.5)
    radii = (dice.between(1.1, 1.8), dice.between(0.7, 1.4))
    sleeve = limb(x, y, (chest - 1.2, top + 2), (length * slope, length), radii) * np.maximum(
        dice.chance(0.35), inside(wide - 0.5)
    )
    belt = 1 - line(y + dice.between(0, 4), 0.8) * dice.chance(0.25) * dice.between(0.2, 0.7)
    return Garment(soft_or(body, sleeve) * (1 - hole), belt * _texture(grid, dice, PULLOVER))


def trouser(grid: Grid, dice: Dice) -> Garment:
    """A waist and two legs."""
    x, y = np.abs(grid.x), grid.y
    top, bottom, crotch = dice.around(-13, 0.4), dice.between(11.5, 14), dice.between(-8, -3.5)
    hip = dice.between(3.4, 5.4)
    outer = profile(y, [top, crotch, bottom], [hip - dice.between(0, 0.8), hip, hip + dice.between(-0.6, 1.6)])
    between = dice.either(0.12, dice.between(-0.6, 0), dice.between(0.3, 2.4))
    inner = profile(y, [crotch, crotch + 3, bottom], [dice.between(-1, 0), between * 0.4, between])
    # Short trousers exist too.
    bottom = dice.either(0.1, dice.between(-1, 6), bottom)
    cover = inside(outer - x) * inside(x - inner) * inside(y - top) * inside(bottom - y)
    seam = line(x, 0.4) * inside(crotch + 1 - y) * dice.between(0, 0.6)
    crease = line(x - hip * 0.55, 0.5) * dice.between(0, 0.35)
    return Garment(cover, (1 - seam) * (1 - crease))


def bag(grid: Grid, dice: Dice) -> Garment:
    """A box with rounded corners, most with a handle."""
    x, y = np.abs(grid.x), grid.y
    handled = dice.chance(0.75)
    top = either(handled, dice.between(-6.5, 1), dice.between(-9, -3))
    bottom = top + dice.between(10, 15.5)
    half = dice.between(8.5, 13.2) + dice.between(-2.2, 1.2) * (bottom - y) / 14
    corner = dice.between(0.5, 3)
    px, py = (
        np.maximum(x - half + corner, 0),
        np.maximum(np.abs(y - (top + bottom) / 2) - (bottom - top) / 2 + corner, 0),
    )
    body = inside(corner - np.sqrt(px * px + py * py))
    wide, high = dice.between(3, 8), dice.between(3.5, 9)
    ring = np.sqrt((x / wide) * (x / wide) + ((y - top) / high) * ((y - top) / high))
    handle = line((ring - 1) * np.minimum(wide, high), dice.between(0.45, 1.1)) * inside(top - y + 1) * handled
    flap = line(y - top - dice.between(2, 6), 0.6) * dice.chance(0.55) * dice.between(0.15, 0.7)
    clasp = line(x, dice.between(0.6, 1.6)) * line(y - top - dice.between(3, 7), 1) * dice.chance(0.5) * 0.5
    return Garment(soft_or(body, handle), (1 - flap) * (1 - clasp) * (1 + 0.25 * dice.grain(5)))


class Shoe(NamedTuple):
    """A closed shoe in profile, toe to the left: its coverage, and the height of its upper edge at each x."""

    cover: Map
    upper: Map


def _shoe(grid: Grid, dice: Dice, sole: Values, rise: tuple[Values, Values, Values]) -> Shoe:
    """`rise`: how far above the sole the instep, the collar and the heel are."""
    instep, collar, heel = rise
    toe, back = dice.between(2.2, 4), dice.between(11.5, 13.6)
    knots: list[float | Values] = [-13.5, -11.0, -5.0, dice.between(-2.5, 1), dice.between(3, 6), back]
    heights: list[float | Values] = [0.5, toe, toe + 0.8, instep, collar, heel]
    upper = sole - profile(grid.x, knots, heights)
    ends = inside(grid.x + dice.between(12.6, 13.8)) * inside(back - grid.x)
    return Shoe(inside(grid.y - upper) * inside(sole - grid.y) * ends, upper)


def sneaker(grid: Grid, dice: Dice) -> Garment:
    """A low shoe with a rim of another tone, laces and a stripe at the side; some reach over the ankle."""
    instep = dice.between(5, 8.5)
    collar = instep + dice.either(0.06, dice.between(3, 8), dice.between(-1.6, 1.4))
    sole = dice.between(3.5, 6.5) + (collar - 5) * 0.4
    cover, upper = _shoe(grid, dice, sole, (instep, collar, collar + dice.between(-0.6, 2)))
    contrast = dice.either(0.6, dice.between(0.1, 0.5), -dice.between(0.2, 0.8))
    rim = inside(grid.y - sole + dice.between(1, 2.4)) * contrast
    side = line(grid.x - grid.y * dice.between(-1.2, 1.2) - dice.between(-4, 6), dice.between(0.5, 1.4))
    stripe = side * dice.chance(0.6) * dice.either(0.5, dice.between(0.2, 0.7), -dice.between(0.2, 0.6))
    lace = wave(grid.x, dice.between(1.8, 3), dice.between(0, 1)) * line(grid.x + 2, 3) * inside(upper + 2 - grid.y)
    return Garment(cover, (1 + rim) * (1 - stripe) * (1 - lace * dice.between(0, 0.6)))


def ankle_boot(grid: Grid, dice: Dice) -> Garment:
    """A shoe whose shaft reaches up; some have a heel."""
    shaft = dice.either(0.12, dice.between(9, 15), dice.between(16, 25))
    sole = dice.between(6, 8) + (shaft - 9) * 0.3
    cover, _ = _shoe(grid, dice, sole, (dice.between(5, 10), shaft - dice.between(0, 2), shaft))
    height = dice.between(0.8, 4) * dice.chance(0.6)
    arch = line(grid.x - dice.between(1, 4), dice.between(3.5, 5.5)) * inside(grid.y - sole + height)
    rim = inside(grid.y - sole + 1.6) * dice.between(-0.4, 0.4)
    zipper = (
        line(grid.x - dice.between(4, 9), 0.4) * inside(sole - 4 - grid.y) * dice.chance(0.4) * dice.between(0.2, 0.6)
    )
    return Garment(cover * (1 - arch), (1 + rim) * (1 - zipper))


def sandal(grid: Grid, dice: Dice) -> Garment:
    """A thin sole, flat or raised at the heel, and straps with gaps between them."""
    sole, lift = dice.between(4.5, 8.5), dice.either(0.5, dice.between(0, 2), dice.between(2.5, 8))
    thick = dice.between(0.7, 1.7)
    bed = profile(
        grid.x,
        [-13.0, -4.0, 8.0, 13.0],
        [sole - thick, sole - thick, sole - thick - lift, sole - thick - lift],
    )
    ends = inside(grid.x + 13) * inside(13 - grid.x)
    heel = inside(grid.x - dice.between(6, 10.5)) * inside(grid.y - bed) * inside(sole - grid.y) * ends
    floor = line(grid.y - bed, thick) * ends
    high = dice.between(3.5, 7.5)
    upper = bed - profile(grid.x, [-12.0, -6.0, 0.0, 10.0], [1.0, high * 0.7, high, high * dice.between(0.3, 1.4)])
    leather = inside(grid.y - upper) * inside(bed - grid.y) * ends
    slant = grid.x + grid.y * dice.between(-0.9, 0.9)
    period = dice.between(4, 11)
    open_toe = dice.either(0.93, dice.between(0.25, 0.7), dice.between(-0.4, 0.1))
    gaps = inside((wave(slant, period, dice.between(0, 1)) - open_toe) * period * 0.5)
    return Garment(soft_or(soft_or(leather * gaps, floor), heel), 1 + 0.2 * dice.grain(7))


# By label, in the order of LABELS.
GARMENTS: tuple[Callable[[Grid, Dice], Garment], ...] = (
    t_shirt,
    trouser,
    pullover,
    dress,
    coat,
    sandal,
    shirt,
    sneaker,
    bag,
    ankle_boot,
)
