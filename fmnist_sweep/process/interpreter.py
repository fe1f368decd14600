"""What this interpreter imports, and those that it starts: never a file of the folder that a command is typed in.

`python -m` puts that folder before everything else, so that a `queue.py` in it would be taken for Python's own, and one
of somebody else's would run. Folders that PYTHONPATH names stay where they are.
"""

# Nothing is imported at the top but what Python has loaded before: it could come from the very folder this is about.
# That includes `from __future__ import annotations`.
import os
import sys
import warnings
from importlib.machinery import PathFinder

from fmnist_sweep.process.streams import prepare_streams

_OURS = ("fmnist_sweep", "fmnist-sweep")
_UNCALLED = ("test", "tests", "setup", "conftest")  # names that folders have anyway, and no command of ours needs

# Whatever the user's other projects draw and compute with. A Jupyter kernel exports a backend of matplotlib to all that
# it starts, and matplotlib, which Keras imports, does not even start where that one is not installed.
LIBRARY_SETTINGS = {"MPLBACKEND": "agg", "KERAS_BACKEND": "tensorflow", "TF_USE_LEGACY_KERAS": "0"}


def prepare_command() -> None:
    """Prepare this process if it is one of our commands, and not a program of the user's that imports this package."""
    if _is_our_command():
        prepare_process()
        _start_again_if_unfit()
        _leave_working_directory()


def prepare_process() -> None:
    """Prepare a command or a child of one: standard streams, settings of libraries, and warnings that would be errors.

    PYTHONWARNINGS=error is meant for the user's own programs; the libraries here warn of what they know.
    """
    prepare_streams()
    os.environ.update(LIBRARY_SETTINGS)
    warnings.filters[:] = [each for each in warnings.filters if each[0] != "error"]  # type: ignore[index]
    if "PYTHONWARNINGS" in os.environ:
        kept = [each for each in os.environ["PYTHONWARNINGS"].split(",") if not each.strip().startswith("e")]
        os.environ["PYTHONWARNINGS"] = ",".join(kept)


def _start_again_if_unfit() -> None:
    """Start this command again where Python was started in a way that libraries cannot work in.

    Hydra reads a mapping on the command line within assertions, which PYTHONOPTIMIZE takes away. Stores and artifacts
    have UTF-8 in their addresses, whatever names of files are in this locale.
    """
    unfit = bool(sys.flags.optimize and os.environ.pop("PYTHONOPTIMIZE", None))
    unfit |= bool(sys.flags.inspect and os.environ.pop("PYTHONINSPECT", None))  # which shows every exit as a fault
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)  # the terminal stays what it is
        os.environ["PYTHONUTF8"] = "1"
        unfit = True
    if unfit and not sys.flags.ignore_environment:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - no shell is wanted
    if sys.flags.optimize:
        sys.stderr.write("fmnist_sweep: python -O takes away assertions that Hydra needs: leave it out.\n")
        sys.exit(2)


def _leave_working_directory() -> None:
    """Take the working directory off the path, however it came there.

    What Python has imported from there before anybody could prevent it ends the command, with exit code 2.
    """
    try:
        folder = os.getcwd()
    except OSError:
        sys.stderr.write("fmnist_sweep: the folder that this was typed in is gone: go to another one.\n")
        sys.exit(2)
    if folder in _list_named_folders() or _is_pythons_own(folder):
        return
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != folder]
    if taken := _find_imported_file(folder):
        sys.stderr.write(
            f"fmnist_sweep: {ascii(taken)[1:-1]} was taken for Python's own module of that name: rename it, or type "
            "the command in another folder.\n"
        )
        sys.exit(2)
    is_completing = "_FMNIST_SWEEP_COMPLETE" in os.environ  # a shell asks while somebody types, and shows all it hears
    if (shadows := _list_shadows(folder)) and not is_completing:
        names = ", ".join(ascii(name)[1:-1] for name in shadows[:5]) + (" and more" if len(shadows) > 5 else "")
        sys.stderr.write(
            f"fmnist_sweep: not used, although in this folder: {names} (modules of Python or of an installed package "
            "have these names).\n"
        )


def build_python_command(module: str, *arguments: str, before: str = "pass") -> list[str]:
    """The command that calls `main` of a module of this package and exits with what it returns.

    The child has the package from where this process has it. before: a statement that runs before any import.
    """
    parent = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    find_package = f"import sys; sys.path.insert(0, {parent!r}); import {_OURS[0]}; del sys.path[0]"
    prepare = f"from {__name__} import prepare_process; prepare_process()"
    code = f"{before}; {find_package}; {prepare}; from {module} import main; sys.exit(main())"
    return [sys.executable, "-P", "-c", code, *arguments]


def build_child_environment() -> dict[str, str]:
    """The environment of a child interpreter: neither it nor those that it starts import from the working directory.

    An empty entry of PYTHONPATH, as of `PYTHONPATH=$PYTHONPATH:/home/ann/lib`, would mean that folder.
    """
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    if "PYTHONPATH" in environment:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, environment["PYTHONPATH"].split(os.pathsep)))
    return environment


def _is_our_command() -> bool:
    if sys.argv[:1] == ["-m"]:  # Python is looking for the module that it shall run
        module = sys.orig_argv[sys.orig_argv.index("-m") + 1 :] if "-m" in sys.orig_argv else []
        return bool(module) and module[0].partition(".")[0] == _OURS[0]
    return bool(sys.argv) and os.path.basename(sys.argv[0]) == _OURS[1]


def _is_pythons_own(folder: str) -> bool:
    return folder == os.path.dirname(os.__file__) or os.path.basename(folder) in ("site-packages", "dist-packages")


def _list_named_folders() -> list[str]:
    """The folders that the user has put on the path in so many words."""
    if sys.flags.ignore_environment:
        return []
    return [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]


def _find_imported_file(folder: str) -> str | None:
    """A file of the folder that is a module of this process already, except for this package in a clone."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        inside = file is not None and os.path.dirname(os.path.abspath(file).removesuffix("/__init__.py")) == folder
        if inside and name.partition(".")[0] not in (_OURS[0], "__main__"):
            return str(file)
    return None


def _list_shadows(folder: str) -> list[str]:
    """The names of what in the folder would have been imported instead of a module that is installed."""
    shadows = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name, _, ending = entry.name.partition(".")
                is_module = ending == "py" or (not ending and os.path.isfile(os.path.join(entry.path, "__init__.py")))
                if is_module and name not in (_OURS[0], *_UNCALLED) and _is_installed(name):
                    shadows.append(entry.name)
    except OSError:  # a folder that may not be listed
        pass
    return sorted(shadows)


def _is_installed(name: str) -> bool:
    if not name.isidentifier():
        return False
    if name in sys.stdlib_module_names:
        return True
    spec = PathFinder.find_spec(name)
    return spec is not None and spec.origin is not None
