"""A user's Python file as a module: how it is found, loaded, described where it fails, and recognized again.

For a user's file and the modules beside it, those modules come first, as in plain Python: `import tree` means the neighbor `tree.py`, also
where a package of that name is installed, or imported already. Nothing changes for anything else: libraries keep their own `tree`.

A neighbor whose name is its own is an ordinary module. One that shares its name with another module is loaded as a submodule of a package
made up for the folder, and import statements in that folder, inside functions too, find it there.
"""

import builtins
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from marlstone.core.errors import UserError, suggest

LONGEST = 600
"""Characters of a user's own error that a message repeats."""


def load(path: str | Path, asked: str = "") -> ModuleType:
    """The module in the file `path`, loaded once per process: one file, one module, however often it is named.

    Raises `UserError`: there is no such file (the message begins with `asked`), it is not Python, or something in it fails while it is
    loaded (the message begins with file and line).
    """
    file = Path(path).expanduser().resolve()
    asked = asked or f"file {str(path)!r}"
    if not file.is_file():
        raise UserError(f"{asked}: there is no file {path} (looked in {Path.cwd()}): write its path from there, or in full")
    if file.suffix != ".py":
        raise UserError(f"{asked}: {path} is not a Python file: name one that ends in .py")
    folder = _registered(file.parent)
    name = f"{folder.package}.{file.stem}"
    if name in sys.modules:
        return sys.modules[name]
    loader = _Loader(name, str(file))
    module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=str(file)))
    module.__file__ = str(file)
    sys.modules[name] = module
    loaded = False
    try:
        loader.exec_module(module)
        loaded = True
    except (Exception, SystemExit) as error:
        raise failed(error, file) from error
    finally:
        if not loaded:
            sys.modules.pop(name, None)
    return module


def member(path: str | Path, name: str, asked: str, noun: str, fits: Callable[[Any], bool]) -> Any:
    """What the user's file `path` calls `name`. `noun`: what is looked for (`class`, `function`), `fits`: whether something is one.

    Raises `UserError` as `load` does, and where the file defines no such thing, naming what it does define. Messages begin with `asked`.
    """
    module = load(path, asked)
    if not fits(found := getattr(module, name, None)):
        defined = [n for n, x in vars(module).items() if fits(x) and getattr(x, "__module__", None) == module.__name__]
        raise UserError(f"{asked}: {path} defines no {noun} {name!r}; {suggest(name, defined)}")
    return found


def failed(error: BaseException, file: Path, doing: str = "") -> UserError:
    """The one message for an `error` that the code in a user's `file`, or beside it, has caused: where, what, and the remedy if there is
    one. `doing`: what was called, for the end of the message."""
    where, line = _place(error, file)
    at = f"{_shown(where)} line {line}" if line else _shown(where)
    text = str(error.msg if isinstance(error, SyntaxError) else error)[:LONGEST]
    text = text.replace(f"{_registered(file.resolve().parent).package}.", "")
    remedy = ""
    if isinstance(error, ModuleNotFoundError):
        remedy = ": install it into this Python's environment, or put it beside the file"
    return UserError(f"{at}: {type(error).__name__}{f': {text}' if text else ''}{remedy}{f' (in {doing})' if doing else ''}")


def _place(error: BaseException, file: Path) -> tuple[Path, int | None]:
    """File and line of the user's code that an error comes from: the innermost frame there."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_file():
        return Path(error.filename), error.lineno
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if _owner(frame.f_code.co_filename) is not None:
            return Path(frame.f_code.co_filename), line
    return file, None


def _shown(file: Path) -> str:
    """A path as people find it: from the working directory where it lies there."""
    here = Path.cwd()
    return str(file.relative_to(here) if file.is_relative_to(here) else file)


# ---- neighbors first
class _Folder:
    """One folder with users' files. `path`: absolute; `package`: the name of the package made up for it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.package = f"marlstone_user_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
        self.decided: dict[str, bool] = {}
        package = ModuleType(self.package)
        package.__path__ = [str(path)]
        sys.modules[self.package] = package
        self.builtins = {**vars(builtins), "__import__": self.importer}

    def importer(
        self, name: str, globals: Mapping[str, Any] | None = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
    ) -> Any:
        """`__import__` as the modules of this folder have it."""
        top = name.partition(".")[0]
        itself = globals is not None and globals.get("__name__") == f"{self.package}.{top}"  # my `gymnasium.py` imports the real one
        if level or itself or not self.private(top):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = builtins.__import__(f"{self.package}.{name}", None, None, fromlist or (), 0)
        return module if fromlist else sys.modules[f"{self.package}.{top}"]

    def private(self, top: str) -> bool:
        """Whether `top` is a module of this folder, and everything else knows another module by that name."""
        if f"{self.package}.{top}" in sys.modules:
            return True
        if top not in self.decided and (mine := self.neighbor(top)) is not None:
            other = getattr(sys.modules[top], "__spec__", None) if top in sys.modules else importlib.util.find_spec(top)
            if other is None:
                same = top not in sys.modules
            elif mine.is_dir():  # no __init__.py: other modules of that name come first, other such folders do not
                same = other.origin is not None or list(other.submodule_search_locations or ()) == [str(mine)]
            else:
                same = other.origin in (str(mine), "built-in", "frozen")  # what Python itself began with is never replaced
            self.decided[top] = not same
        return self.decided.get(top, False)

    def neighbor(self, top: str) -> Path | None:
        """Where the module `top` of this folder lies: a file, or a folder of modules."""
        files = [self.path / top / "__init__.py", *(self.path / f"{top}{end}" for end in (*EXTENSION_SUFFIXES, ".py"))]
        found = next((file for file in files if file.is_file()), None)
        return found or (self.path / top if (self.path / top).is_dir() else None)


class _Loader(SourceFileLoader):
    """Loads a module of a user's folder, from the source as it is now: bytecode may be of a file that was edited in the same second."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        if (folder := _owner(str(self.path))) is not None:
            vars(module)["__builtins__"] = folder.builtins
        super().exec_module(module)


_FOLDERS: dict[str, _Folder] = {}


def _registered(path: Path) -> _Folder:
    """The folder, known to Python's imports from now on. Last on the path: its own modules find each other first anyway."""
    if str(path) not in _FOLDERS:
        _FOLDERS[str(path)] = _Folder(path)
        if _finder not in sys.path_hooks:
            sys.path_hooks.insert(0, _finder)
        if str(path) not in sys.path:
            sys.path.append(str(path))
        for known in [p for p in sys.path_importer_cache if Path(p).is_relative_to(path)]:
            del sys.path_importer_cache[known]
    importlib.invalidate_caches()
    return _FOLDERS[str(path)]


def _owner(path: str) -> _Folder | None:
    """The user's folder in which a file, or a folder of modules, lies; None for what is installed below it."""
    for place in (path, *map(str, Path(path).parents)):
        if place in _FOLDERS:
            return _FOLDERS[place]
        if place in sys.path or Path(place).name == "site-packages":
            return None
    return None


def _finder(path: str) -> FileFinder:
    """Finds modules in users' folders, and in packages there."""
    if _owner(path) is None:
        raise ImportError(path)
    return FileFinder(path, (ExtensionFileLoader, EXTENSION_SUFFIXES), (_Loader, [".py"]))
