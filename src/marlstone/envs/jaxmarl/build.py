"""From `jaxmarl:name?option=value` to the environment: which game, whose reward, what its options are."""

import contextlib
import inspect
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.core.distributions import Box
from marlstone.core.errors import suggest
from marlstone.core.types import Spec
from marlstone.envs.jaxmarl.adapter import JaxMarl, quiet
from marlstone.envs.jaxmarl.coin_game import CoinGame
from marlstone.envs.jaxmarl.game import Game
from marlstone.envs.jaxmarl.grouping import Crew, crews
from marlstone.envs.jaxmarl.hanabi import Hanabi
from marlstone.envs.jaxmarl.jaxnav import JaxNav
from marlstone.envs.jaxmarl.mabrax import MaBrax
from marlstone.envs.jaxmarl.mpe import Mpe
from marlstone.envs.jaxmarl.overcooked import Overcooked
from marlstone.envs.jaxmarl.smax import Smax
from marlstone.envs.jaxmarl.storm import Storm
from marlstone.envs.jaxmarl.switch_riddle import SwitchRiddle
from marlstone.envs.jaxmarl.unavailable import LearnedEnemy, Robotarium
from marlstone.envs.names import UnknownEnvironment, resolve_options

GAMES: tuple[type[Game], ...] = (
    Mpe, Smax, Overcooked, Hanabi, MaBrax, Storm, CoinGame, SwitchRiddle, JaxNav, LearnedEnemy, Robotarium,
)  # fmt: skip
LIMITS = ("truncate", "terminate")
SEAMS = ("auto_reset", "agents", "action_spaces", "observation_spaces")  # parameters that are no options: objects, or settled here


def newest(name: str, known: Iterable[str]) -> str:
    """A name of JaxMARL's as it is registered: `MPE_simple_reference` is the newest `MPE_simple_reference_v...`; any other stays."""
    versions = [(int(v), k) for k in known if (v := k.removeprefix(f"{name}_v")) != k and v.isdecimal()]
    return name if name in known or not versions else max(versions)[1]


def make(name: str, options: Mapping[str, Any]) -> JaxMarl:
    """The environment `jaxmarl:name`, whose version may be left out. Options: `time_limit=truncate|terminate`, `team=TYPE+TYPE|all`, and
    the game's own.

    Raises `UnknownEnvironment` for a name, option or space that cannot be had, with the remedy.
    """
    with _stdout_to_stderr(), warnings.catch_warnings():  # JaxMARL prints on import, and our standard output is a record
        warnings.simplefilter("ignore", DeprecationWarning)  # of what it imports
        from jaxmarl.registration import registered_envs

    name = newest(name, registered_envs)
    where = f"jaxmarl:{name}"
    if name not in registered_envs:
        raise UnknownEnvironment(f"jaxmarl has no environment {name!r}: {suggest(name, sorted(registered_envs))}")
    kind = next((g for g in GAMES if name in g.names), Game)
    theirs = dict(options)
    limit = theirs.pop("time_limit", "truncate")
    if limit not in LIMITS:
        raise UnknownEnvironment(f"{where}: option 'time_limit' is {limit!r}: write time_limit=truncate or time_limit=terminate")
    own = {f.name: f.default for f in fields(kind)}
    game = kind(**resolve_options(where, {k: theirs.pop(k) for k in own if k in theirs}, own))
    side = str(theirs.pop("team", game.team(name)))
    env = _create(game, name, theirs)
    _known(game, name, env, theirs)
    return _adapted(name, env, game, limit == "truncate", side)


def _known(game: Game, name: str, env: Any, options: Mapping[str, Any]) -> None:
    """Raises `UnknownEnvironment` for an option that `env`, of whatever options, does not have."""
    theirs = _accepted(type(env)) | _accepted(type(getattr(env, "_env", None)))
    accepted = sorted({*theirs, "time_limit", "team", *(f.name for f in fields(game))} - set(SEAMS))
    for option in options:
        if option not in accepted:
            raise UnknownEnvironment(f"jaxmarl:{name} has no option {option!r}: {suggest(option, accepted)}")


def _create(game: Game, name: str, options: Mapping[str, Any]) -> Any:
    """JaxMARL's object. Raises `UnknownEnvironment` where it refuses its options."""
    with _stdout_to_stderr():
        try:
            return game.create(name, options)
        except UnknownEnvironment:
            raise
        except (TypeError, AssertionError, NotImplementedError, AttributeError, ValueError, KeyError) as error:
            if options and isinstance(error, TypeError):
                _known(game, name, game.create(name, {}), options)
            raise UnknownEnvironment(
                f"jaxmarl:{name} refuses its options {dict(options)}: {error}: see JaxMARL's documentation of {name}, or leave them out"
            ) from error


def _adapted(name: str, env: Any, game: Game, limit: bool, side: str) -> JaxMarl:
    where = f"jaxmarl:{name}"
    with quiet():
        observation, state = jax.eval_shape(env.reset, jax.random.key(0))  # what is really seen: JaxMARL's declared sizes are not always
        seen = jax.eval_shape(lambda o: game.by_agent(env, o), observation)
        world = jax.eval_shape(lambda o, s: game.world_state(env, o, s), observation, state)
    groups = crews(where, env, seen, game.idle(name))
    kinds = [t for crew in groups for t in crew.group.types]
    wanted = side.split("+")
    if side != "all" and not set(wanted) <= set(kinds):
        raise UnknownEnvironment(f"{where}: option 'team' is {side!r}: name types of {', '.join(sorted(set(kinds)))}, joined by +, or all")
    team = np.array([side == "all" or kind in wanted for kind in kinds])
    names = [a for crew in groups for a in crew.group.agents]
    spec = Spec(
        tuple(crew.group for crew in groups),
        state=sum(int(np.prod(x.shape)) for k in env.agents for x in jax.tree.leaves(seen[k])) if world is None else world.shape[0],
        horizon=game.horizon(env),
        metrics=dict(game.metrics),
        opponents=tuple(a for a, mine in zip(names, team, strict=True) if not mine),
    )
    share = np.array([1 / kinds.count(t) for t in kinds], np.float32) if game.shared else None
    masked = _masks(env, state, groups) if game.masks else ""
    adapted = JaxMarl(env, game, spec, limit, team, masked, groups, share, None)
    return replace(adapted, kinds=_kinds(adapted)) if game.retyped else adapted


def _kinds(env: JaxMarl) -> Any:
    """The types of the state's leaves after a step."""
    state = jax.eval_shape(env.init, jax.random.key(0))[0]
    nothing = tuple(jnp.asarray(g.recorded_defaults) for g in env.spec.groups)
    after = jax.eval_shape(env.step, state, nothing, jax.random.key(0))[0]
    return jax.tree.map(lambda x: x.dtype, after)


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send standard output to standard error, by descriptor: something JaxMARL imports puts `sys.stdout` back by itself."""
    kept, saved = sys.stdout, os.dup(1)
    kept.flush()
    os.dup2(2, 1)
    try:
        yield
    finally:
        for stream in (kept, sys.stdout, sys.__stdout__):
            if stream is not None:
                stream.flush()
        os.dup2(saved, 1)
        os.close(saved)
        sys.stdout = kept


def _masks(env: Any, state: Any, groups: tuple[Crew, ...]) -> str:
    """The method that says which actions are legal; "" where none does (MPE's is only a placeholder)."""
    if any(isinstance(crew.group.space, Box) for crew in groups):
        return ""
    for name in ("get_avail_actions", "get_legal_moves"):
        with contextlib.suppress(NotImplementedError, AttributeError):
            if isinstance(jax.eval_shape(getattr(env, name), state), dict):
                return name
    return ""


def _accepted(kind: type) -> set[str]:
    """Options that a JaxMARL class, or a base it passes `**kwargs` to, accepts."""
    names: set[str] = set()
    for c in kind.__mro__:
        if "__init__" in vars(c):
            parameters = inspect.signature(vars(c)["__init__"]).parameters
            names |= {k for k, p in parameters.items() if p.kind is not p.VAR_KEYWORD and k != "self"}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                break
    return names
