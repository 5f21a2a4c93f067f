"""Which class a `kind` names: one of this package's parts, or a user's own, `file.py:Class`."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any

from marlstone.architectures import Architecture, Ctde, Decentralized, Gru, Hierarchical, Mlp
from marlstone.architectures.body import Body
from marlstone.core.errors import UserError, suggest
from marlstone.core.user_code import load
from marlstone.credit import Attention, Counterfactual, Credit, Decoupled, Difference, Individual, Qmix, Qplex, Shaping, Team, Vdn
from marlstone.envs.faults import FAULTS, Fault
from marlstone.learners import Adam, Learner, Optimizer, PolicyGradient, Pqn, QLearning, RAdam, RmsProp, Sgd

PARTS: dict[Any, tuple[type, ...]] = {
    Architecture: (Decentralized, Ctde, Hierarchical),
    Body: (Mlp, Gru),
    Credit: (Individual, Team, Counterfactual, Difference, Attention, Shaping, Decoupled, Vdn, Qmix, Qplex),
    Learner: (PolicyGradient, QLearning, Pqn),
    Optimizer: (Adam, RmsProp, RAdam, Sgd),
    Fault: FAULTS,
}
"""Contracts, and the parts of this package that keep them. A new part is named here and nowhere else."""

ALIASES: dict[Any, dict[str, str]] = {
    Architecture: {"ippo": "decentralized", "independent": "decentralized", "mappo": "ctde"},
    Credit: {"coma": "counterfactual", "liir": "shaping", "tar2": "attention", "prd": "decoupled"},
    Learner: {"ppo": "policy_gradient", "dqn": "q_learning", "iql": "q_learning"},
}
"""Names that papers gave to what a kind does. Configurations are written with the kind."""


def names(contract: Any) -> dict[str, type]:
    """The kinds of a contract by name."""
    return {part.kind: part for part in PARTS[contract]}  # type: ignore[attr-defined]


def find(contract: Any, kind: str, where: str) -> type:
    """The class called `kind`; `where` is the field that asked. Raises `UserError` naming field, value and remedy."""
    known = names(contract)
    if (kind := ALIASES.get(contract, {}).get(kind.lower(), kind)) in known:
        return known[kind]
    file, colon, name = kind.rpartition(":")
    if colon and file.endswith(".py"):
        return _users(contract, Path(file).expanduser(), name, where)
    hint = suggest(kind, known)
    what = contract.__name__.lower()
    raise UserError(f"{where} = {kind!r}: there is no such {what}; {hint} Your own is written file.py:Class")


def name_of(part: Any) -> str:
    """What `find` finds this part by; a user's class by the absolute path of its file, so that the run repeats from anywhere."""
    cls = type(part)
    if any(cls in known for known in PARTS.values()):
        return cls.kind
    return f"{Path(inspect.getfile(cls)).resolve()}:{cls.__name__}"


def _users(contract: Any, file: Path, name: str, where: str) -> type:
    asked = f"{where} = '{file}:{name}'"
    module = load(file, asked)
    cls = getattr(module, name, None)
    if not isinstance(cls, type):
        defined = [n for n, c in vars(module).items() if isinstance(c, type) and c.__module__ == module.__name__]
        raise UserError(f"{asked}: {file} defines no class {name!r}; {suggest(name, defined)}")
    if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise UserError(f"{asked}: {name} is no frozen dataclass; write @dataclass(frozen=True) above it")
    if getattr(contract, "_is_protocol", False):
        lacking = sorted(m for m in _members(contract) if not hasattr(cls, m) and m not in cls.__dataclass_fields__)
        if lacking:
            raise UserError(f"{asked}: {name} lacks {', '.join(lacking)}; see {contract.__module__}.{contract.__name__}")
    elif not issubclass(cls, contract):
        raise UserError(f"{asked}: {name} is no {contract.__name__}; derive it from {contract.__module__}.{contract.__name__}")
    return cls


def _members(protocol: Any) -> set[str]:
    own = {n for n in vars(protocol) if not n.startswith("_")}
    return own | {n for n in protocol.__annotations__ if not n.startswith("_")}
