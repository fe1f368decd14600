"""What all figures are drawn with: colours, and the size of a point in pixels."""

from __future__ import annotations

# Okabe & Ito's palette, told apart with any common colour blindness.
BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
INK, MUTED, FAINT = "#222222", "#6B6B6B", "#DDDDDD"

DPI = 100
POINT = DPI / 72  # pixels
