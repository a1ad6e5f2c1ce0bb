"""Reports: sections of numbers and text as one HTML page, and tables in the terminal."""

from instar.reports.charts import prepare_drawing
from instar.reports.page import MOST_BYTES, render_page, write_page
from instar.reports.sections import (
    Bars,
    Box,
    Boxes,
    BoxRow,
    Code,
    Column,
    Details,
    Headline,
    Images,
    Lines,
    Picture,
    Section,
    Share,
    Table,
    Text,
)
from instar.reports.sounds import Audio, Sound, Span, Track
from instar.reports.terminal import print_table

__all__ = [
    "MOST_BYTES",
    "Audio",
    "Bars",
    "Box",
    "BoxRow",
    "Boxes",
    "Code",
    "Column",
    "Details",
    "Headline",
    "Images",
    "Lines",
    "Picture",
    "Section",
    "Share",
    "Sound",
    "Span",
    "Table",
    "Text",
    "Track",
    "prepare_drawing",
    "print_table",
    "render_page",
    "write_page",
]
