"""What all figures share: sizes, colours, grids of images with captions, and writing them as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fmnist_sweep.data import IMAGE_SIDE
from fmnist_sweep.report.matplotlib_settings import prepare_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path


_DPI = 100  # with figures 9 inches wide: 900 pixels, about what a browser shows without scaling

PAGE_WIDTH = 900

# Okabe & Ito's palette, told apart with any common colour blindness.
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
INK, MUTED, FAINT = "#222222", "#6B6B6B", "#DDDDDD"


ZOOM = 3  # screen pixels of one image pixel; a whole number, so that all image pixels are equally large
TITLE_HEIGHT = 52
GALLERY_COLUMNS = 8
IMAGE_COLORMAP = "gray_r"  # reversed: clothes on the white of the page, as in a catalogue
_CELL_WIDTH = 37  # image pixels from one image of a gallery to the next
_GALLERY_LEFT = (PAGE_WIDTH - GALLERY_COLUMNS * _CELL_WIDTH * ZOOM) // 2
_HEADING_HEIGHT = 24  # screen pixels of the first row's heading; the others stand in the room beneath a row

Item = TypeVar("Item")
TextLine = tuple[float, float, str]  # x, y of a text's baseline in pixels from the top left; the text


def encode_png(figure: Figure, dpi: int = _DPI) -> bytes:
    """Encode a figure as a PNG file; its size in pixels is the figure's in inches times `dpi`.

    Its texts are drawn as they are: matplotlib would read what stands between two dollar signs as a formula.
    """
    prepare_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set(parse_math=False)

    figure.set_dpi(dpi)
    buffer = BytesIO()
    # The canvas is written directly, as `savefig` would follow a user's own matplotlib settings for files. Harder
    # compression takes longer than it saves. Without the software's version, the same figure gives the same bytes.
    FigureCanvasAgg(figure).print_png(  # type: ignore[no-untyped-call]
        buffer, metadata={"Software": None}, pil_kwargs={"compress_level": 1}
    )
    return buffer.getvalue()


def make_page(width: int, height: int, title: str) -> Figure:
    """Make a white figure of `width` times `height` pixels (at the default dpi) with a title at the top left."""
    prepare_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    # A long title shrinks instead of being cut off.
    size = min(13.0, 13.0 * (width / 11.5) / max(len(title), 1))
    figure.text(
        16 / width,
        1 - 15 / height,
        title,
        ha="left",
        va="top",
        fontsize=size,
        fontweight="bold",
        color=INK,
    )
    return figure


def draw_message(title: str, text: str) -> Figure:
    """Draw a figure that says why there is nothing else to draw."""
    figure = make_page(PAGE_WIDTH, 160, title)
    figure.text(0.5, 0.4, text, ha="center", va="center", fontsize=13, color=MUTED)
    return figure


def add_axes(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    """Add axes without lines and ticks in a box of (left, top, width, height) in pixels."""
    left, top, width, height = box
    figure_width, figure_height = figure.get_size_inches() * _DPI
    axes = figure.add_axes(
        (left / figure_width, 1 - (top + height) / figure_height, width / figure_width, height / figure_height)
    )
    axes.set_axis_off()
    return axes


def draw_image(
    figure: Figure, values: NDArray[Any], cmap: str, maximum: float, box: tuple[float, float, float, float]
) -> None:
    """Draw `values`, 0..`maximum`, in a box of (left, top, width, height) in pixels.

    Without axes, which would take longer to make than the image takes to draw, and show the same pixels.
    """
    prepare_matplotlib()
    from matplotlib.colors import Normalize
    from matplotlib.image import BboxImage
    from matplotlib.transforms import Bbox, TransformedBbox

    left, top, width, height = box
    bottom = figure.get_figheight() * _DPI - top - height
    inches = Bbox.from_bounds(left / _DPI, bottom / _DPI, width / _DPI, height / _DPI)
    image = BboxImage(
        TransformedBbox(inches, figure.dpi_scale_trans),
        cmap=cmap,
        norm=Normalize(0, maximum),
        interpolation="nearest",
        origin="upper",
    )
    image.set_data(values)
    figure.add_artist(image)


def draw_texts(
    figure: Figure, lines: Sequence[TextLine], size: float, colour: str, align: float = 0.5, angle: float = 0
) -> None:
    """Write many short texts as one filled outline, many times faster than as one text artist each.

    `align` is the point of a text that lies at its x: 0 its start, 0.5 its middle, 1 its end. `angle`, in degrees,
    turns the text about that point.
    """
    prepare_matplotlib()
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path
    from matplotlib.transforms import Affine2D

    lines = [line for line in lines if line[2].strip()]
    if not lines:
        return
    height = figure.get_figheight() * _DPI
    rotation = Affine2D().rotate_deg(angle)
    paths = [
        _trace_text(text, size, align).transformed(rotation.frozen().translate(x, height - y)) for x, y, text in lines
    ]
    # An outline does not keep its text, so the label does.
    label = "\n".join(text for _, _, text in lines)
    patch = PathPatch(Path.make_compound_path(*paths), facecolor=colour, linewidth=0, snap=False, label=label)
    patch.set_transform(Affine2D().scale(1 / _DPI) + figure.dpi_scale_trans)
    figure.add_artist(patch)


@lru_cache(maxsize=4096)
def _trace_text(text: str, size: float, align: float) -> Path:
    """The text's outline in pixels, its baseline at y = 0 and its point `align` at x = 0."""
    prepare_matplotlib()
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path
    from matplotlib.textpath import TextPath

    # Dollar signs are escaped: an outline cannot be told to hold no formula.
    outline = TextPath((0, 0), text.replace("$", r"\$"), size=size * _DPI / 72, prop=FontProperties())
    vertices = np.asarray(outline.vertices)
    start, end = vertices[:, 0].min(), vertices[:, 0].max()
    return Path(vertices - (start + align * (end - start), 0), outline.codes)


@dataclass(frozen=True)
class GalleryRow:
    """A row of a gallery: up to eight images, the lines beneath each, a heading and a remark above.

    images: (n, height, width, channels), 0..255.
    """

    images: NDArray[np.uint8]
    captions: Sequence[Sequence[str]] = ()
    heading: str = ""
    remark: str = ""


def draw_gallery(rows: Sequence[GalleryRow], room: int, title: str) -> Figure:
    """Draw rows of images with texts. room: image pixels beneath each row, for captions and the next heading."""
    top_margin = _HEADING_HEIGHT if any(row.heading for row in rows) else 0
    cell_height = IMAGE_SIDE + room
    tiles, scale = _make_tiles(rows)
    headings, remarks, captions = list[TextLine](), list[TextLine](), list[TextLine]()
    for place, row in enumerate(rows):
        top = TITLE_HEIGHT + top_margin + place * cell_height * ZOOM
        headings.append((_GALLERY_LEFT + 14.0, top - 7, row.heading))
        remarks.append((PAGE_WIDTH - 20.0, top - 7, row.remark))
        for column, lines in enumerate(row.captions):
            x = _GALLERY_LEFT + (column + 0.5) * _CELL_WIDTH * ZOOM
            captions += [(x, top + IMAGE_SIDE * ZOOM + 13 + 14 * number, line) for number, line in enumerate(lines)]
    mosaic = _tile_images(tiles, cell_height * scale, _CELL_WIDTH * scale)
    height, width = (ZOOM * pixels // scale for pixels in mosaic.shape[:2])
    figure = make_page(PAGE_WIDTH, TITLE_HEIGHT + top_margin + height, title)
    draw_image(figure, mosaic, IMAGE_COLORMAP, 255, (_GALLERY_LEFT, TITLE_HEIGHT + top_margin, width, height))
    draw_texts(figure, headings, size=11, colour=INK, align=0)
    draw_texts(figure, remarks, size=9.5, colour=MUTED, align=1)
    draw_texts(figure, captions, size=7.5, colour=INK)
    return figure


def select_images(images: NDArray[np.uint8], rows: Sequence[int]) -> NDArray[np.uint8]:
    """Select the images (n, height, width, channels) at these rows. Raises ValueError for a missing row or shape."""
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(f"images must have shape (n, height, width, 1 or 3), but have {images.shape}")
    last_row = max(rows, default=-1)
    if last_row >= len(images):
        raise ValueError(f"the examples reach to row {last_row}, but there are {len(images)} images")
    return images[np.asarray(rows, dtype=np.int64)]


def cut_rows(items: Sequence[Item]) -> list[Sequence[Item]]:
    """Cut items into rows of a gallery."""
    return [items[start : start + GALLERY_COLUMNS] for start in range(0, len(items), GALLERY_COLUMNS)]


def _make_tiles(rows: Sequence[GalleryRow]) -> tuple[NDArray[np.uint8], int]:
    """The images of a gallery in squares, and how many pixels of a square stand for one of Fashion-MNIST's.

    Images of Fashion-MNIST's shape are (rows, columns, 28, 28), of one pixel each. Others are fitted into squares of as
    many pixels as the screen has there, in their own colours: (rows, columns, side, side, 3).
    """
    if all(row.images.shape[1:] in ((IMAGE_SIDE, IMAGE_SIDE, 1), (0,)) for row in rows):
        tiles = np.zeros((len(rows), GALLERY_COLUMNS, IMAGE_SIDE, IMAGE_SIDE), np.uint8)
        for place, row in enumerate(rows):
            tiles[place, : len(row.images)] = row.images[..., 0]
        return tiles, 1
    side = IMAGE_SIDE * ZOOM
    tiles = np.full((len(rows), GALLERY_COLUMNS, side, side, 3), 255, np.uint8)
    for place, row in enumerate(rows):
        for column, image in enumerate(row.images):
            fitted = _fit_into_square(image, side)
            top, left = ((side - length) // 2 for length in fitted.shape[:2])
            tiles[place, column, top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return tiles, ZOOM


def _fit_into_square(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """An image (height, width, channels) as large as it fits into a square, (height, width, 3)."""
    from PIL import Image

    height, width = image.shape[:2]
    size = (max(1, round(width * side / max(height, width))), max(1, round(height * side / max(height, width))))
    picture = Image.fromarray(image.squeeze(axis=2) if image.shape[2] == 1 else image).convert("RGB")
    # Few pixels are shown as they are, many are averaged.
    method = Image.Resampling.NEAREST if max(height, width) <= side else Image.Resampling.BOX
    return np.asarray(picture.resize(size, method), np.uint8)


def _tile_images(tiles: NDArray[np.uint8], cell_height: int, cell_width: int) -> NDArray[np.uint8]:
    """Join `tiles`, (rows, columns, side, side, ...), to one image: one Axes draws it many times faster than one each.

    What lies between them is white: 0 where the colour map is reversed, 255 in colour.
    """
    rows, columns, side, _, *channels = tiles.shape
    left = (cell_width - side) // 2
    mosaic = np.full((rows, cell_height, columns, cell_width, *channels), 255 if channels else 0, np.uint8)
    mosaic[:, :side, :, left : left + side] = tiles.swapaxes(1, 2)
    return mosaic.reshape(rows * cell_height, columns * cell_width, *channels)


def style_axes(axes: Axes) -> None:
    """Give axes the look of all figures: a faint grid, muted ticks, no frame at the top and right."""
    axes.tick_params(labelsize=9, colors=MUTED, length=3)
    axes.grid(color=FAINT, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
