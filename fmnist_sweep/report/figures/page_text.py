"""Lines of text on a page, in the font that matplotlib brings along, upright or turned."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fmnist_sweep.report.figures.palette import POINT

_SUPERSAMPLING = 4  # a turned text is drawn this much larger, and then reduced


@dataclass(frozen=True)
class PageText:
    """A line of text.

    x, y: of its baseline, in pixels from the top left. size: in points. align: which point of the text lies at x, 0 its
    start, 0.5 its middle, 1 its end. angle: in degrees, counterclockwise about that point.
    """

    x: float
    y: float
    text: str
    size: float
    colour: str
    align: float = 0.0
    angle: float = 0.0
    is_bold: bool = False

    def measure(self) -> tuple[float, float, float, float]:
        """The box that its ink fills: left, top, right and bottom in pixels."""
        if self.angle:
            mask, left, top = _turn_text(self._line, self.size, self.is_bold, self.align, self.angle)
            return self.x + left, self.y + top, self.x + left + mask.width, self.y + top + mask.height
        box = self._font.getbbox(self._line, anchor="ls")
        return self._start + box[0], self.y + box[1], self._start + box[2], self.y + box[3]

    def draw(self, image: Image.Image) -> None:
        """Draw it on an image, RGB or grey."""
        if not self._line.strip():
            return
        if self.angle:
            mask, left, top = _turn_text(self._line, self.size, self.is_bold, self.align, self.angle)
            ImageDraw.Draw(image).bitmap((round(self.x) + left, round(self.y) + top), mask, fill=self.colour)
        else:
            place = (self._start, round(self.y))
            ImageDraw.Draw(image).text(place, self._line, fill=self.colour, font=self._font, anchor="ls")

    @property
    def _line(self) -> str:
        return self.text.replace("\n", " ")

    @property
    def _font(self) -> ImageFont.FreeTypeFont:
        return load_font(self.size, self.is_bold)

    @property
    def _start(self) -> float:
        return self.x - (self.align * self._font.getlength(self._line) if self.align else 0.0)


@lru_cache(maxsize=64)
def load_font(size: float, is_bold: bool) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of a size in points. It is matplotlib's own, which is not imported for it: that takes longer."""
    matplotlib = importlib.util.find_spec("matplotlib")
    assert matplotlib is not None and matplotlib.origin is not None
    fonts = Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf"
    name = "DejaVuSans-Bold.ttf" if is_bold else "DejaVuSans.ttf"
    # The basic layout, as Pillow may or may not have another one.
    return ImageFont.truetype(str(fonts / name), size * POINT, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=256)
def _turn_text(line: str, size: float, is_bold: bool, align: float, angle: float) -> tuple[Image.Image, int, int]:
    """A turned text as a mask, and where its left and top lie as seen from the point about which it turns."""
    font = load_font(_SUPERSAMPLING * size, is_bold)
    left, top, right, bottom = font.getbbox(line, anchor="ls")
    start = align * font.getlength(line)
    reach = max(abs(left - start), abs(right - start)) + max(abs(top), abs(bottom))
    half = math.ceil(reach / _SUPERSAMPLING) + 1
    centre = half * _SUPERSAMPLING
    mask = Image.new("L", (2 * centre, 2 * centre))
    ImageDraw.Draw(mask).text((centre - start, centre), line, fill=255, font=font, anchor="ls")
    turned = mask.rotate(angle, Image.Resampling.BICUBIC).reduce(_SUPERSAMPLING)
    box = turned.getbbox() or (0, 0, 1, 1)
    return turned.crop(box), box[0] - half, box[1] - half
