"""One team's policy as it is deployed: a folder that acts on what its environment gives, without JAX and without the environment.

    policy.json            what it is: agents, spaces, networks, how it acts, where it came from
    weights.safetensors    the networks' arrays, and the moments that normalize observations

Decisions are training's own: the same forward (`architectures.acting`), the same arrangement of observations (`envs.grouping`), the same
managers (`envs.managed`). Only `rng` differs: sampling draws from NumPy's generator, as distributed as in JAX.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from marlstone.core.acting import Act, temperature
from marlstone.core.distributions import Box, Discrete, MultiDiscrete
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Group, Spec, Step
from marlstone.envs.grouping import Arrangement, arrangement_from_json
from marlstone.envs.managed import GOAL, Layout, Managers
from marlstone.envs.spaces import LISTED, MASKS, masks_in
from marlstone.policy.numpy_actor import FastActor, describe, weights

if TYPE_CHECKING:
    from marlstone.algorithm import Algorithm
    from marlstone.algorithm import Policy as Trained

VERSION = 1
DESCRIPTION, WEIGHTS = "policy.json", "weights.safetensors"


@dataclass(frozen=True)
class PolicyMemory:
    """What a policy remembers between two steps of one episode: recurrent state, and the managers' goals and clock."""

    recurrent: Any
    goals: Any = None
    clock: Any = None


@dataclass(frozen=True)
class Policy:
    """A frozen team policy.

    Fields: `description`, plain JSON; `arrays`, in the order that `policy.numpy_actor.weights` gives them.
    """

    description: Mapping[str, Any]
    arrays: tuple[np.ndarray, ...] = field(repr=False)

    # ---- from a run, to and from a folder
    @classmethod
    def of(
        cls,
        algorithm: "Algorithm",
        trained: "Trained",
        act: Act,
        wiring: Mapping[str, Any] | None = None,
        source: Mapping[str, Any] | None = None,
        network: Mapping[str, Any] | None = None,
    ) -> "Policy":
        """Freeze one training seed's policy. Imports JAX.

        Args: `trained`: its arrays, without an axis of seeds; `act`: how it is deployed; `wiring`: how the environment's dictionaries
        become groups (None: agents are given leaves by name); `source`: where it came from, for people; `network`: what `describe` says of
        the algorithm, where that is known (training seeds share it).
        Raises ValueError for a combination whose forward NumPy cannot run.
        """
        managers = algorithm.architecture.managers()
        description = {
            "version": VERSION,
            "acting": act,
            "network": dict(network or describe(algorithm)),
            "managers": None if managers is None else asdict(managers),
            "wiring": None if wiring is None else dict(wiring),
            "source": dict(source or {}),
        }
        frozen = replace(trained, explore=np.zeros_like(np.asarray(trained.explore)))  # deployed: nobody explores
        made = cls(description, tuple(weights(frozen)))
        _ = made._actor  # what does not fit is refused now
        return made

    def save(self, path: str | Path) -> Path:
        """Write the folder `path`, new or empty. Returns it. Raises `UserError` where something is already there."""
        folder = Path(path).expanduser().absolute()
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise UserError(f"{folder} exists already: name a new or empty folder for the policy")
        folder.mkdir(parents=True, exist_ok=True)
        data = save({f"{i:04d}": np.asarray(x, order="C") for i, x in enumerate(self.arrays)})
        described = {**self.description, "weights_sha256": hashlib.sha256(data).hexdigest()}
        (folder / WEIGHTS).write_bytes(data)
        (folder / DESCRIPTION).write_text(json.dumps(described, indent=1, allow_nan=False) + "\n")
        return folder

    @classmethod
    def load(cls, path: str | Path) -> "Policy":
        """Read what `save` wrote. Raises `UserError` where it is missing, damaged, or of a newer version."""
        folder = Path(path).expanduser()
        try:
            described = json.loads((folder / DESCRIPTION).read_text())
            data = (folder / WEIGHTS).read_bytes()
        except (OSError, ValueError) as error:
            raise UserError(f"{folder} is no policy that can be read ({error}): name a folder that Policy.save wrote") from error
        if not isinstance(described, dict) or described.get("version") != VERSION:
            version = described.get("version") if isinstance(described, dict) else None
            raise UserError(f"{folder} is a policy of version {version}, and {VERSION} is read here: save it with this version")
        if hashlib.sha256(data).hexdigest() != described.pop("weights_sha256", None):
            raise UserError(f"{folder}: {WEIGHTS} is not what {DESCRIPTION} was written with: copy both again")
        try:
            arrays = load(data)
        except SafetensorError as error:
            raise UserError(f"{folder}: {WEIGHTS} cannot be read ({error}): copy it again") from error
        return cls(described, tuple(arrays[k] for k in sorted(arrays)))

    # ---- what it is
    @property
    def acting(self) -> Act:
        """How it is deployed: `mode`, `sample` or `temperature=T`."""
        return str(self.description["acting"])

    @cached_property
    def spec(self) -> Spec:
        """The team as its environment has it, without managers."""
        return self._actor.spec.team

    @property
    def agents(self) -> tuple[str, ...]:
        """Names of the agents, as observations and actions have them."""
        return self.spec.agents

    @cached_property
    def _actor(self) -> FastActor:
        actor = FastActor(dict(self.description["network"]))
        actor.load(list(self.arrays))
        return actor

    @cached_property
    def _arranged(self) -> Arrangement | None:
        return None if (wiring := self.description["wiring"]) is None else arrangement_from_json(wiring)

    @cached_property
    def _layout(self) -> Layout | None:
        return None if (managers := self.description["managers"]) is None else Layout(Managers(**managers), self.spec_without_goals)

    @cached_property
    def spec_without_goals(self) -> Spec:
        """The environment's own groups: without managers, and without the goals that managers give."""
        if self._arranged is not None:
            return Spec(self._arranged.groups, 0)
        if self.description["managers"] is None:
            return self.spec
        bare = lambda g: replace(g, observation={k: leaf for k, leaf in g.observation.items() if k != GOAL})
        return Spec(tuple(map(bare, self.spec.groups)), 0)

    # ---- acting
    def memory(self) -> PolicyMemory:
        """Before an episode's first step."""
        return PolicyMemory(self._actor.memory(1))

    def act(
        self,
        observations: Mapping[str, Any],
        memory: PolicyMemory | None = None,
        rng: np.random.Generator | None = None,
        *,
        infos: Mapping[str, Any] | None = None,
        acting: Act | None = None,
    ) -> tuple[dict[str, Any], PolicyMemory]:
        """What each agent does now, and what to remember for the next step.

        Args: `observations`: by agent name, as the environment gives them (`action_mask` inside is honored); agents left out are gone, or
        not asked; `memory`: what the last step returned, None at an episode's start; `rng`: draws samples (None: a generator with a seed
        of the system's); `infos`: by agent name, where the environment gives masks there; `acting`: another way than the deployed one.
        Raises ValueError naming agent and field for an observation that is not as declared.
        """
        first, memory = memory is None, memory or self.memory()
        asked = [a for a in observations if observations[a] is not None]
        if strange := [a for a in asked if a not in self.agents]:
            raise ValueError(f"observations of {strange[0]!r}, who is no agent of this policy: it acts for {', '.join(self.agents)}")
        obs, legal = self._seen(observations, infos or {})
        present = np.array([a in asked for a in self.spec_without_goals.agents])
        step, goals, clock = self._step(obs, legal, present, first, memory)
        heat, rng = np.float32(temperature(acting or self.acting)), rng or np.random.default_rng()
        noise = tuple(heat * z for z in self._actor.noise(rng, (1,)))  # at 0 the mode, whatever is drawn
        _, emitted, _, recurrent = self._actor.act(step, memory.recurrent, noise)
        if self._layout is not None:
            goals, clock = self._layout.after(goals, clock, emitted[-1][0])
        actions = self._named(tuple(x[0] for x in emitted[: len(self.spec_without_goals.groups)]))
        return {a: actions[a] for a in asked}, PolicyMemory(recurrent, goals, clock)

    def default_actions(self) -> dict[str, Any]:
        """By agent: the action that was declared to do nothing special, as the environment takes it."""
        rows = tuple(g.space.emit(g.default_like(_blank(g))) for g in self.spec_without_goals.groups)
        return self._named(rows)

    def _seen(self, observations: Mapping[str, Any], infos: Mapping[str, Any]) -> tuple[Any, Any]:
        """Observations and masks by group, `[n_g ...]`."""
        masks = masks_in(infos)
        if self._arranged is None:
            return self._leaves(observations, masks)
        obs = self._arranged.blank()
        self._arranged.write(observations, obs, _refuse)
        self._arranged.read_masks(observations, masks, _refuse)
        return obs, self._arranged.legal(masks, _refuse)[0]

    def _leaves(self, observations: Mapping[str, Any], masks: dict[str, Any]) -> tuple[Any, Any]:
        """Of an environment that gives rows itself: an agent's observation is its only leaf, or leaves by name; shorter vectors are
        padded."""
        out, legal = [], []
        for g in self.spec_without_goals.groups:
            seen = {k: np.zeros((g.count, *leaf.shape), leaf.dtype) for k, leaf in g.observation.items()}
            allowed: np.ndarray | None = None
            for i, agent in enumerate(g.agents):
                if (given := observations.get(agent)) is None:
                    continue
                if not isinstance(given, Mapping):
                    given = {next(iter(g.observation)): given} if len(g.observation) == 1 else {}
                for name, leaf in g.observation.items():
                    x = np.asarray(given.get(name, np.zeros(0)))
                    size = g.features.get(name, (leaf.shape[0],) * g.count)[i]
                    if x.shape not in {leaf.shape, (size, *leaf.shape[1:])}:
                        _refuse("wrong_shape", agent, f"observation {name!r}", f"shape {x.shape} (expected {leaf.shape})")
                    seen[name][i, : len(x)] = x
                found = next(((m, given[m]) for m in MASKS if m in given and m not in g.observation), masks.get(agent))
                if found is not None:
                    allowed = np.ones((g.count, g.space.width), bool) if allowed is None else allowed
                    allowed[i] = _allowed(found, g, agent)
            out.append(seen)
            legal.append(allowed)
        return tuple(out), tuple(legal)

    def _step(self, obs: Any, legal: Any, present: np.ndarray, first: bool, memory: PolicyMemory) -> tuple[Step, Any, Any]:
        """One row of one environment, `[1 ...]`, with managers where there are any; and their goals and clock in it."""
        n = len(present)
        zeros, ones = np.zeros(n, np.float32), np.ones(n, np.float32)
        none, ended = np.zeros(0, np.float32), np.bool_(False)
        row = Step(obs, none, zeros, np.float32(0), ones, np.float32(1), np.bool_(first), ended, legal, present, present, {})
        goals = clock = None
        if self._layout is not None:
            goals, clock = self._layout.begin(row) if first else (memory.goals, memory.clock)
            row = self._layout.row(row, goals, clock)
        one: Callable[[Any], Any] = lambda x: None if x is None else np.asarray(x)[None]
        numbers = ("state", "reward", "team_reward", "discount", "team_discount", "first", "last", "present", "deciding")
        step = replace(
            row,
            obs=tuple({k: one(x) for k, x in leaves.items()} for leaves in row.obs),
            legal=tuple(map(one, row.legal)),
            **{k: one(getattr(row, k)) for k in numbers},
        )
        return step, goals, clock

    def _named(self, emitted: tuple[np.ndarray, ...]) -> dict[str, Any]:
        """Actions `[n_g ...]` by agent, as its space takes them."""
        if self._arranged is not None:
            return dict(zip(self._arranged.agents, self._arranged.act(emitted), strict=True))
        rows = zip(self.spec_without_goals.groups, emitted, strict=True)
        return {a: int(x[i]) if isinstance(g.space, Discrete) else x[i] for g, x in rows for i, a in enumerate(g.agents)}


def _refuse(fault: str, agent: str, field: str, value: Any) -> None:
    raise ValueError(f"agent {agent!r}, {field}: got {value}")


def _blank(g: Group) -> np.ndarray:
    """Recorded actions of the right shape and dtype, `[n_g ...]`."""
    if isinstance(g.space, Box):
        return np.zeros((g.count, g.space.size), np.float32)
    choices = (len(g.space.sizes),) if isinstance(g.space, MultiDiscrete) else ()
    return np.zeros((g.count, *choices), np.int32)


def _allowed(found: tuple[str, Any], g: Group, agent: str) -> np.ndarray:
    """A mask as the environment gave it, `[a]`; where it allows nothing, the default action."""
    name, mask = found
    mask = np.asarray(mask).reshape(-1)
    if name in LISTED and mask.size != g.space.width:
        mask = np.isin(np.arange(g.space.width), mask)
    if mask.size > g.space.width:
        _refuse("wrong_shape", agent, name, f"{mask.size} entries (expected {g.space.width})")
    out = np.zeros(g.space.width, bool)
    out[: mask.size] = mask.astype(bool)
    if not out.any():
        out[int(np.asarray(g.default).reshape(-1)[0])] = True
    return out
