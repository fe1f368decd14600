"""Passwords and tokens in addresses, masked wherever an address is written: in messages, journals and stores.

An address is `scheme://user:password@host/path?key=value`. Its user and password are masked up to the last `@`, since
people write passwords with `@`, `/` and `?` in them, and so are the values of its query, but for those that only say
how to connect. Masking what is masked changes nothing.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any
from urllib.parse import unquote

MASK = "***"
# Keys of a query that say how to connect and open no door. They may tell one database from another.
_OPEN_QUERY_KEYS = frozenset(
    (
        *("host", "port", "dbname", "database", "options", "application_name", "charset", "client_encoding"),
        *("connect_timeout", "target_session_attrs", "sslmode", "sslrootcert", "sslcert", "sslkey", "ssl_ca"),
        *("ssl_cert", "ssl_key", "ssl", "mode", "cache", "timeout"),
    )
)
_SHORTEST_SECRET = 4  # characters; shorter ones stand in too many words to be searched for
# What may follow an address in a sentence, a shell's command or JSON.
_CLOSING = r"['\")\]}>.,:;]*"
_USER_INFO = re.compile(r"(?<=://)(?!/)\S*@")
# A password with spaces; not a host with its port, of which a sentence goes on.
_USER_INFO_WITH_SPACES = re.compile(r"(?<=://)(?![/\[])[^\s/:@]+:(?!\d+(?:[\s/,;)]|$))\S[^@\n]*@")
_ADDRESS_WITH_QUERY = re.compile(r"(?P<start>\w[\w+.-]*://[^\s?#]*\?)(?P<query>\S*)")
_QUERY_ENTRY = re.compile(rf"(?P<key>[^=&\s]+)=(?P<value>[^&\s]*?)(?P<closing>{_CLOSING})(?=&|\s|$)")
_SERVER_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*://)(?!/)(?P<user_info>.*)@", re.DOTALL)


def mask_address(text: str) -> str:
    """An address, or an override or option with one, without its user, its password and the values of its query.

    The text holds nothing else, so that spaces and quotes in the password end nothing.
    """
    key, equals, value = "", "", text
    if re.match(r"[\w.+~@/-]+=", text):
        key, equals, value = text.partition("=")
    match = _SERVER_ADDRESS.match(value)
    if match is None:
        return mask_credentials(text)
    return mask_credentials(f"{key}{equals}{match['scheme']}{MASK}@{value[match.end() :]}")


def mask_credentials(text: str) -> str:
    """A text without the user, the password and the query values of the addresses in it."""
    if "://" not in text:
        return text
    text = _USER_INFO_WITH_SPACES.sub(f"{MASK}@", _USER_INFO.sub(f"{MASK}@", text))
    return _ADDRESS_WITH_QUERY.sub(_mask_query, text)


def _mask_query(match: re.Match[str]) -> str:
    return match["start"] + _QUERY_ENTRY.sub(_mask_entry, match["query"])


def _mask_entry(match: re.Match[str]) -> str:
    return match[0] if match["key"].lower() in _OPEN_QUERY_KEYS else f"{match['key']}={MASK}{match['closing']}"


def mask_reason(text: str, address: str) -> str:
    """What a library says of a call to an address, without any part of the address's password or tokens.

    A library may quote a part of a password that it takes for a host, a port or a path.
    """
    text = text.replace(address, mask_address(address)) if address else text
    for secret in sorted(_list_secrets(address), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return mask_credentials(text)


def _list_secrets(address: str) -> Iterator[str]:
    secrets = []
    match = _SERVER_ADDRESS.match(address)
    rest = address
    if match is not None:
        user, colon, password = match["user_info"].partition(":")
        secrets.append(password if colon else user)
        rest = address[match.end() :]
    query = rest.partition("?")[2]
    secrets += [entry["value"] for entry in _QUERY_ENTRY.finditer(query) if _mask_entry(entry) != entry[0]]
    for secret in secrets:
        for spelling in {secret, unquote(secret)}:
            parts = [spelling, *re.split(r"[@/:?#&\s]", spelling)]
            yield from (part for part in parts if len(part) >= _SHORTEST_SECRET)


def mask_values(content: Any) -> Any:
    """JSON-able content in which every text is masked, keys excepted."""
    if isinstance(content, str):
        return mask_credentials(content)
    if isinstance(content, dict):
        return {key: mask_values(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [mask_values(value) for value in content]
    return content


def print_masked_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What the interpreter prints of an error that nobody caught, without credentials: a hook for sys.excepthook."""
    sys.stderr.write(mask_credentials("".join(traceback.format_exception(kind, error, trace))))
