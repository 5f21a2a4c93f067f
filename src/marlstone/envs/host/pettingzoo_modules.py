"""Which module `pettingzoo:name` means, and what to install or write where there is none.

pettingzoo:mpe2.simple_spread_v3       a module of a package of its own
pettingzoo:classic.tictactoe_v3        one below `pettingzoo.`
pettingzoo:magent2.battle_v4           one below `magent2.environments.`
"""

import importlib
import importlib.util
import pkgutil
import warnings
from typing import Any

from marlstone.core.errors import suggest
from marlstone.envs.names import UnknownEnvironment, installed_versions

EXTRAS = {"classic": "classic", "sisl": "sisl", "butterfly": "butterfly", "mpe2": "mpe", "magent2": "magent2"}
"""Families of environments, and the extra of this package that brings what each needs."""
MOVED = {"mpe": "mpe2", "magent": "magent2"}
"""Families that left PettingZoo, and the package that each is now."""


def find_module(name: str) -> Any:
    """The module called `name`: as it stands, below `pettingzoo.`, or below its package's `environments`.

    Raises: `UnknownEnvironment` where there is none, with those that there are; `ModuleNotFoundError` with the line that installs what it
    needs.
    """
    where, family, _, rest = f"pettingzoo:{name}", *name.partition(".")
    if family in MOVED:
        raise UnknownEnvironment(
            f"{where}: {family} is a package of its own now: pip install {MOVED[family]}, and write pettingzoo:{MOVED[family]}.{rest}"
        )
    tried = []
    for path in (name, f"pettingzoo.{name}", f"{family}.environments.{rest}"):
        try:
            with warnings.catch_warnings():  # PettingZoo 1.27 advises its registry, which knows only its own environments
                warnings.filterwarnings("ignore", "The old environment creation API", DeprecationWarning)
                return importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name and not path.startswith(error.name):
                raise needs_package(where, family, f"the package {error.name!r}", error.name) from error
            tried.append(path)
        except ImportError as error:
            raise needs_package(where, family, f"a package that is not installed ({error})", "") from error
    if others := installed_versions(tried, "pettingzoo."):
        raise UnknownEnvironment(
            f"{where} is not installed, but {' and '.join(others)} {'are' if len(others) > 1 else 'is'}: write pettingzoo:{others[-1]}"
        )
    if known := _beside(family):
        raise UnknownEnvironment(f"{where}: no module {rest!r} in {family}: {suggest(rest, known)}")
    remedy = f"pip install marlstone[{EXTRAS[family]}]" if family in EXTRAS else "install its package"
    raise UnknownEnvironment(
        f"{where}: no module {' or '.join(tried[:2])}: {remedy}, or write the module's path, as in mpe2.simple_spread_v3"
    )


def needs_package(where: str, family: str, what: str, package: str) -> ModuleNotFoundError:
    """The error for a package that an environment needs and is not installed, with the line that installs it."""
    extra = EXTRAS.get(family)
    remedy = f"pip install marlstone[{extra}]" if extra else f"pip install {package}" if package else "install it"
    return ModuleNotFoundError(f"{where} needs {what}: {remedy}")


def _beside(family: str) -> list[str]:
    """The versioned modules of a family that is installed."""
    for package in (f"pettingzoo.{family}", f"{family}.environments", family):
        try:
            spec = importlib.util.find_spec(package)
        except (ModuleNotFoundError, ImportError):
            continue
        found = [m.name for m in pkgutil.iter_modules(spec.submodule_search_locations or ())] if spec else []
        if versioned := [m for m in found if "_v" in m]:
            return versioned
    return []
