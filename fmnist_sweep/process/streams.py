"""Standard input, output and error of a command: always open, and able to show every text in some way."""

# Nothing is imported at the top but what Python has loaded before, see interpreter.py.
import codecs
import os
import sys

_HANDLER = "fmnist_sweep"

# What our own texts hold beyond ASCII, for terminals that cannot show it.
_PLAIN = {
    "✓": "+",
    "•": "*",
    "✗": "x",
    "·": "-",
    "±": "+/-",
    "≈": "~",
    "≤": "<=",
    "≥": ">=",
    "→": "->",
    "²": "^2",
    "×": "x",
    "–": "-",
    "−": "-",
    "…": "...",
    "’": "'",
    "“": '"',
    "”": '"',
    **dict(zip("▁▂▃▄▅▆▇█", "._-~=+*#", strict=True)),
    **{chr(code): "*" for code in range(0x2800, 0x2900)},  # Braille, of which rich makes its spinner
}


def prepare_streams() -> None:
    """Open what is closed, and let the rest spell out what its encoding lacks."""
    codecs.register_error(_HANDLER, _spell_out)
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # it was closed: the next file that is opened, such as a database, would get its number
            os.open(os.devnull, os.O_RDWR)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(descriptor, "w", encoding="utf-8", errors=_HANDLER, closefd=False))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_HANDLER)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115


def has_lost_output() -> bool:
    """Whether standard output takes nothing more, as its reader is gone or its disk is full; what it holds is dropped.

    Else Python would fail once more at the end, when it flushes.
    """
    try:
        sys.stdout.write("\n")  # what could not be written before may be dropped already
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
        return True
    return False


def _spell_out(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that cannot be encoded by similar ones, or else as Python would write them in a string."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(_PLAIN.get(each) or _escape(each) for each in characters), error.end


def _escape(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode("ascii")
