"""Pictures in false colours, as plots have them, back to the values that the colours stand for.

Brightness orders most colour maps. It does not order those that run through several hues: jet's least and greatest
value are both dark. Such a map is recognised by the picture's colours, which all lie on its curve.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

# The maps of matplotlib whose brightness rises and falls, at 17 values from the least to the greatest.
_MAPS = {
    "jet": "000080 0000c8 0000ff 0040ff 0080ff 00c0ff 16ffe1 49ffad 7dff7a "
    "b1ff46 e4ff13 ffd000 ff9400 ff5900 ff1e00 c40000 800000",
    "turbo": "30123b 4040a2 466be3 4294ff 28bceb 18ddc2 32f298 6dfe62 a4fc3c "
    "cdec34 eecf3a fdac34 fb7e21 eb500e d02f05 a91601 7a0403",
    "rainbow": "8000ff 6032fe 4062fa 208ef4 00b5eb 20d5e1 40ecd4 60fac5 80ffb4 "
    "a0faa1 c0eb8d e0d377 ffb360 ff8c49 ff5f30 ff2f18 ff0000",
    "gist_rainbow": "ff0029 ff2d00 ff8400 ffda00 cdff00 77ff00 20ff00 00ff36 00ff8c "
    "00ffe2 00c6ff 006fff 0018ff 3f00ff 9600ff ed00ff ff00bf",
    "nipy_spectral": "000000 7b008c 4300a2 0000d1 0078dd 009ecf 00aa98 009d1d 00bc00 "
    "00e700 67ff00 e4f100 ffc900 ff6900 ec0000 cf0000 cccccc",
    "terrain": "333399 1e5ec4 0888ee 00acc4 01cc66 41d973 81e680 c1f38d fefe98 "
    "ded587 beac76 9e8365 815e56 a18781 c1b0ac e1d9d7 ffffff",
    "coolwarm": "3b4cc0 4e68d8 6282ea 779af7 8db0fe a3c2fe b9d0f9 ccd9ed dddcdc "
    "ecd3c5 f5c4ac f7b093 f4987a eb7d62 dd5f4b ca3b37 b40426",
    "bwr": "0000ff 2020ff 4040ff 6060ff 8080ff a0a0ff c0c0ff e0e0ff fffefe "
    "ffdede ffbebe ff9e9e ff7e7e ff5e5e ff3e3e ff1e1e ff0000",
    "seismic": "00004c 000079 0000a6 0000d3 0101ff 4141ff 8181ff c1c1ff fffdfd "
    "ffbdbd ff7d7d ff3d3d fe0000 de0000 be0000 9e0000 800000",
    "RdBu": "67001f 960f27 bb2a34 d25849 e58368 f5ac8b fbceb7 fbe6da f6f7f7 "
    "deebf2 c0dceb 98c8e0 68abd0 3e8cbf 2870b1 15508d 053061",
    "RdYlBu": "a50026 c41e27 de402e f16640 f98e52 fdb567 fed485 feeca2 feffc0 "
    "ebf7e4 d1ecf4 b0dcea 8ec2dc 6da4cc 4f81ba 3d5ba7 313695",
    "RdYlGn": "a50026 c41e27 de402e f16640 f98e52 fdb567 fed481 feec9f feffbe "
    "e6f59d cbe982 abdb6d 84ca66 5ab760 2aa054 0f8446 006837",
    "Spectral": "9e0142 c1274a dd4a4c f06744 f98e52 fdb567 fed481 feec9f ffffbe "
    "eff9a6 d6ee9b b1dfa3 86cfa5 5eb9a9 3d95b8 4471b2 5e4fa2",
    "PiYG": "8e0152 b1116d cb3289 db6ca8 e897c4 f3bcdd fad6ea fbe9f2 f7f7f6 "
    "ecf6de d9f0bc bde38d 9acd61 77b53c 589b28 3d7f1e 276419",
    "PRGn": "40004b 621a6e 7f3c8d 9568a6 ae8bbd c7abd2 dec9e2 ede2ee f6f7f6 "
    "e4f2e0 cbeac5 abdda5 7ec37f 50a65a 298440 10632b 00441b",
    "BrBG": "543005 774508 995d13 b97b29 cfa256 e2c787 f1dfb3 f6edd7 f4f5f5 "
    "d7eeeb b4e2db 87d0c5 58b0a7 2d8f87 0c7169 01554b 003c30",
    "PuOr": "7f3b08 a04d07 be630a db7d12 ef9e3c fdbd6e fed7a2 fbe9cf f6f6f7 "
    "e3e4ef cecde4 b6b0d4 988dbe 7967a6 5d3790 44176f 2d004b",
}
_SAMPLE = 600  # pixels that are compared with each map
_OFF_CURVE = 24  # grey values; a map's 17 points are up to 22 off its curve, and JPEG adds to that
_ON_CURVE_SHARE = 0.93
_LEAST_SPREAD = 0.01  # of the colours' variance, across their main direction: shades of one colour have none
_LEAST_RANGE = 0.4  # of a map, that a picture uses
_END = 0.15  # of the used range: so near to one of its ends is the background


class FalseColours(NamedTuple):
    """The values (h, w), 0..255, of a picture, and the name of the colour map that showed them."""

    values: Values
    name: str


def decode_false_colours(colours: Values) -> FalseColours | None:
    """Find the values that the colours (h, w, 3), 0..255, of a picture stand for; None where they are no false colours.

    A map is taken only if the background has one of the ends of the colours that occur: white in the middle of blue and
    red is rather a white background.
    """
    sample = colours.reshape(-1, 3)[:: max(1, colours.shape[0] * colours.shape[1] // _SAMPLE)]
    variances = np.linalg.eigvalsh(np.cov(sample.T))
    if variances[-1] < 1 or variances[-2] < _LEAST_SPREAD * variances[-1]:
        return None
    shares = {name: float(np.mean(_measure_distances(sample, name).min(axis=1) < _OFF_CURVE)) for name in _MAPS}
    name = max(shares, key=lambda each: shares[each])
    if shares[name] < _ON_CURVE_SHARE:
        return None
    values = _look_up(colours, name)
    low, high = np.percentile(values, [0.5, 99.5])
    border = np.median(np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]]))
    margin = _END * (high - low)
    if high - low < _LEAST_RANGE * 255 or low + margin < border < high - margin:
        return None
    return FalseColours(values, name)


@cache
def _build_curve(name: str) -> Values:
    """A map's colours at the values 0..255, (256, 3)."""
    points = np.array([[int(point[place : place + 2], 16) for place in (0, 2, 4)] for point in _MAPS[name].split()])
    places = np.linspace(0, 255, len(points))
    return np.stack([np.interp(np.arange(256), places, points[:, channel]) for channel in range(3)], axis=1)


def _measure_distances(colours: Values, name: str) -> Values:
    """The distance (n, 256) of colours (n, 3) to each of a map's."""
    distances: Values = np.abs(colours[:, None] - _build_curve(name)).max(axis=2)
    return distances


def _look_up(colours: Values, name: str) -> Values:
    from scipy.spatial import KDTree

    _, places = KDTree(_build_curve(name)).query(colours.reshape(-1, 3))
    return np.asarray(places, np.float64).reshape(colours.shape[:2])
