"""Fashion-MNIST's images as people photograph, scan, draw and save them: 28x28 pixels in, a picture out.

The table of docs/using-the-model.md (benchmarks/photographs.py) and tests/data/test_photographs.py use them.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Pixels = NDArray[np.uint8]
Values = NDArray[np.float64]


class Picture(NamedTuple):
    """A picture and how it is saved."""

    image: Image.Image
    suffix: str = ".png"
    options: Mapping[str, Any] = MappingProxyType({})

    def save(self, folder: Path, name: str = "picture") -> Path:
        path = folder / f"{name}{self.suffix}"
        self.image.save(path, **self.options)
        return path


class Disturbance(NamedTuple):
    """What happens to a picture: `make(pixels, dark, random)`; dark: a dark garment on white, else bright on black."""

    name: str
    make: Callable[[Pixels, bool, np.random.Generator], Picture]
    grounds: tuple[bool, ...] = (True, False)


def enlarge(pixels: Pixels, dark: bool, random: np.random.Generator, margin: float | None = None) -> Values:
    """A shop's picture of the garment: 168 to 420 pixels and a margin, grey values 0..255, (h, w)."""
    side = int(random.choice([168, 280, 420]))
    how = random.choice([Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.LANCZOS])
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling(how))
    share = float(random.choice([0, 0.1, 0.25])) if margin is None else margin
    values = np.pad(np.asarray(image, np.float64), round(share * side))
    return 255 - values if dark else values


def _grid(values: Values) -> tuple[Values, Values]:
    """Coordinates of the pixels, -1 at the left and top to 1 at the right and bottom."""
    height, width = values.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return x, y


def _blur(values: Values, radius: float) -> Values:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(values, radius, mode="nearest"), np.float64)


def _grey(values: Values) -> Image.Image:
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


def _tint(values: Values, dark_colour: tuple[float, ...], bright_colour: tuple[float, ...]) -> Image.Image:
    """Black becomes one colour, white another."""
    share = values.clip(0, 255)[:, :, None] / 255
    colours = np.array(dark_colour) * (1 - share) + np.array(bright_colour) * share
    return Image.fromarray(colours.round().clip(0, 255).astype(np.uint8))


def _raise(values: Values, dark: bool, by: float = 40) -> Values:
    """Black is never quite black in a photograph: without this, light leaves no trace on it."""
    return values if dark else by + values * (255 - by) / 255


# Light


def plain(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    return Picture(Image.fromarray(255 - pixels if dark else pixels))


def enlarged(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    return Picture(_grey(enlarge(pixels, dark, random)))


def enlarged_to_the_edge(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    return Picture(Image.fromarray(255 - pixels if dark else pixels).resize((280, 280), Image.Resampling.NEAREST))


def vignette(by: float) -> Callable[[Pixels, bool, np.random.Generator], Picture]:
    def make(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
        values = _raise(enlarge(pixels, dark, random), dark)
        x, y = _grid(values)
        return Picture(_grey(values * (1 - by * (x**2 + y**2) / 2)))

    return make


def lens_vignette(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """cos^4 of the angle to the lens' axis, which does not go through the middle."""
    values = _raise(enlarge(pixels, dark, random), dark)
    x, y = _grid(values)
    dx, dy = random.uniform(-0.3, 0.3, 2)
    return Picture(_grey(values / (1 + 0.25 * ((x - dx) ** 2 + (y - dy) ** 2)) ** 2), ".jpg", {"quality": 90})


def light_from_a_side(by: float) -> Callable[[Pixels, bool, np.random.Generator], Picture]:
    def make(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
        values = _raise(enlarge(pixels, dark, random), dark)
        x, y = _grid(values)
        angle = random.uniform(0, 2 * np.pi)
        along = x * np.cos(angle) + y * np.sin(angle)
        return Picture(_grey(values * (1 - by * (along - along.min()) / np.ptp(along))))

    return make


def lamp(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A bright spot behind the garment, anywhere."""
    values = _raise(enlarge(pixels, dark, random), dark)
    x, y = _grid(values)
    centre = random.uniform(-0.8, 0.8, 2)
    spot = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / 0.8)
    return Picture(_grey(values * (0.65 + 0.35 * spot)))


def soft_shadow(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """The garment's own shadow, moved and blurred."""
    values = enlarge(pixels, True, random, 0.2)
    side = len(values)
    shadow = _blur((values < 230).astype(np.float64), side / 25)
    shifts = [round(side * by) for by in random.uniform(0.01, 0.05, 2)]
    shadow = np.roll(shadow, shifts, (0, 1))
    return Picture(_grey(np.minimum(values, 255 - 70 * shadow)))


def edge_of_a_shadow(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Half of the picture lies in a shadow."""
    values = _raise(enlarge(pixels, dark, random, 0.2), dark)
    x, y = _grid(values)
    angle = random.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle) - random.uniform(-0.4, 0.4)
    return Picture(_grey(values * (1 - 0.2 / (1 + np.exp(along / 0.08)))))


# Noise and texture


def noise(sd: float) -> Callable[[Pixels, bool, np.random.Generator], Picture]:
    def make(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
        values = enlarge(pixels, dark, random)
        return Picture(_grey(values + random.normal(0, sd, values.shape)))

    return make


def dust(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    values = enlarge(pixels, dark, random)
    grains = random.random(values.shape)
    return Picture(_grey(np.where(grains < 0.01, 0, np.where(grains > 0.99, 255, values))))


def lossy(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    return Picture(_grey(enlarge(pixels, dark, random)), ".jpg", {"quality": 12})


def blurred(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    values = enlarge(pixels, dark, random)
    return Picture(_grey(_blur(values, len(values) / 80)))


def faint(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Little contrast: 60 grey values."""
    values = enlarge(pixels, dark, random)
    return Picture(_grey(100 + values * 60 / 255 + random.normal(0, 2, values.shape)))


def paper(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Blotches on paper or cloth."""
    values = _raise(enlarge(pixels, dark, random), dark)
    blotches = _blur(random.normal(0, 1, values.shape), len(values) / 60)
    return Picture(_grey(values + 6 * blotches / blotches.std()))


def weave(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Threads of a cloth, 4 pixels each."""
    values = _raise(enlarge(pixels, dark, random), dark)
    rows, columns = np.indices(values.shape)
    return Picture(_grey(values - 15 + 15 * np.sin(rows * np.pi / 2) * np.sin(columns * np.pi / 2)))


def wood(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A table's grain: wavy bands in brown."""
    values = enlarge(pixels, dark, random)
    x, y = _grid(values)
    bands = np.sin(2 * np.pi * (6 * y + 0.4 * np.sin(2 * x + random.uniform(0, 6))))
    if dark:
        return Picture(_tint(values - 8 + 8 * bands, (20, 20, 60), (235, 200, 160)), ".jpg", {"quality": 85})
    return Picture(_tint(_raise(values, dark, 30) + 8 * bands, (45, 25, 5), (250, 245, 250)), ".jpg", {"quality": 85})


# What stands round the picture


def thin_frame(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    values = enlarge(pixels, dark, random)
    return Picture(_grey(np.pad(values, max(2, len(values) // 60), constant_values=0 if dark else 255)))


def picture_frame(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A wooden frame, a mount, the picture."""
    values = enlarge(pixels, dark, random)
    wide = len(values) // 12
    image = Image.new("RGB", (len(values) + 4 * wide,) * 2, (110, 70, 30))
    mount = (235, 230, 215) if not dark else (60, 60, 70)
    image.paste(mount, (wide, wide, image.width - wide, image.height - wide))
    image.paste(_grey(values).convert("RGB"), (2 * wide, 2 * wide))
    return Picture(image, ".jpg", {"quality": 92})


def page(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A square on a page of the other colour."""
    values = enlarge(pixels, dark, random)
    side = len(values)
    left, right, top, bottom = (round(side * by) for by in random.uniform(0.05, 0.6, 4))
    return Picture(_grey(np.pad(values, ((top, bottom), (left, right)), constant_values=0 if dark else 255)))


def grey_page(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    values = enlarge(pixels, dark, random)
    wide = round(len(values) * random.uniform(0.1, 0.4))
    return Picture(_grey(np.pad(values, wide, constant_values=random.uniform(90, 160))))


def scan(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A print on a page that lies a little askew on the scanner."""
    values = enlarge(pixels, dark, random)
    wide = len(values) // 4
    image = _grey(np.pad(values, wide, constant_values=0 if dark else 255))
    turned = image.rotate(float(random.uniform(-3, 3)), Image.Resampling.BICUBIC, fillcolor=0 if dark else 255)
    return Picture(turned, ".jpg", {"quality": 85})


def letterbox(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Bars above and below, as in a film."""
    values = enlarge(pixels, dark, random)
    high = len(values) // 6
    return Picture(_grey(np.pad(values, ((high, high), (0, 0)), constant_values=0 if dark else 255)))


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
    square = _grey(enlarge(pixels, dark, random)).resize((width, width), Image.Resampling.BICUBIC)
    image.paste(square.convert("RGB"), (0, 190))
    return Picture(image)


def shop(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A shop's page: the picture, and words beneath it on the same ground."""
    values = enlarge(pixels, dark, random, 0.1)
    side = len(values)
    image = Image.new("L", (side, round(side * 1.4)), 255 if dark else 0)
    image.paste(_grey(values))
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


# Colour, files


def colours(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A blue garment on beige, or a yellow one on green."""
    values = enlarge(pixels, dark, random)
    ends = ((20, 40, 130), (240, 225, 200)) if dark else ((10, 70, 40), (250, 230, 120))
    return Picture(_tint(values, *ends), ".jpg", {"quality": 90})


def warm_light(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    values = _raise(enlarge(pixels, dark, random), dark)
    x, _ = _grid(values)
    light = np.stack([np.ones_like(x), 0.88 - 0.06 * x, 0.65 - 0.1 * x], axis=2)
    return Picture(Image.fromarray((values[:, :, None] * light).round().clip(0, 255).astype(np.uint8)))


def turned(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """Stored lying, as a phone held upright stores it, with the EXIF orientation that says so."""
    image = _grey(enlarge(pixels, dark, random))
    orientation, stored = (
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
        (3, Image.Transpose.ROTATE_180),
    )[random.integers(3)]
    exif = Image.Exif()
    exif[274] = orientation
    return Picture(image.transpose(stored), ".jpg", {"quality": 90, "exif": exif})


def palette(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A GIF of eight grey values, dithered."""
    return Picture(_grey(enlarge(pixels, dark, random)).convert("RGB").quantize(8), ".gif")


def cut_out(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """The garment alone; all round it is transparent."""
    values = enlarge(pixels, dark, random)
    alpha = (255 - values if dark else values) * 12
    image = _grey(values).convert("RGBA")
    image.putalpha(_grey(alpha))
    return Picture(image)


def window(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A window with round corners and a transparent shadow, as a desktop saves it."""
    values = enlarge(pixels, dark, random)
    side, wide = len(values), len(values) // 8
    mask = Image.new("L", (side + 2 * wide,) * 2, 0)
    ImageDraw.Draw(mask).rounded_rectangle((wide, wide, wide + side - 1, wide + side - 1), side / 30, fill=255)
    shadow = _blur(np.asarray(mask, np.float64) * 0.4, wide / 3)
    image = Image.fromarray(np.zeros((*shadow.shape, 4), np.uint8))
    image.paste(_grey(values).convert("RGBA"), (wide, wide))
    image.putalpha(_grey(np.maximum(shadow, np.asarray(mask))))
    return Picture(image)


def tiny(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    values = Image.fromarray(255 - pixels if dark else pixels).resize((40, 40), Image.Resampling.BICUBIC)
    return Picture(values)


def table_edge(pixels: Pixels, dark: bool, random: np.random.Generator) -> Picture:
    """A wall above, a table below: two grounds."""
    values = enlarge(pixels, dark, random, 0.2)
    _, y = _grid(values)
    lower = y > random.uniform(0.2, 0.6)
    return Picture(
        _grey(np.where(lower, values * 0.8, values) if dark else np.where(lower, 60 + values * 0.75, values))
    )


DISTURBANCES = (
    Disturbance("28x28, as it is", plain),
    Disturbance("enlarged tenfold, no margin", enlarged_to_the_edge),
    Disturbance("enlarged, some with a margin", enlarged),
    Disturbance("40x40", tiny),
    Disturbance("corners 8% darker", vignette(0.08)),
    Disturbance("corners 12% darker", vignette(0.12)),
    Disturbance("corners 35% darker", vignette(0.35)),
    Disturbance("a lens' vignette, off centre", lens_vignette),
    Disturbance("light from a side, 25%", light_from_a_side(0.25)),
    Disturbance("light from a side, 50%", light_from_a_side(0.5)),
    Disturbance("a lamp's spot", lamp),
    Disturbance("the garment's soft shadow", soft_shadow, (True,)),
    Disturbance("half in a shadow", edge_of_a_shadow),
    Disturbance("noise, sd 5", noise(5)),
    Disturbance("noise, sd 15", noise(15)),
    Disturbance("noise, sd 30", noise(30)),
    Disturbance("dust, 2% of the pixels", dust),
    Disturbance("JPEG of quality 12", lossy),
    Disturbance("out of focus", blurred),
    Disturbance("little contrast", faint),
    Disturbance("blotched paper", paper),
    Disturbance("woven cloth", weave),
    Disturbance("a wooden table", wood),
    Disturbance("a thin frame", thin_frame),
    Disturbance("frame and mount", picture_frame),
    Disturbance("a square on a page", page),
    Disturbance("a square on a grey page", grey_page),
    Disturbance("a print scanned askew", scan),
    Disturbance("bars above and below", letterbox),
    Disturbance("a phone's screenshot", screenshot),
    Disturbance("a shop's page with words", shop),
    Disturbance("imshow with axes, savefig", axes),
    Disturbance("imshow without axes, savefig", axes_off),
    Disturbance("imshow in viridis, colour bar", colour_bar),
    Disturbance("colours", colours),
    Disturbance("warm light", warm_light),
    Disturbance("turned by EXIF", turned),
    Disturbance("GIF of 8 colours", palette),
    Disturbance("cut out, transparent", cut_out),
    Disturbance("a window with round corners", window),
    Disturbance("wall and table", table_edge),
)
