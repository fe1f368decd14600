"""The verb `relocate`: rewrite the addresses of a store whose folder was moved or copied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from fmnist_sweep.cli.options import URI
from fmnist_sweep.errors import ConfigError, StoreError
from fmnist_sweep.text import echo, make_printable

if TYPE_CHECKING:
    from fmnist_sweep.tracking.relocation import MissingArtifacts, Relocation

_MAX_NAMES = 10


@click.command()
@URI
def relocate(uri: str | None) -> None:
    """Make a folder mlruns/ that was moved or copied work where it stands now.

    The addresses of artifacts in its database and its journals are rewritten; a copy of the database before is kept
    beside it. Where the folder stood before, nothing is touched. The same command finishes what was interrupted.
    """
    from fmnist_sweep.tracking.relocation import relocate_store
    from fmnist_sweep.tracking.store import has_store_file, is_server, locate_store_file, resolve_store_uri

    store_uri = resolve_store_uri(uri)
    if is_server(store_uri):
        raise ConfigError(f"--uri={uri}: a server keeps its own addresses; expected sqlite:///FILE, or nothing.")
    if not has_store_file(store_uri):
        raise StoreError(
            f"{locate_store_file(store_uri)} does not exist: type the command in the folder that holds mlruns/, or "
            "name a store with --uri sqlite:///FILE."
        )
    for line in _describe(relocate_store(store_uri)):
        echo(make_printable(line))


def _describe(relocation: Relocation) -> Iterator[str]:
    if relocation.former:
        yield f"relocated {relocation.file} from {', '.join(map(str, relocation.former))}"
        counts = [_format_count(kind, count) for kind, count in relocation.counts.items() if count]
        yield f"  addresses of {', '.join(counts)}"
    else:
        yield f"nothing to do: the addresses in {relocation.file} are right"
    if relocation.copy is not None:
        yield f"  the database as it was: {relocation.copy}"
    for error in relocation.damaged:
        yield f"  left as it is: {error}"
    yield from _describe_missing([each for each in relocation.missing if each.old is None], "nowhere")
    yield from _describe_missing([each for each in relocation.missing if each.old is not None], "not here")


def _format_count(kind: str, count: int) -> str:
    plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    return f"{count} {kind if count == 1 else plural}"


def _describe_missing(missing: list[MissingArtifacts], place: str) -> Iterator[str]:
    if missing:
        yield f"the artifacts of {_format_count('run', len(missing))} are {place}:"
    for each in missing[:_MAX_NAMES]:
        copied = "" if each.old is None else f"; copy {each.old.parent} to {each.new.parent}"
        yield f"  {each.name} (run {each.run_id}){copied}"
    if len(missing) > _MAX_NAMES:
        yield f"  and {len(missing) - _MAX_NAMES} more"
