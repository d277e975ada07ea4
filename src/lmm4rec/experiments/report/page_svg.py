"""A figure for a page: an SVG in the page's typeface, whose colors follow the light or dark scheme of the reader."""

from __future__ import annotations

import re

from lmm4rec.experiments.report.figure_style import COLORS, FONT, GRAY

_DARK = ("#93c0fc", "#cc6c2d", "#318e79", "#8867a3", "#c7af7d", "#8179e9", "#e1e1f1")  # in the order of COLORS
SCHEME = {  # as in page.css; light: dark
    **dict(zip((shade.lower() for shade in COLORS), _DARK, strict=True)),
    "#ffffff": "#1c1c20",
    "#000000": "#ececef",
    GRAY: "#9a9aa4",
    "#e4e4e4": "#34343a",
    "#bbbbbb": "#4f4f58",
}
_FAMILY = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif'
_COLOR = re.compile(r"(?<=[:]\s)#[0-9a-f]{6}\b")


def themed(svg: str) -> str:
    """The SVG of matplotlib with its colors as variables, which have other values in the dark, and the page's typeface.

    Texts are text, so a reader's browser sets them in its own typeface; the figure is laid out with a wide one.
    """
    light, dark = (
        "".join(f"--c{number}:{pair[scheme]};" for number, pair in enumerate(SCHEME.items())) for scheme in (0, 1)
    )
    number_of = {shade: number for number, shade in enumerate(SCHEME)}
    style = (
        f"svg{{{light}}}text{{fill:var(--c{number_of['#000000']})}}"
        f"@media screen and (prefers-color-scheme:dark){{svg{{{dark}}}}}"
    )

    def variable(match: re.Match[str]) -> str:
        shade = match.group()
        return f"var(--c{number_of[shade]})" if shade in number_of else shade

    def inside(tag: re.Match[str]) -> str:
        return _COLOR.sub(variable, tag.group()).replace(f"'{FONT}'", _FAMILY.replace('"', "'"))

    themed_tags = re.sub(r"<[^<>]+>", inside, svg)  # texts stay as they are
    return themed_tags.replace("</style>", f"{style}</style>", 1)
