"""Text that terminals and pages share, with control characters made visible."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fmnist_sweep.masking import mask_credentials

if TYPE_CHECKING:
    from rich.console import Console

# Control characters, and other characters that change the direction of a line or break it.
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_LONG_WORD = re.compile(r"\S{401,}")
_LONGEST_SENTENCE = 2000
_CONTROL_CHARACTERS_BUT_NEWLINE = re.compile(rf"(?!\n){_CONTROL_CHARACTERS.pattern}")


def make_printable(text: str) -> str:
    r"""A text as one line, with control characters spelled out: ESC becomes \x1b."""
    return text if text.isprintable() else _CONTROL_CHARACTERS.sub(_escape_character, text)


def make_lines_printable(text: str) -> str:
    """A text with control characters spelled out, but for its line breaks."""
    return text if text.isprintable() else _CONTROL_CHARACTERS_BUT_NEWLINE.sub(_escape_character, text)


def _escape_character(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")


def echo(text: object, *, err: bool = False) -> None:
    """Print lines without credentials, on standard error if `err`."""
    # Not click's: to a stream that says it is ASCII it writes UTF-8.
    print(make_lines_printable(mask_credentials(str(text))), file=sys.stderr if err else sys.stdout, flush=True)


def create_console(**arguments: Any) -> Console:
    """Rich's console, with control characters spelled out; by itself it would pass them on to the terminal."""
    from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
    from rich.segment import Segment

    class EscapedRenderable:
        """A renderable whose text has no control characters; rich's styles stay."""

        def __init__(self, inner: ConsoleRenderable) -> None:
            self._inner = inner

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            for text, style, control in console.render(self._inner, options):
                yield Segment(text if control else make_lines_printable(text), style, control)

    class EscapingHook(RenderHook):
        def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
            return [EscapedRenderable(each) for each in renderables]

    rich_console = Console(**arguments)
    rich_console.push_render_hook(EscapingHook())
    return rich_console


def format_trial_count(count: float) -> str:
    """A planned number of trials in words."""
    if count == float("inf"):
        return "as many trials as time allows"
    return "1 trial" if count == 1 else f"{count:.0f} trials"


def format_epoch_count(count: float) -> str:
    """A number of epochs in words."""
    return "1 epoch" if count == 1 else f"{count:,.0f} epochs"


def format_utc_now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def format_duration(seconds: float) -> str:
    """Seconds as a duration in words, such as 3 min 05 s."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def format_interval(low: float | None, high: float | None, *, decimals: int = 4, signed: bool = False) -> str:
    """An interval as in `[0.9012, 0.9158]`; an en dash where there is none. signed: with a sign, also for a gain."""
    if low is None or high is None:
        return "–"
    sign = "+" if signed else ""
    return f"[{low:{sign}.{decimals}f}, {high:{sign}.{decimals}f}]"


def format_estimate(value: float, low: float | None, high: float | None, *, signed: bool = False) -> str:
    """A value with its interval as in `0.9087 [0.9012, 0.9158]`; the value alone where there is no interval."""
    text = f"{value:{'+' if signed else ''}.4f}"
    return text if low is None or high is None else f"{text} {format_interval(low, high, signed=signed)}"


def format_mean(mean: float, sd: float | None, n: int, decimals: int = 4) -> str:
    """A mean, the sd of a single value and the count as in `0.9123 ± 0.0021 (n=3)`; a count of 1 has no sd."""
    spread = "" if sd is None else f" ± {sd:,.{decimals}f}"
    return f"{mean:,.{decimals}f}{spread} (n={n})"


def shorten_text(text: str, max_length: int) -> str:
    """A text of at most this length, without credentials; one that was cut ends with …"""
    text = mask_credentials(text)  # before it is cut: what is left of an address might not look like one
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"


def shorten_sentence(text: str) -> str:
    """A sentence that no value quoted in it makes longer than a screen: its beginning and its end are kept."""
    text = _LONG_WORD.sub(lambda word: f"{word[0][:100]}… ({len(word[0]):,} characters)", text)
    if len(text) <= _LONGEST_SENTENCE:
        return text
    half = (_LONGEST_SENTENCE - 40) // 2
    return f"{text[:half]} … ({len(text) - 2 * half:,} characters) … {text[-half:]}"


def quote_text(value: object, max_length: int = 60) -> str:
    """What a message quotes of a value that was typed or read: one printable line of a few dozen characters.

    It has no credentials. A longer one is cut, and its length is said.
    """
    text = mask_credentials(str(value))
    if len(text) <= max_length:
        return make_printable(text)
    return f"{make_printable(text[:max_length])}… ({len(text):,} characters)"
