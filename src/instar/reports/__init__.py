"""Sections of numbers and words -> one HTML page, and tables in the terminal. Knows no subject, never trains."""

from instar.reports.page import MOST_BYTES, render_page, write_page
from instar.reports.sections import (
    Bars,
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
from instar.reports.terminal import print_table

__all__ = [
    "MOST_BYTES",
    "Bars",
    "Code",
    "Column",
    "Details",
    "Headline",
    "Images",
    "Lines",
    "Picture",
    "Section",
    "Share",
    "Table",
    "Text",
    "print_table",
    "render_page",
    "write_page",
]
