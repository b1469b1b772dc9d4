"""Small images at whole multiples of their pixels, never blurred."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence

from markupsafe import Markup

from dashboard.elements import formatting, markup
from pmae.schema import ReconstructedImage, Reconstruction

PANELS = {
    "original": "x",
    "visible": "x − Px",
    "target": "Px",
    "prediction": "P x̂",
    "full": "x − Px + P x̂",
    "error": "|x − full|",
}
"""Description of each panel; P is the projection on the masked part."""
_PNG_SIZE = slice(16, 24)


def picture(png_base64: str, edge: int, title: str) -> Markup:
    """An image about ``edge`` CSS pixels wide: the nearest whole multiple of its own width."""
    width, height = struct.unpack(">II", base64.b64decode(png_base64[:32])[_PNG_SIZE])
    scale = max(1, round(edge / width))
    return Markup(
        '<img src="data:image/png;base64,{data}" width="{width}" height="{height}" '
        'alt="{title}" title="{title}">'
    ).format(data=png_base64, width=width * scale, height=height * scale, title=title)


def reconstruction_grid(result: Reconstruction, edge: int, names: Sequence[str] = ()) -> Markup:
    """A row for each image: what it is and how much of it is explained, then its panels.

    ``names`` are those of uploaded files; images of a data set have a class and a number.
    """
    head = markup.joined(
        Markup("<th>{}<small>{}</small></th>").format(name, formula)
        for name, formula in PANELS.items()
    )
    rows = markup.joined(
        Markup("<tr><th>{}{}</th>{}</tr>").format(
            _row_head(image, names),
            _explained(image),
            markup.joined(
                Markup("<td>{}</td>").format(
                    picture(image.panels[name], edge, f"{name} of image {image.index}")
                )
                for name in PANELS
            ),
        )
        for image in result.images
    )
    return Markup(
        '<div class="pm-scroll"><table class="pm-grid">'
        "<thead><tr><th>{}<small>{}</small></th>{}</tr></thead>"
        "<tbody>{}</tbody></table></div>"
    ).format(*(("file", "explained") if names else ("class", "image, explained")), head, rows)


def _explained(image: ReconstructedImage) -> str:
    share = image.explained_variance
    return "–" if share is None else formatting.percent(share)


def _row_head(image: ReconstructedImage, names: Sequence[str]) -> Markup:
    if names:
        return Markup('<b class="pm-file" title="{0}">{0}</b>').format(names[image.index])
    return Markup("<b>{}</b><br>image {}<br>").format(image.label, image.index)


def gallery(pngs: Sequence[bytes], captions: Sequence[str], edge: int) -> Markup:
    """Images side by side, each with a line under it."""
    return Markup('<div class="pm-gallery">{}</div>').format(
        markup.joined(
            Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(
                picture(base64.b64encode(png).decode(), edge, caption), caption
            )
            for png, caption in zip(pngs, captions, strict=True)
        )
    )
