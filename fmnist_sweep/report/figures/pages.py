"""A figure as values, and its pixels: Pillow draws a page in a tenth of the time in which matplotlib draws the same.

What every trial and every report draws goes this way. Nothing is kept from one page to the next but fonts and turned
texts, which depend on nothing but themselves: the same page is the same bytes, whatever was drawn before it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

from fmnist_sweep.report.figures.page_text import PageText
from fmnist_sweep.report.figures.palette import INK
from fmnist_sweep.report.figures.panels import Legend, PlotPanel

TextLine = tuple[float, float, str]  # x, y of a text's baseline in pixels from the top left; the text
Box = tuple[float, float, float, float]  # left, top, width and height in pixels

_TITLE_SIZE, _TITLE_LEFT, _TITLE_BASELINE = 13.0, 16, 29


@dataclass(frozen=True)
class PagePicture:
    """An image on a page, its pixels as large as the box asks: (height, width) grey or (height, width, 3), 0..255."""

    values: NDArray[np.uint8]
    box: Box

    def scale(self) -> NDArray[np.uint8]:
        """Its values at each pixel of its box."""
        rows, columns = (
            np.arange(round(size)) * count // round(size)
            for size, count in zip((self.box[3], self.box[2]), self.values.shape[:2], strict=True)
        )
        return np.asarray(self.values[rows][:, columns])


@dataclass(frozen=True)
class PageBox:
    """A rectangle on a page, filled or only its edge."""

    box: Box
    colour: str
    is_filled: bool = True

    def draw(self, image: Image.Image) -> None:
        """Draw it on an image. A filled one of no width or height leaves no pixel."""
        left, top, width, height = self.box
        right, bottom = round(left + width) - 1, round(top + height) - 1
        if right < round(left) or bottom < round(top):
            return
        fill, outline = (self.colour, None) if self.is_filled else (None, self.colour)
        ImageDraw.Draw(image).rectangle((round(left), round(top), right, bottom), fill, outline)


@dataclass
class Page:
    """A white figure of `width` times `height` pixels with a title at the top left.

    Pictures lie below boxes, these below panels and legends, and texts above all.
    """

    width: int
    height: int
    title: str
    pictures: list[PagePicture] = field(default_factory=list)
    boxes: list[PageBox] = field(default_factory=list)
    panels: list[PlotPanel] = field(default_factory=list)
    legends: list[Legend] = field(default_factory=list)
    texts: list[PageText] = field(default_factory=list)

    def write(self, lines: Iterable[TextLine], size: float, colour: str, align: float = 0.5, angle: float = 0) -> None:
        """Write short texts, each in one line; the other arguments are those of PageText."""
        self.texts += [PageText(x, y, text, size, colour, align, angle) for x, y, text in lines if text.strip()]

    @property
    def heading(self) -> PageText:
        """The title as a text, which shrinks instead of being cut off."""
        right = self.width - _TITLE_LEFT
        title = self._make_heading(_TITLE_SIZE)
        share = (right - _TITLE_LEFT) / max(title.measure()[2] - _TITLE_LEFT, 1.0)
        # Fonts are kept by their size: in whole tenths of a point there are few.
        tenths = int(10 * _TITLE_SIZE * min(1.0, share))
        while tenths > 1 and (title := self._make_heading(tenths / 10)).measure()[2] > right:
            tenths -= 1  # letters of a few pixels are wider than their size says
        return title

    def _make_heading(self, size: float) -> PageText:
        return PageText(_TITLE_LEFT, _TITLE_BASELINE, self.title, size, INK, is_bold=True)

    def render(self) -> Image.Image:
        """Its pixels: grey where all of it is grey, else RGB."""
        mode = "L" if self._is_grey else "RGB"
        image = Image.new(mode, (self.width, self.height), "white")
        for picture in self.pictures:
            content = Image.fromarray(picture.scale())
            image.paste(content.convert(mode), (round(picture.box[0]), round(picture.box[1])))
        items: list[PageBox | PlotPanel | Legend | PageText]
        items = [*self.boxes, *self.panels, *self.legends, self.heading, *self.texts]
        for item in items:
            item.draw(image)
        return image

    def encode(self) -> bytes:
        """A PNG file of it."""
        return _encode_pixels(np.asarray(self.render()))

    @property
    def _is_grey(self) -> bool:
        colours = {text.colour for text in self.texts} | {box.colour for box in self.boxes}
        return (
            not self.panels
            and all(len(set(ImageColor.getrgb(colour)[:3])) == 1 for colour in colours)
            and all(picture.values.ndim == 2 for picture in self.pictures)
        )


def _encode_pixels(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of pixels (height, width) or (height, width, 3).

    Without the filters that Pillow tries on every row: what is drawn here is flat, and packs as well without them, in a
    third of the time. Harder compression takes longer than it saves.
    """
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)  # the first byte of a row names its filter: none
    rows[:, 1:] = pixels.reshape(height, -1)
    colour_type = 0 if pixels.ndim == 2 else 2
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def map_colours(values: NDArray[Any], stops: Sequence[str]) -> NDArray[np.uint8]:
    """Colours (..., 3) of values 0..1, between the stops of a colour scale that lie evenly."""
    places = np.linspace(0, 1, len(stops))
    channels = np.array([ImageColor.getrgb(stop)[:3] for stop in stops], dtype=np.float64).T
    return np.stack([np.interp(values, places, channel) for channel in channels], axis=-1).round().astype(np.uint8)
