"""What all figures share: sizes, grids of images with captions, and writing them as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data import IMAGE_SIDE
from fmnist_sweep.report.figures.pages import Page, PagePicture, TextLine
from fmnist_sweep.report.figures.palette import DPI, INK, MUTED
from fmnist_sweep.report.matplotlib_settings import prepare_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure


PAGE_WIDTH = 900  # pixels; about what a browser shows without scaling

ZOOM = 3  # screen pixels of one image pixel; a whole number, so that all image pixels are equally large
TITLE_HEIGHT = 52
GALLERY_COLUMNS = 8
_CELL_WIDTH = 37  # image pixels from one image of a gallery to the next
_GALLERY_LEFT = (PAGE_WIDTH - GALLERY_COLUMNS * _CELL_WIDTH * ZOOM) // 2
_HEADING_HEIGHT = 24  # screen pixels of the first row's heading; the others stand in the room beneath a row

Item = TypeVar("Item")


def encode_png(figure: Page | Figure) -> bytes:
    """Encode a page, or a figure of matplotlib's, as a PNG file."""
    return figure.encode() if isinstance(figure, Page) else _encode_figure(figure)


def _encode_figure(figure: Figure) -> bytes:
    """Encode a figure of matplotlib's; its size in pixels is that in inches times DPI.

    Its texts are drawn as they are: matplotlib would read what stands between two dollar signs as a formula.
    """
    prepare_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set(parse_math=False)

    figure.set_dpi(DPI)
    buffer = BytesIO()
    # The canvas is written directly, as `savefig` would follow a user's own matplotlib settings for files. Harder
    # compression takes longer than it saves. Without the software's version, the same figure gives the same bytes.
    FigureCanvasAgg(figure).print_png(  # type: ignore[no-untyped-call]
        buffer, metadata={"Software": None}, pil_kwargs={"compress_level": 1}
    )
    return buffer.getvalue()


def draw_message(title: str, text: str) -> Page:
    """Draw a figure that says why there is nothing else to draw."""
    page = Page(PAGE_WIDTH, 160, title)
    page.write([(PAGE_WIDTH / 2, 102, text)], size=13, colour=MUTED)
    return page


@dataclass(frozen=True)
class GalleryRow:
    """A row of a gallery: up to eight images (n, 28, 28, 1), the lines beneath each, a heading and a remark above."""

    images: NDArray[np.uint8]
    captions: Sequence[Sequence[str]] = ()
    heading: str = ""
    remark: str = ""


def draw_gallery(rows: Sequence[GalleryRow], room: int, title: str) -> Page:
    """Draw rows of images with texts. room: image pixels beneath each row, for captions and the next heading."""
    top_margin = _HEADING_HEIGHT if any(row.heading for row in rows) else 0
    cell_height = IMAGE_SIDE + room
    tiles = np.zeros((len(rows), GALLERY_COLUMNS, IMAGE_SIDE, IMAGE_SIDE), np.uint8)
    headings, remarks, captions = list[TextLine](), list[TextLine](), list[TextLine]()
    for place, row in enumerate(rows):
        tiles[place, : len(row.images)] = row.images[..., 0]
        top = TITLE_HEIGHT + top_margin + place * cell_height * ZOOM
        headings.append((_GALLERY_LEFT + 14.0, top - 7, row.heading))
        remarks.append((PAGE_WIDTH - 20.0, top - 7, row.remark))
        for column, lines in enumerate(row.captions):
            x = _GALLERY_LEFT + (column + 0.5) * _CELL_WIDTH * ZOOM
            captions += [(x, top + IMAGE_SIDE * ZOOM + 13 + 14 * number, line) for number, line in enumerate(lines)]
    mosaic = 255 - _tile_images(tiles, cell_height, _CELL_WIDTH)  # clothes on the white of the page, as in a catalogue
    height, width = (ZOOM * pixels for pixels in mosaic.shape)
    page = Page(PAGE_WIDTH, TITLE_HEIGHT + top_margin + height, title)
    page.pictures.append(PagePicture(mosaic, (_GALLERY_LEFT, TITLE_HEIGHT + top_margin, width, height)))
    page.write(headings, size=11, colour=INK, align=0)
    page.write(remarks, size=9.5, colour=MUTED, align=1)
    page.write(captions, size=7.5, colour=INK)
    return page


def select_images(images: NDArray[np.uint8], rows: Sequence[int]) -> NDArray[np.uint8]:
    """Select the images (n, 28, 28, 1) at these rows. Raises ValueError for a missing row and for other shapes."""
    if images.shape[1:] != (IMAGE_SIDE, IMAGE_SIDE, 1):
        raise ValueError(f"images must have shape (n, {IMAGE_SIDE}, {IMAGE_SIDE}, 1), but have {images.shape}")
    last_row = max(rows, default=-1)
    if last_row >= len(images):
        raise ValueError(f"the examples reach to row {last_row}, but there are {len(images)} images")
    return images[np.asarray(rows, dtype=np.int64)]


def cut_rows(items: Sequence[Item]) -> list[Sequence[Item]]:
    """Cut items into rows of a gallery."""
    return [items[start : start + GALLERY_COLUMNS] for start in range(0, len(items), GALLERY_COLUMNS)]


def _tile_images(tiles: NDArray[np.uint8], cell_height: int, cell_width: int) -> NDArray[np.uint8]:
    """Join `tiles`, (rows, columns, 28, 28), to one image, with room beneath each and beside it."""
    rows, columns = tiles.shape[:2]
    left = (cell_width - IMAGE_SIDE) // 2
    mosaic = np.zeros((rows, cell_height, columns, cell_width), np.uint8)
    mosaic[:, :IMAGE_SIDE, :, left : left + IMAGE_SIDE] = tiles.swapaxes(1, 2)
    return mosaic.reshape(rows * cell_height, columns * cell_width)
