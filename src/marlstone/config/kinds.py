"""Which class a `kind` names: one of this package's parts, or a user's own, `file.py:Class`."""

import inspect
from pathlib import Path
from types import FunctionType
from typing import Any

from marlstone.architectures import Architecture, Ctde, Decentralized, Gru, Hierarchical, Mlp
from marlstone.architectures.body import Body
from marlstone.comms import Channel
from marlstone.comms.plain import CHANNELS
from marlstone.core.errors import UserError, suggest
from marlstone.core.user_code import member
from marlstone.credit import Attention, Counterfactual, Credit, Decoupled, Difference, Individual, Measured, Qmix, Qplex, Shaping, Team, Vdn
from marlstone.encoders import Encoder, Image, Vector
from marlstone.envs.faults import FAULTS, Fault
from marlstone.envs.own_metrics import Info, TrueMetric, is_metric, of_function
from marlstone.learners import Adam, Learner, Optimizer, PolicyGradient, Pqn, QLearning, RAdam, RmsProp, Sgd
from marlstone.runs.sinks import Csv, MLflow, Sink, TensorBoard, Wandb
from marlstone.tools import DelayLine, FunctionTool, HttpTool, McpTool, Tool

PARTS: dict[Any, tuple[type, ...]] = {
    Architecture: (Decentralized, Ctde, Hierarchical),
    Body: (Mlp, Gru),
    Encoder: (Image, Vector),
    Credit: (Individual, Team, Counterfactual, Difference, Measured, Attention, Shaping, Decoupled, Vdn, Qmix, Qplex),
    Learner: (PolicyGradient, QLearning, Pqn),
    Channel: CHANNELS,
    Tool: (DelayLine, FunctionTool, HttpTool, McpTool),
    Optimizer: (Adam, RmsProp, RAdam, Sgd),
    Fault: FAULTS,
    TrueMetric: (Info,),
    Sink: (TensorBoard, Wandb, MLflow, Csv),
}
"""Contracts, and the parts of this package that keep them. A new part is named here and nowhere else."""

ALIASES: dict[Any, dict[str, str]] = {
    Architecture: {"ippo": "decentralized", "independent": "decentralized", "mappo": "ctde"},
    Credit: {"coma": "counterfactual", "liir": "shaping", "tar2": "attention", "prd": "decoupled"},
    Channel: {"commnet": "broadcast", "ic3net": "broadcast", "tarmac": "targeted"},
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
    what, hint = contract.__name__.removeprefix("True").lower(), f"{suggest(kind, known)}; your own is" if known else "yours is"
    raise UserError(f"{where} = {kind!r}: there is no such {what}; {hint} written file.py:Class")


def name_of(part: Any) -> str:
    """What `find` finds this part by; a user's class by the absolute path of its file, so that the run repeats from anywhere."""
    cls = type(part)
    if any(cls in known for known in PARTS.values()):
        return cls.kind
    return f"{Path(inspect.getfile(cls)).resolve()}:{cls.__name__}"


def _users(contract: Any, file: Path, name: str, where: str) -> type:
    asked = f"{where} = '{file}:{name}'"
    if contract is TrueMetric:
        found = member(file, name, asked, "class or function", is_metric)
        cls: Any = of_function(found) if isinstance(found, FunctionType) else found
    else:
        cls = member(file, name, asked, "class", lambda x: isinstance(x, type))
    if not _is_frozen(cls):
        raise UserError(f"{asked}: {name} is no frozen dataclass; write @dataclass(frozen=True) above it")
    if getattr(contract, "_is_protocol", False):
        undone: frozenset[str] = getattr(cls, "__abstractmethods__", frozenset())  # of one that derives from the contract
        lacking = sorted(m for m in _members(contract) if m in undone or not (hasattr(cls, m) or m in cls.__dataclass_fields__))
        if lacking:
            raise UserError(f"{asked}: {name} lacks {', '.join(lacking)}; see {contract.__module__}.{contract.__name__}")
    elif not issubclass(cls, contract):
        raise UserError(f"{asked}: {name} is no {contract.__name__}; derive it from {contract.__module__}.{contract.__name__}")
    return cls


def _is_frozen(cls: Any) -> bool:
    return bool(getattr(getattr(cls, "__dataclass_params__", None), "frozen", False))


def _members(protocol: Any) -> set[str]:
    """What a contract asks for: its methods, properties and annotated values; not what has a default."""
    own = {n for n, x in vars(protocol).items() if callable(x) or isinstance(x, property)}
    return {n for n in own | (set(protocol.__annotations__) - set(vars(protocol))) if not n.startswith("_")}
