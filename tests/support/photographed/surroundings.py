"""What stands round a picture or on it: pages, frames, axes, screens, words."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tests.support.photographed.drawing import (
    Picture,
    Pixels,
    blur,
    enlarge,
    make_grey,
    make_grid,
    raise_black,
)


def thin_frame(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    values = enlarge(pixels, dark, random)
    return Picture(make_grey(np.pad(values, max(2, len(values) // 60), constant_values=0 if dark else 255)))


def picture_frame(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A wooden frame, a mount, the picture."""
    values = enlarge(pixels, dark, random)
    wide = len(values) // 12
    image = Image.new("RGB", (len(values) + 4 * wide,) * 2, (110, 70, 30))
    mount = (235, 230, 215) if not dark else (60, 60, 70)
    image.paste(mount, (wide, wide, image.width - wide, image.height - wide))
    image.paste(make_grey(values).convert("RGB"), (2 * wide, 2 * wide))
    return Picture(image, ".jpg", {"quality": 92})


def page(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A square on a page of the other colour."""
    values = enlarge(pixels, dark, random)
    side = len(values)
    left, right, top, bottom = (round(side * by) for by in random.uniform(0.05, 0.6, 4))
    return Picture(make_grey(np.pad(values, ((top, bottom), (left, right)), constant_values=0 if dark else 255)))


def grey_page(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    values = enlarge(pixels, dark, random)
    wide = round(len(values) * random.uniform(0.1, 0.4))
    return Picture(make_grey(np.pad(values, wide, constant_values=random.uniform(90, 160))))


def scan(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A print on a page that lies a little askew on the scanner."""
    values = enlarge(pixels, dark, random)
    wide = len(values) // 4
    image = make_grey(np.pad(values, wide, constant_values=0 if dark else 255))
    turned = image.rotate(float(random.uniform(-3, 3)), Image.Resampling.BICUBIC, fillcolor=0 if dark else 255)
    return Picture(turned, ".jpg", {"quality": 85})


def letterbox(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Bars above and below, as in a film."""
    values = enlarge(pixels, dark, random)
    high = len(values) // 6
    return Picture(make_grey(np.pad(values, ((high, high), (0, 0)), constant_values=0 if dark else 255)))


def screenshot(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A gallery on a phone: a status bar, a title, the picture over the whole width, buttons."""
    width, height = (360, 780)
    night = bool(random.integers(2))
    ground, ink = ((18, 18, 18), (230, 230, 230)) if night else ((255, 255, 255), (30, 30, 30))
    image = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(image)
    draw.text((14, 8), "12:41", ink)
    draw.rectangle((322, 9, 344, 19), outline=ink)
    draw.rectangle((324, 11, 338, 17), fill=ink)
    for step in range(4):
        draw.rectangle((280 + 7 * step, 19 - 3 * step, 284 + 7 * step, 19), fill=ink)
    draw.text((60, 48), "Photos from Tuesday", ink)
    draw.line((20, 54, 36, 54), ink, 2)
    for place in range(4):
        draw.ellipse((40 + 80 * place, 700, 64 + 80 * place, 724), outline=ink, width=2)
    draw.rounded_rectangle((120, 762, 240, 767), 2, fill=ink)
    square = make_grey(enlarge(pixels, dark, random)).resize((width, width), Image.Resampling.BICUBIC)
    image.paste(square.convert("RGB"), (0, 190))
    return Picture(image)


def shop(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A shop's page: the picture, and words beneath it on the same ground."""
    values = enlarge(pixels, dark, random, 0.1)
    side = len(values)
    image = Image.new("L", (side, round(side * 1.4)), 255 if dark else 0)
    image.paste(make_grey(values))
    draw = ImageDraw.Draw(image)
    for line, text in enumerate(("New in: autumn", "EUR 24.90", "free returns")):
        draw.text((12, side + 6 + line * side * 0.12), text, 60 if dark else 200, font_size=side / 14)
    return Picture(image)


def _draw_axes(pixels: Pixels, decorate: Callable[[Any, Any], None], **options: Any) -> Picture:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 3.6), dpi=80)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    decorate(figure, axes.imshow(pixels, **options))
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return Picture(Image.open(content))


def axes(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """plt.imshow and plt.savefig: ticks, numbers and a title on a white page."""
    return _draw_axes(
        pixels, lambda figure, image: image.axes.set_title("Test image"), cmap="gray_r" if dark else "gray"
    )


def axes_off(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    return _draw_axes(pixels, lambda figure, image: image.axes.set_axis_off(), cmap="gray_r" if dark else "gray")


def colour_bar(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """In matplotlib's own colours, with the bar that explains them."""
    return _draw_axes(pixels, lambda figure, image: figure.colorbar(image), cmap="viridis_r" if dark else "viridis")


def axes_grid(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """plt.grid(): lines through the picture."""
    return _draw_axes(pixels, lambda figure, image: image.axes.grid(True), cmap="gray_r" if dark else "gray")


def jet(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    return _draw_axes(pixels, lambda figure, image: None, cmap="jet_r" if dark else "jet")


def hot(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    return _draw_axes(pixels, lambda figure, image: figure.colorbar(image), cmap="hot_r" if dark else "hot")


def page_of_text(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A picture in an article: columns of words round it, on a page of its own ground."""
    values = enlarge(pixels, dark, random, 0.1)
    side = len(values)
    ground, ink = (255, 30) if dark else (0, 220)
    image = Image.new("L", (2 * side, round(2.4 * side)), ground)
    draw = ImageDraw.Draw(image)
    high = side // 14
    for line, top in enumerate(range(high, image.height - high, round(1.5 * high))):
        text = " ".join(["lorem ipsum dolor sit amet"[line % 5 :]] * 4)
        draw.text((high, top), text, ink, font_size=high)
    image.paste(make_grey(values), (side // 2, round(0.6 * side)))
    return Picture(image)


def watermark(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A stock photograph: pale words across it."""
    values = raise_black(enlarge(pixels, dark, random, 0.1), dark)
    words = Image.new("L", values.shape[::-1], 0)
    draw = ImageDraw.Draw(words)
    for row in range(4):
        place = (row % 2 * 30, (row + 0.4) * len(values) / 4)
        draw.text(place, "stock photo  stock photo", 255, font_size=len(values) / 12)
    share = np.asarray(words.rotate(20), np.float64) / 255 * 0.2
    return Picture(make_grey(values * (1 - share) + 128 * share))


def date_stamp(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """An old camera's orange date in a corner."""
    image = make_grey(enlarge(pixels, dark, random, 0.15)).convert("RGB")
    place = (image.width * 0.62, image.height * 0.92)
    ImageDraw.Draw(image).text(place, "12 4 '98", (250, 140, 30), font_size=image.width / 14)
    return Picture(image, ".jpg", {"quality": 88})


def price_label(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A red disc with words in it in a corner."""
    image = make_grey(enlarge(pixels, dark, random, 0.25)).convert("RGB")
    side = image.width
    draw = ImageDraw.Draw(image)
    draw.ellipse((0.83 * side, 0.01 * side, 0.98 * side, 0.16 * side), fill=(220, 20, 40))
    draw.text((0.86 * side, 0.07 * side), "-30%", "white", font_size=side / 24)
    return Picture(image)


def instant_film(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A white rim, broad at its lower side, on a table."""
    values = enlarge(pixels, dark, random)
    side = len(values)
    rim = side // 14
    card = Image.new("RGB", (side + 2 * rim, side + 5 * rim), (246, 245, 240))
    card.paste(make_grey(values).convert("RGB"), (rim, rim))
    image = Image.new("RGB", (card.width + 6 * rim, card.height + 6 * rim), (120, 85, 60))
    image.paste(card, (3 * rim, 3 * rim))
    return Picture(image, ".jpg", {"quality": 90})


def hanger(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """The hook of a hanger above the garment."""
    values = enlarge(pixels, dark, random, 0.2)
    image, side = make_grey(values), len(values)
    box = (0.46 * side, 0.03 * side, 0.54 * side, 0.11 * side)
    draw = ImageDraw.Draw(image)
    draw.arc(box, 150, 90, fill=128, width=max(2, side // 80))
    draw.line((0.5 * side, 0.11 * side, 0.5 * side, 0.2 * side), fill=128, width=max(2, side // 80))
    return Picture(image)


def contact_sheet(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """The same garment six times, with gaps between."""
    values = enlarge(pixels, dark, random, 0.1)[::2, ::2]
    gap = len(values) // 10
    tile = np.pad(values, gap, constant_values=0 if dark else 255)
    return Picture(make_grey(np.tile(tile, (2, 3))))


def web_card(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A card with round corners and a shadow on a web page's slope of colours."""
    values = enlarge(pixels, dark, random)
    side, wide = len(values), len(values) // 5
    mask = Image.new("L", (side + 2 * wide,) * 2, 0)
    ImageDraw.Draw(mask).rounded_rectangle((wide, wide, wide + side - 1, wide + side - 1), side / 16, fill=255)
    shadow = 1 - 0.3 * blur(np.asarray(mask, np.float64) / 255, wide / 6)
    x, y = make_grid(shadow)
    page = np.stack([110 + 60 * x, 120 + 30 * y, 180 - 40 * x], axis=2) * shadow[:, :, None]
    image = Image.fromarray(page.round().clip(0, 255).astype(np.uint8))
    square = Image.new("RGB", image.size)
    square.paste(make_grey(values).convert("RGB"), (wide, wide))
    return Picture(Image.composite(square, image, mask))
