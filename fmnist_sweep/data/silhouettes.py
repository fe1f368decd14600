"""The ten garments of the drawn stand-in, each drawn for a batch of 28 x 28 images at once.

The four upper-body labels share one pattern, `_draw_upper_body`, and differ only in how probable each sleeve, neck,
collar, opening and texture is. These probabilities overlap, so no classifier gets every image right; the same holds
for Fashion-MNIST. The footwear is in `shoes`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fmnist_sweep.data.shapes import (
    Dice,
    Garment,
    Grid,
    Map,
    Values,
    cover_inside,
    draw_limb,
    draw_line,
    draw_profile,
    draw_wave,
    select_values,
    unite_coverages,
)
from fmnist_sweep.data.shoes import draw_ankle_boot, draw_sandal, draw_sneaker

Range = tuple[float, float]


@dataclass(frozen=True)
class UpperBodyStyle:
    """The features of an upper-body label: probabilities (0..1) and ranges of lengths, in pixels."""

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


T_SHIRT = UpperBodyStyle(
    long_sleeves=0.08, short=(4.0, 9.0), long=(15, 20), bottom=(10.0, 13.0), width=(5.6, 7.6),
    flare=(-0.4, 0.7), neck=(1.6, 4.6), v_neck=0.2, opening=0.04, opening_strength=(0.1, 0.4), buttons=0.04,
    collar=0.05, hem=0.1, stripes=0.22, checks=0.04, print=0.42,
)  # fmt: skip
PULLOVER = UpperBodyStyle(
    long_sleeves=0.95, short=(8.0, 12.0), long=(15.5, 21), bottom=(10.0, 13.2), width=(5.6, 7.6),
    flare=(-0.8, 0.5), neck=(0.8, 3.4), v_neck=0.25, opening=0.06, opening_strength=(0.1, 0.5), buttons=0.04,
    collar=0.1, hem=0.6, stripes=0.3, checks=0.08, print=0.2,
)  # fmt: skip
COAT = UpperBodyStyle(
    long_sleeves=0.96, short=(8.0, 12.0), long=(15.5, 21), bottom=(11.2, 13.8), width=(5.8, 7.8),
    flare=(-0.2, 1.3), neck=(1.4, 5.0), v_neck=0.6, opening=0.93, opening_strength=(0.35, 0.9), buttons=0.1,
    collar=0.25, hem=0.2, stripes=0.06, checks=0.1, print=0.03,
)  # fmt: skip
SHIRT = UpperBodyStyle(
    long_sleeves=0.6, short=(4.5, 10.0), long=(15, 21), bottom=(10.4, 13.4), width=(5.5, 7.6),
    flare=(-0.5, 0.9), neck=(1.0, 4.2), v_neck=0.4, opening=0.35, opening_strength=(0.1, 0.45), buttons=0.85,
    collar=0.88, hem=0.12, stripes=0.2, checks=0.3, print=0.06,
)  # fmt: skip


def _draw_upper_body(grid: Grid, dice: Dice, style: UpperBodyStyle) -> Garment:
    x, y = np.abs(grid.x), grid.y
    top, bottom = dice.draw_bell(-12, 0.5), dice.draw_uniform(*style.bottom)
    chest, flare = dice.draw_uniform(*style.width), dice.draw_uniform(*style.flare)
    shoulder = chest + dice.draw_uniform(-0.4, 0.9)
    half = draw_profile(y, [top, top + 6, bottom], [shoulder, chest, chest + flare])
    body = cover_inside(half - x) * cover_inside(y - top - x * dice.draw_uniform(0.12, 0.4)) * cover_inside(bottom - y)
    sleeve = _draw_sleeves(Grid(x, y), dice, style, top, shoulder)
    neck_width = dice.draw_uniform(2.2, 3.8)
    neck, has_v_neck = dice.draw_uniform(*style.neck), dice.draw_indicator(style.v_neck)
    neck_position = x / neck_width
    depth = neck * (1 - select_values(has_v_neck, neck_position, neck_position * neck_position))
    hole = cover_inside(depth - (y - top))
    cover = unite_coverages(body, sleeve) * (1 - hole)
    armpit = draw_line(half - x, 0.4) * cover_inside(y - top - 4) * cover_inside(bottom - y)
    shade = 1 - armpit * dice.draw_uniform(0.1, 0.75)
    shade = (
        shade
        * _shade_front(grid, dice, style, top + neck, bottom)
        * _shade_collar(x, y, dice, style, top, neck, neck_width)
    )
    shade = shade * (1 - cover_inside(y - bottom + 2) * dice.draw_indicator(style.hem) * dice.draw_uniform(0.1, 0.4))
    return Garment(cover, shade * _shade_texture(grid, dice, style))


def _draw_sleeves(grid: Grid, dice: Dice, style: UpperBodyStyle, top: Values, shoulder: Values) -> Map:
    """Draw both sleeves at once: x is the distance from the middle of the garment."""
    long = dice.draw_indicator(style.long_sleeves)
    length = select_values(long, dice.draw_uniform(*style.long), dice.draw_uniform(*style.short))
    # Long sleeves hang; short ones may stand off.
    slope = select_values(long, dice.draw_uniform(0.1, 0.42), dice.draw_uniform(0.25, 1.1))
    down = length / np.sqrt(1 + slope * slope)
    thick = dice.draw_uniform(1.9, 2.9)
    thin = select_values(long, dice.draw_uniform(1.1, 1.9), thick * dice.draw_uniform(0.8, 1.05))
    start = (shoulder - 1.4, top + thick + 0.6)
    return draw_limb(grid.x, grid.y, start, (down * slope, down - thick), (thick, thin))


def _shade_front(grid: Grid, dice: Dice, style: UpperBodyStyle, top: Values, bottom: Values) -> Map:
    """Shade an opening from the neck down, and the buttons beside it."""
    lower = dice.choose(0.75, bottom, dice.draw_uniform(-4, 4))
    area = cover_inside(grid.y - top) * cover_inside(lower - grid.y)
    x = grid.x - dice.draw_bell(0, 1.1)
    gap = (
        draw_line(x, dice.draw_uniform(0.1, 0.6))
        * dice.draw_indicator(style.opening)
        * dice.draw_uniform(*style.opening_strength)
    )
    gap = gap * (1 - 2 * dice.draw_indicator(0.3))  # some zips are lighter than the cloth
    dots = cover_inside(draw_wave(grid.y, dice.draw_uniform(2.6, 4.5), dice.draw_uniform(0, 1)) * 3 - 1.6) * draw_line(
        x - 0.9, 0.5
    )
    sign = dice.choose(0.5, dice.draw_uniform(0.3, 0.8), -dice.draw_uniform(0.3, 0.8))
    return 1 - area * (gap + dots * dice.draw_indicator(style.buttons) * sign)


def _shade_collar(x: Map, y: Map, dice: Dice, style: UpperBodyStyle, top: Values, neck: Values, width: Values) -> Map:
    """Shade two flaps beside the neck, lighter or darker than the garment."""
    drop = y - top - neck * (1 - x / width)
    flap = (
        draw_line(drop - 1.2, dice.draw_uniform(1, 1.9))
        * cover_inside(width + dice.draw_uniform(0.8, 2.2) - x)
        * cover_inside(y - top + 1)
    )
    sign = dice.choose(0.5, dice.draw_uniform(0.3, 0.75), -dice.draw_uniform(0.3, 0.75))
    return 1 - flap * dice.draw_indicator(style.collar) * sign


def _shade_texture(grid: Grid, dice: Dice, style: UpperBodyStyle) -> Map:
    """Shade stripes, checks or a print on the chest."""
    has_stripes, has_checks = dice.draw_indicator(style.stripes), dice.draw_indicator(style.checks)
    depth = dice.draw_uniform(0.15, 0.6)
    rows = draw_wave(grid.y, dice.draw_uniform(2.2, 7), dice.draw_uniform(0, 1)) * np.maximum(has_stripes, has_checks)
    columns = draw_wave(grid.x, dice.draw_uniform(2.2, 6), dice.draw_uniform(0, 1)) * has_checks
    place = cover_inside(dice.draw_uniform(2, 5) - np.abs(grid.x)) * cover_inside(
        dice.draw_uniform(2, 5) - np.abs(grid.y + 1.5)
    )
    motif = place * dice.draw_noise(9) * dice.draw_indicator(style.print) * dice.draw_uniform(0.4, 1.2)
    return (1 - depth * (rows + columns) * 0.7) * (1 + motif)


def draw_t_shirt(grid: Grid, dice: Dice) -> Garment:
    """Draw T-shirts: mostly short sleeves, often a print."""
    return _draw_upper_body(grid, dice, T_SHIRT)


def draw_pullover(grid: Grid, dice: Dice) -> Garment:
    """Draw pullovers: long sleeves, no opening, often a ribbed hem."""
    return _draw_upper_body(grid, dice, PULLOVER)


def draw_coat(grid: Grid, dice: Dice) -> Garment:
    """Draw coats: long sleeves and a front opening, longer than the other garments."""
    return _draw_upper_body(grid, dice, COAT)


def draw_shirt(grid: Grid, dice: Dice) -> Garment:
    """Draw shirts, which share features with the other three: any sleeve, often a collar and buttons."""
    return _draw_upper_body(grid, dice, SHIRT)


def draw_dress(grid: Grid, dice: Dice) -> Garment:
    """Draw dresses: narrow down to the waist, wider below it, almost as long as the image; some have sleeves."""
    x, y = np.abs(grid.x), grid.y
    top, bottom = dice.draw_bell(-13.2, 0.4), dice.draw_uniform(11, 14)
    wide = dice.draw_indicator(0.2) * dice.draw_uniform(1, 2.4)
    waist, chest = dice.draw_uniform(2.6, 4.6) + wide, dice.draw_uniform(3.4, 5.4) + wide
    skirt = waist + dice.draw_uniform(0.2, 5.2)
    half = draw_profile(
        y, [top, top + 5, dice.draw_uniform(-4, 0), bottom], [dice.draw_uniform(2.6, 5), chest, waist, skirt]
    )
    body = cover_inside(half - x) * cover_inside(bottom - y) * cover_inside(y - top)
    neck = dice.draw_uniform(0.5, 5)
    hole = cover_inside(neck * (1 - x / dice.draw_uniform(1.6, 3.2)) - (y - top))
    length = dice.choose(0.3, dice.draw_uniform(9, 17), dice.draw_uniform(2, 6))
    slope = dice.draw_uniform(0.15, 0.5)
    radii = (dice.draw_uniform(1.1, 1.8), dice.draw_uniform(0.7, 1.4))
    sleeve = draw_limb(x, y, (chest - 1.2, top + 2), (length * slope, length), radii) * np.maximum(
        dice.draw_indicator(0.35), cover_inside(wide - 0.5)
    )
    belt = 1 - draw_line(y + dice.draw_uniform(0, 4), 0.8) * dice.draw_indicator(0.25) * dice.draw_uniform(0.2, 0.7)
    return Garment(unite_coverages(body, sleeve) * (1 - hole), belt * _shade_texture(grid, dice, PULLOVER))


def draw_trouser(grid: Grid, dice: Dice) -> Garment:
    """Draw trousers: a waist and two legs, some of them short."""
    x, y = np.abs(grid.x), grid.y
    top, bottom, crotch = dice.draw_bell(-13, 0.4), dice.draw_uniform(11.5, 14), dice.draw_uniform(-8, -3.5)
    hip = dice.draw_uniform(3.4, 5.4)
    outer = draw_profile(
        y, [top, crotch, bottom], [hip - dice.draw_uniform(0, 0.8), hip, hip + dice.draw_uniform(-0.6, 1.6)]
    )
    leg_gap = dice.choose(0.12, dice.draw_uniform(-0.6, 0), dice.draw_uniform(0.3, 2.4))
    inner = draw_profile(y, [crotch, crotch + 3, bottom], [dice.draw_uniform(-1, 0), leg_gap * 0.4, leg_gap])
    # Some trousers are short.
    bottom = dice.choose(0.1, dice.draw_uniform(-1, 6), bottom)
    cover = cover_inside(outer - x) * cover_inside(x - inner) * cover_inside(y - top) * cover_inside(bottom - y)
    seam = draw_line(x, 0.4) * cover_inside(crotch + 1 - y) * dice.draw_uniform(0, 0.6)
    crease = draw_line(x - hip * 0.55, 0.5) * dice.draw_uniform(0, 0.35)
    return Garment(cover, (1 - seam) * (1 - crease))


def draw_bag(grid: Grid, dice: Dice) -> Garment:
    """Draw bags: boxes with rounded corners, most with a handle."""
    x, y = np.abs(grid.x), grid.y
    has_handle = dice.draw_indicator(0.75)
    top = select_values(has_handle, dice.draw_uniform(-6.5, 1), dice.draw_uniform(-9, -3))
    bottom = top + dice.draw_uniform(10, 15.5)
    half = dice.draw_uniform(8.5, 13.2) + dice.draw_uniform(-2.2, 1.2) * (bottom - y) / 14
    corner = dice.draw_uniform(0.5, 3)
    px, py = (
        np.maximum(x - half + corner, 0),
        np.maximum(np.abs(y - (top + bottom) / 2) - (bottom - top) / 2 + corner, 0),
    )
    body = cover_inside(corner - np.sqrt(px * px + py * py))
    wide, high = dice.draw_uniform(3, 8), dice.draw_uniform(3.5, 9)
    ring = np.sqrt((x / wide) * (x / wide) + ((y - top) / high) * ((y - top) / high))
    handle = (
        draw_line((ring - 1) * np.minimum(wide, high), dice.draw_uniform(0.45, 1.1))
        * cover_inside(top - y + 1)
        * has_handle
    )
    flap = draw_line(y - top - dice.draw_uniform(2, 6), 0.6) * dice.draw_indicator(0.55) * dice.draw_uniform(0.15, 0.7)
    clasp = (
        draw_line(x, dice.draw_uniform(0.6, 1.6))
        * draw_line(y - top - dice.draw_uniform(3, 7), 1)
        * dice.draw_indicator(0.5)
        * 0.5
    )
    return Garment(unite_coverages(body, handle), (1 - flap) * (1 - clasp) * (1 + 0.25 * dice.draw_noise(5)))


# By label, in the order of LABELS.
GARMENTS: tuple[Callable[[Grid, Dice], Garment], ...] = (
    draw_t_shirt,
    draw_trouser,
    draw_pullover,
    draw_dress,
    draw_coat,
    draw_sandal,
    draw_shirt,
    draw_sneaker,
    draw_bag,
    draw_ankle_boot,
)
