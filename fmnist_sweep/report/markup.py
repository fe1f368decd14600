"""HTML from the files in templates/: every value is escaped, except markup that this package made itself."""

from __future__ import annotations

import base64
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from fmnist_sweep.report.figures.canvas import BLUE, INK, MUTED

if TYPE_CHECKING:
    from jinja2 import Environment


def render_template_page(name: str, **values: Any) -> str:
    """A whole page: a template filled with values.

    Raises jinja2.UndefinedError where the template uses a value that is missing.
    """
    return _load_environment().get_template(name).render(values)


def render_part(name: str, **values: Any) -> Markup:
    """A part of a page, rendered as a page is, that other templates take as it is."""
    return Markup(render_template_page(name, **values))  # noqa: S704 - the template escaped its values


def encode_script_json(text: str) -> Markup:
    """JSON that can stand in a script element: no tag can begin in it, and none can end the element."""
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))  # noqa: S704 - see above


def encode_picture(png: bytes) -> str:
    """A PNG file as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def make_breakable(text: str) -> Markup:
    """A text, escaped, that a browser may break after its underscores."""
    return escape(text).replace("_", Markup("_<wbr>"))


@cache
def _load_environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fmnist_sweep.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = make_breakable
    environment.globals["read_source"] = _read_source
    environment.globals["colours"] = {"ink": INK, "muted": MUTED, "blue": BLUE}
    return environment


def _read_source(name: str) -> Markup:
    """A stylesheet or script among the templates, as it is."""
    environment = _load_environment()
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])  # noqa: S704 - a file of this package
