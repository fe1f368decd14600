"""The three kinds of footwear of the drawn stand-in: sneaker, ankle boot and sandal."""

from __future__ import annotations

from typing import NamedTuple

from fmnist_sweep.data.shapes import (
    Dice,
    Garment,
    Grid,
    Map,
    Values,
    cover_inside,
    draw_line,
    draw_profile,
    draw_wave,
    unite_coverages,
)


class Shoe(NamedTuple):
    """A closed shoe in profile, toe to the left: its coverage, and the height of its upper edge at each x."""

    cover: Map
    upper: Map


def _draw_shoe(grid: Grid, dice: Dice, sole: Values, rise: tuple[Values, Values, Values]) -> Shoe:
    """Draw a closed shoe. rise: heights of the instep, the collar and the heel above the sole, in pixels."""
    instep, collar, heel = rise
    toe, back = dice.draw_uniform(2.2, 4), dice.draw_uniform(11.5, 13.6)
    knots: list[float | Values] = [-13.5, -11.0, -5.0, dice.draw_uniform(-2.5, 1), dice.draw_uniform(3, 6), back]
    heights: list[float | Values] = [0.5, toe, toe + 0.8, instep, collar, heel]
    upper = sole - draw_profile(grid.x, knots, heights)
    ends = cover_inside(grid.x + dice.draw_uniform(12.6, 13.8)) * cover_inside(back - grid.x)
    return Shoe(cover_inside(grid.y - upper) * cover_inside(sole - grid.y) * ends, upper)


def draw_sneaker(grid: Grid, dice: Dice) -> Garment:
    """Draw sneakers: low shoes with a rim of another tone, laces and a side stripe; some reach above the ankle."""
    instep = dice.draw_uniform(5, 8.5)
    collar = instep + dice.choose(0.06, dice.draw_uniform(3, 8), dice.draw_uniform(-1.6, 1.4))
    sole = dice.draw_uniform(3.5, 6.5) + (collar - 5) * 0.4
    cover, upper = _draw_shoe(grid, dice, sole, (instep, collar, collar + dice.draw_uniform(-0.6, 2)))
    contrast = dice.choose(0.6, dice.draw_uniform(0.1, 0.5), -dice.draw_uniform(0.2, 0.8))
    rim = cover_inside(grid.y - sole + dice.draw_uniform(1, 2.4)) * contrast
    side = draw_line(
        grid.x - grid.y * dice.draw_uniform(-1.2, 1.2) - dice.draw_uniform(-4, 6), dice.draw_uniform(0.5, 1.4)
    )
    stripe = (
        side * dice.draw_indicator(0.6) * dice.choose(0.5, dice.draw_uniform(0.2, 0.7), -dice.draw_uniform(0.2, 0.6))
    )
    lace = (
        draw_wave(grid.x, dice.draw_uniform(1.8, 3), dice.draw_uniform(0, 1))
        * draw_line(grid.x + 2, 3)
        * cover_inside(upper + 2 - grid.y)
    )
    return Garment(cover, (1 + rim) * (1 - stripe) * (1 - lace * dice.draw_uniform(0, 0.6)))


def draw_ankle_boot(grid: Grid, dice: Dice) -> Garment:
    """Draw ankle boots: shoes with a tall shaft; some have a heel."""
    shaft = dice.choose(0.12, dice.draw_uniform(9, 15), dice.draw_uniform(16, 25))
    sole = dice.draw_uniform(6, 8) + (shaft - 9) * 0.3
    cover, _ = _draw_shoe(grid, dice, sole, (dice.draw_uniform(5, 10), shaft - dice.draw_uniform(0, 2), shaft))
    height = dice.draw_uniform(0.8, 4) * dice.draw_indicator(0.6)
    arch = draw_line(grid.x - dice.draw_uniform(1, 4), dice.draw_uniform(3.5, 5.5)) * cover_inside(
        grid.y - sole + height
    )
    rim = cover_inside(grid.y - sole + 1.6) * dice.draw_uniform(-0.4, 0.4)
    zipper = (
        draw_line(grid.x - dice.draw_uniform(4, 9), 0.4)
        * cover_inside(sole - 4 - grid.y)
        * dice.draw_indicator(0.4)
        * dice.draw_uniform(0.2, 0.6)
    )
    return Garment(cover * (1 - arch), (1 + rim) * (1 - zipper))


def draw_sandal(grid: Grid, dice: Dice) -> Garment:
    """Draw sandals: a thin sole, flat or raised at the heel, and straps with gaps between them."""
    sole, lift = dice.draw_uniform(4.5, 8.5), dice.choose(0.5, dice.draw_uniform(0, 2), dice.draw_uniform(2.5, 8))
    thick = dice.draw_uniform(0.7, 1.7)
    bed = draw_profile(
        grid.x,
        [-13.0, -4.0, 8.0, 13.0],
        [sole - thick, sole - thick, sole - thick - lift, sole - thick - lift],
    )
    ends = cover_inside(grid.x + 13) * cover_inside(13 - grid.x)
    heel = (
        cover_inside(grid.x - dice.draw_uniform(6, 10.5))
        * cover_inside(grid.y - bed)
        * cover_inside(sole - grid.y)
        * ends
    )
    floor = draw_line(grid.y - bed, thick) * ends
    high = dice.draw_uniform(3.5, 7.5)
    upper = bed - draw_profile(
        grid.x, [-12.0, -6.0, 0.0, 10.0], [1.0, high * 0.7, high, high * dice.draw_uniform(0.3, 1.4)]
    )
    leather = cover_inside(grid.y - upper) * cover_inside(bed - grid.y) * ends
    slant = grid.x + grid.y * dice.draw_uniform(-0.9, 0.9)
    period = dice.draw_uniform(4, 11)
    open_toe = dice.choose(0.93, dice.draw_uniform(0.25, 0.7), dice.draw_uniform(-0.4, 0.1))
    gaps = cover_inside((draw_wave(slant, period, dice.draw_uniform(0, 1)) - open_toe) * period * 0.5)
    return Garment(unite_coverages(unite_coverages(leather * gaps, floor), heel), 1 + 0.2 * dice.draw_noise(7))
