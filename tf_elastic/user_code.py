"""Files of the user's own, imported by their paths.

A rule or an optimizer that is in no installed package is in a file that
`train.py --rules=FILE.py` names. Every process of a cluster has to import it:
`train.py` hands its name to those that it starts in `TF_ELASTIC_RULES`.
"""

import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable

VARIABLE = "TF_ELASTIC_RULES"


class UserCodeError(ImportError):
    """A file cannot be imported; the message says why and what to do."""


def split(values: Iterable[str]) -> list[str]:
    """The paths in texts that name several, with commas between them.

    Example:

    >>> split(["a.py,b.py", "c.py"])
    ['a.py', 'b.py', 'c.py']
    """
    return [
        path.strip()
        for value in values
        for path in value.split(",")
        if path.strip()
    ]


def from_environment() -> list[str]:
    """The paths that `TF_ELASTIC_RULES` names."""
    return split([os.environ.get(VARIABLE, "")])


def import_files(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Imports files, each as the module that its name stands for, once.

    Args:
        paths: of Python files. `rules/mine.py` becomes the module `mine`.

    Returns:
        The absolute paths in this order, each once.

    Raises:
        UserCodeError: a file is not there, is no Python, fails while it is
            imported, or has the name of another module.
    """
    done: list[str] = []
    for path in paths:
        absolute = os.path.realpath(os.path.expanduser(os.fspath(path)))
        if absolute not in done:
            _import_one(absolute)
            done.append(absolute)
    return done


def _import_one(path: str) -> None:
    name = _module_name(path)
    if name in sys.modules:  # Itself: another one was refused.
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserCodeError(f"{path} cannot be imported as Python.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception):
            raise  # Ctrl-C.
        raise UserCodeError(_what_failed(path, error)) from error


def _module_name(path: str) -> str:
    """The module's name, where the file can be one."""
    if not os.path.exists(path):
        raise UserCodeError(
            f"There is no file {path}. Give the path of a Python file."
        )
    name, ending = os.path.splitext(os.path.basename(path))
    if ending != ".py" or not os.path.isfile(path):
        raise UserCodeError(
            f"{path} is no Python file. Give one whose name ends in .py."
        )
    if not name.isidentifier():
        raise UserCodeError(
            f"{path} cannot be a module: {name!r} is no name in Python. "
            "Rename the file, with letters, digits and underscores only."
        )
    other = _file_of_module(name)
    if other is not None and other != path:
        raise UserCodeError(
            f"{path} would be the module {name!r}, and that is {other} "
            "already. Rename the file."
        )
    return name


def _file_of_module(name: str) -> str | None:
    """Where a module comes from that is imported or could be."""
    module = sys.modules.get(name)
    if module is not None:
        file = getattr(module, "__file__", None)
        return os.path.realpath(file) if file else "a part of Python"
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if not spec.has_location or spec.origin is None:
        # A folder without `__init__.py` is not in the way of a file.
        return "a part of Python" if spec.loader else None
    return os.path.realpath(spec.origin)


def _what_failed(path: str, error: Exception) -> str:
    """A sentence on why a file could not be imported."""
    remedy = "Correct it, or name another file."
    if isinstance(error, SyntaxError) and error.lineno is not None:
        line = (error.text or "").strip()
        return (
            f"{error.filename}, line {error.lineno}, is no Python: "
            f"{error.msg}{f': {line}' if line else ''}. {remedy}"
        )
    if isinstance(error, SyntaxError | UnicodeDecodeError) or (
        isinstance(error, ValueError) and "null bytes" in str(error)
    ):
        return f"{path} is no Python: {error}. {remedy}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == path
    ]
    at = f", line {lines[-1]}" if lines else ""
    return (
        f"{path}{at}, failed while it was imported: {type(error).__name__}: "
        f"{error} {remedy}"
    )
