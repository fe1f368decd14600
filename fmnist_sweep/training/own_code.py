"""Own code: plugins as files and as installed packages, read, imported, and put into the registries of `plugins`.

Only who types a command, or installs a package, names a plugin. Its source travels with a trial to the process that
trains it. What is registered with Keras, such as own layers, can be loaded from a model's file while its plugin is
active, and not otherwise.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import linecache
import sys
import tempfile
import traceback
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from fmnist_sweep.data import loading
from fmnist_sweep.errors import ConfigError
from fmnist_sweep.plugins import DATA_SOURCES, REGISTRIES, RegisteredFunction, Registry, collect_registrations
from fmnist_sweep.reading import read_file
from fmnist_sweep.text import quote_text
from fmnist_sweep.training import backend

ENTRY_POINTS = "fmnist_sweep.plugins"  # the group that a package names its module in
_MAX_FILE_BYTES, _MAX_FILES = 2**20, 1000
_LIBRARIES = (b"keras", b"tensorflow")  # imported in our own way, without their start-up notes


@dataclass(frozen=True)
class PluginSource:
    """The source of a plugin.

    name: of its file, or of the package that is installed. version: of the package; None for a file. module: what is
    imported of the package. files: (path, content) of each; a file has one. location: where it was read, for messages.
    """

    name: str
    version: str | None
    module: str
    files: tuple[tuple[str, bytes], ...] = field(repr=False)
    location: str = field(default="", compare=False)

    @property
    def is_file(self) -> bool:
        return self.version is None

    @cached_property
    def fingerprint(self) -> str:
        """What tells this source from any other of its name: a package's version, and a hash of the content."""
        digest = hashlib.sha256()
        for path, content in self.files:
            digest.update(f"{path}\0{len(content)}\0".encode() + content)
        short = digest.hexdigest()[:16]
        return short if self.version is None else f"{self.version}:{short}"

    @property
    def words(self) -> tuple[str, ...]:
        """The override that names it; none for a package, which is found by itself."""
        return (f"plugins={self.location}",) if self.is_file else ()


@dataclass(frozen=True)
class _Plugin:
    """A plugin that is imported, with what it registered here and with Keras."""

    source: PluginSource
    functions: Sequence[tuple[Registry, RegisteredFunction]]
    keras_objects: Mapping[str, Any]


_imported: dict[tuple[str, str], _Plugin] = {}  # by name and fingerprint
_active: list[_Plugin] = []


def read_plugin_file(path: str) -> PluginSource:
    """Read the file of a plugin. Raises ConfigError unless it is one."""
    file = Path(path).expanduser()
    shown = f"plugins={quote_text(path, 200)}"
    if file.suffix != ".py" or not file.stem.isidentifier():
        raise ConfigError(f"{shown}: expected the name of a Python file, as in plugins=my_models.py.")
    try:
        content = read_file(file, _MAX_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"{shown}: this file cannot be read ({error.strerror or error}); name another.") from None
    return PluginSource(file.name, None, file.stem, ((file.name, content),), str(file.resolve()))


def find_installed_plugins() -> list[PluginSource]:
    """The plugins of the packages that are installed here, by name. Raises ConfigError for one without source."""
    found = {entry.value: entry for entry in entry_points(group=ENTRY_POINTS)}
    return [_read_package(found[value]) for value in sorted(found)]


def _read_package(entry: EntryPoint) -> PluginSource:
    name = entry.dist.name if entry.dist is not None else entry.name
    top = entry.module.partition(".")[0]
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise ConfigError(
            f"the plugin of the package {name}: its module {entry.module} is not installed; install the package again, "
            "or remove it."
        )
    root = Path(spec.origin).parent
    paths = sorted(root.rglob("*.py")) if spec.submodule_search_locations else [Path(spec.origin)]
    base = root.parent if spec.submodule_search_locations else root
    if len(paths) > _MAX_FILES:
        raise ConfigError(f"the plugin of the package {name}: it has {len(paths)} files, and {_MAX_FILES} are read.")
    files = tuple((path.relative_to(base).as_posix(), read_file(path, _MAX_FILE_BYTES)) for path in paths)
    version = entry.dist.version if entry.dist is not None else "0"
    return PluginSource(name, version, entry.module, files, str(root))


def activate_plugins(sources: Iterable[PluginSource]) -> None:
    """Let these plugins, and no others, be what a config and a model's file may name.

    Raises ConfigError for one that cannot be imported, and for two that register the same name.
    """
    imported = [_import_plugin(source) for source in {source.name: source for source in sources}.values()]
    _deactivate()
    try:
        for plugin in imported:
            for registry, function in plugin.functions:
                registry.register(function)
            _add_keras_objects(plugin)
            _active.append(plugin)
    except ConfigError:
        _deactivate()
        raise


def activate_typed(files: Iterable[str]) -> None:
    """Activate the plugins of these files and of the installed packages. Raises ConfigError."""
    sources = [read_plugin_file(file) for file in files]
    names = [source.name for source in sources]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise ConfigError(f"plugins: two files are called {doubled}; rename one of them.")
    activate_plugins([*find_installed_plugins(), *sources])


def ensure_active(sources: Sequence[PluginSource]) -> None:
    """Activate these plugins where some of them are not active."""
    if not set(sources) <= set(list_active()):
        activate_plugins(sources)


def list_active() -> list[PluginSource]:
    """The sources of the plugins that are active."""
    return [plugin.source for plugin in _active]


def find_plugin(registry: Registry, name: object) -> PluginSource | None:
    """The active plugin whose function this is; None for the project's own, and where there is none."""
    registered = registry.find_registration(name)
    return next((source for source in list_active() if registered and source.name == registered.plugin), None)


def suggest_plugins() -> str:
    """What to do about a name that is of nothing registered, as the end of a sentence."""
    files = [source.name for source in list_active() if source.is_file]
    if files:
        return f"; {' and '.join(files)} registers nothing of this name"
    return "; code of your own is named with plugins=FILE.py"


def refuse_other_plugins(expected: Mapping[str, str], owner: str) -> None:
    """Raise ConfigError if a plugin of `owner` is missing or differs. expected: fingerprints by name."""
    active = {source.name: source for source in list_active()}
    for name, fingerprint in expected.items():
        source = active.get(str(name))
        is_file = ":" not in str(fingerprint)
        if source is None:
            remedy = f"name its file, as in --plugins {name}" if is_file else f"install the package {name}"
            raise ConfigError(f"{owner} needs the plugin {quote_text(name)}, which is missing: {remedy}.")
        if source.fingerprint != fingerprint:
            kept = "the run of its study keeps it among its artifacts, in plugins/"
            raise ConfigError(
                f"{owner} was trained with another {quote_text(name)}: its source has the fingerprint "
                f"{quote_text(fingerprint)}, and {source.location} has {source.fingerprint}; use that source "
                f"({kept}), or train it again."
            )


def _deactivate() -> None:
    for registry in REGISTRIES:
        registry.drop_plugins()
    if any(registry is DATA_SOURCES for plugin in _active for registry, _ in plugin.functions):
        loading.forget_splits()
    for plugin in _active:
        if plugin.keras_objects:
            import keras

            for name in plugin.keras_objects:
                keras.saving.get_custom_objects().pop(name, None)
    _active.clear()


def _add_keras_objects(plugin: _Plugin) -> None:
    if not plugin.keras_objects:
        return
    import keras

    registered = keras.saving.get_custom_objects()
    for name, value in plugin.keras_objects.items():
        if registered.get(name, value) is not value:
            raise ConfigError(
                f"{plugin.source.name}: Keras already knows another {name}; register it under another package or name."
            )
        registered[name] = value


def _import_plugin(source: PluginSource) -> _Plugin:
    key = (source.name, source.fingerprint)
    if key not in _imported:
        if any(library in content for _, content in source.files for library in _LIBRARIES):
            backend.import_tensorflow()
        before = _list_keras_objects()
        with collect_registrations(source.name) as functions:
            _run_import(source, _import_file if source.is_file else _import_package)
        added = {name: value for name, value in _list_keras_objects().items() if before.get(name) is not value}
        if "keras" in sys.modules:  # an active plugin's own stay, whatever this one registered
            _restore_keras_objects(before)
        _imported[key] = _Plugin(source, tuple(functions), added)
    return replace(_imported[key], source=source)  # the same content may stand elsewhere now


def _list_keras_objects() -> dict[str, Any]:
    if "keras" not in sys.modules:
        return {}
    import keras

    return dict(keras.saving.get_custom_objects())


def _restore_keras_objects(objects: Mapping[str, Any]) -> None:
    import keras

    registered = keras.saving.get_custom_objects()
    registered.clear()
    registered.update(objects)


def _run_import(source: PluginSource, import_source: Callable[[PluginSource], None]) -> None:
    """Import a plugin; whatever that raises becomes one sentence, with the line that raised it."""
    try:
        import_source(source)
    except ConfigError:  # of a decorator
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == source.location]
        number = error.lineno if isinstance(error, SyntaxError) else lines[-1].lineno if lines else None
        where = f", line {number}" if number else ""
        hint = "mend it"
        missing = error.name if isinstance(error, ModuleNotFoundError) and error.name else None
        if missing and source.is_file and _has_neighbour(Path(source.location), missing):
            hint = "a file may not import its neighbours: put both into one file, or make a package of them"
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        raise ConfigError(
            f"the plugin {source.name}{where} cannot be imported ({quote_text(reason, 300)}); {hint}."
        ) from error


def _has_neighbour(file: Path, module: str) -> bool:
    beside = file.parent / module.partition(".")[0]
    return beside.with_suffix(".py").is_file() or beside.is_dir()


def _import_file(source: PluginSource) -> None:
    """Import a plugin's file by itself: its folder is not where Python looks for modules."""
    (_, content) = source.files[0]
    location = source.location or source.name
    # A name of its own, which hides no module, and which two versions of a file do not share.
    module = types.ModuleType(f"fmnist_sweep_plugin_{source.module}_{source.fingerprint}")
    module.__file__ = location
    code = compile(content, location, "exec", dont_inherit=True)
    lines = content.decode(errors="replace").splitlines(keepends=True)
    linecache.cache[location] = (len(content), None, lines, location)  # for tracebacks, on other machines too
    sys.modules[module.__name__] = module
    try:
        exec(code, vars(module))  # noqa: S102 - the file that was typed
    except BaseException:
        del sys.modules[module.__name__]
        raise


def _import_package(source: PluginSource) -> None:
    """Import a package as it is installed here; where it is not, or differs, from a folder made of its source."""
    top = source.module.partition(".")[0]
    installed = next((each for each in find_installed_plugins() if each.name == source.name), None)
    for name in [name for name in sys.modules if name == top or name.startswith(f"{top}.")]:
        del sys.modules[name]  # of an earlier import, whose registrations were another's
    if installed != source:
        folder = Path(tempfile.mkdtemp(prefix="fmnist-sweep-plugin-"))
        for path, content in source.files:
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    importlib.import_module(source.module)
