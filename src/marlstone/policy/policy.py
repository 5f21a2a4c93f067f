"""One team's policy as it is deployed: a folder that acts on what its environment gives, without JAX and without the environment.

    policy.json            what it is: agents, spaces, networks, how it acts, its fallback and its gate, where it came from
    weights.safetensors    the networks' arrays, the moments that normalize observations, the gate's arrays

Decisions are training's own: the same forward (`architectures.acting`), the same arrangement of observations (`envs.grouping`), the same
managers (`envs.managed`), the same gate (`policy.gate`). Only `rng` differs: sampling draws from NumPy's generator, as distributed as in
JAX.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from marlstone.comms import INBOX, LINKS, SAID, Channel
from marlstone.comms.layout import TalkLayout, without_messages
from marlstone.comms.plain import CHANNELS, channel_from_json, channel_to_json
from marlstone.core.acting import Act, temperature
from marlstone.core.errors import UserError, suggest
from marlstone.core.records import replace
from marlstone.core.types import Spec
from marlstone.envs.arrangement import Arrangement
from marlstone.envs.faults import fault_from_json, fault_to_json
from marlstone.envs.faults.withheld import Withheld
from marlstone.envs.grouping import arrangement_from_json
from marlstone.envs.managed import GOAL, Layout, Managers
from marlstone.policy.deployed import Deployed, PolicyMemory, PureActing, observed, outer_draws
from marlstone.policy.dictionaries import Dictionaries, blank_actions
from marlstone.policy.gate import Gate, blank
from marlstone.policy.numpy_actor import OWN, FastActor, describe, own_parts, weights
from marlstone.tools import Tool, Toolbox, toolbox_to_json
from marlstone.tools.calls import Desk
from marlstone.tools.exchange import arrive
from marlstone.tools.layout import ToolLayout, without_tools
from marlstone.tools.toolbox import received

if TYPE_CHECKING:
    from marlstone.algorithm import Algorithm
    from marlstone.algorithm import Policy as Trained

VERSION, READ = 2, (1, 2)  # version 1 has no fallback and no gate
DESCRIPTION, WEIGHTS = "policy.json", "weights.safetensors"
NETWORK, GATE = "network", "gate"  # what an array in the weights' file belongs to
BACKENDS = ("numpy", "jax")
MOST_DESKS = 4096  # episodes at once whose real calls are kept apart; the oldest are forgotten
Backend = Literal["numpy", "jax"]


@dataclass(frozen=True)
class Policy:
    """A frozen team policy.

    Fields: `description`, plain JSON; `arrays`, in the order that `policy.numpy_actor.weights` gives them; `gate`, on what every agent
    observes, or None; `backend`: whether `act` computes in NumPy or in JAX, with the same decisions; `parts`: classes of a user's own
    bodies and encoders, which the description names and no file holds; `callers`: what its real tools call, by name (`with_tools`).
    """

    description: Mapping[str, Any]
    arrays: tuple[np.ndarray, ...] = field(repr=False)
    gate: Gate | None = field(default=None, repr=False)
    backend: Backend = "numpy"
    parts: tuple[type, ...] = ()
    callers: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise UserError(f"Policy.backend is {self.backend!r}: {suggest(self.backend, BACKENDS)}")
        if (self.gate is None) != (self.description.get("gate") is None):
            raise UserError("Policy.gate and its description do not belong together: attach a gate by Policy.with_gate")

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
        channel: Channel | None = None,
        tools: Toolbox | None = None,
        withheld: Sequence[Withheld] = (),
    ) -> "Policy":
        """Freeze one training seed's policy. Imports JAX.

        Args: `trained`: its arrays, without an axis of seeds; `act`: how it is deployed; `wiring`: how the environment's dictionaries
        become groups (None: agents are given leaves by name); `source`: where it came from, for people; `network`: what `describe` says of
        the algorithm, where that is known (training seeds share it); `channel`: as it is deployed (None: the algorithm's); `tools`: that
        its agents have; `withheld`: observation leaves and actions that it does without.
        Raises ValueError for a combination whose forward NumPy cannot run.
        """
        managers, channel = algorithm.architecture.managers(), channel or algorithm.channel
        description = {
            "version": VERSION,
            "acting": act,
            "network": dict(network or describe(algorithm)),
            "managers": None if managers is None else asdict(managers),
            "channel": channel_to_json(channel, paths=False) if channel.speaks else None,
            "tools": toolbox_to_json(tools or Toolbox(), deployed=True),
            "withheld": [fault_to_json(x) for x in withheld],
            "fallback": None,
            "gate": None,
            "wiring": None if wiring is None else dict(wiring),
            "source": dict(source or {}),
        }
        frozen = replace(trained, explore=np.zeros_like(np.asarray(trained.explore)))  # deployed: nobody explores
        own = () if type(channel) in CHANNELS else (type(channel),)
        made = cls(description, tuple(weights(frozen)), parts=(*own_parts(algorithm), *own))
        _ = made._actor  # what does not fit is refused now
        return made

    def save(self, path: str | Path) -> Path:
        """Write the folder `path`, new or empty. Returns it. Raises `UserError` where something is already there."""
        folder = Path(path).expanduser().absolute()
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise UserError(f"{folder} exists already: name a new or empty folder for the policy")
        folder.mkdir(parents=True, exist_ok=True)
        gate = [] if self.gate is None else self.gate.arrays()
        parts = ((NETWORK, self.arrays), (GATE, gate))
        data = save({f"{part}/{i:04d}": np.array(x, order="C") for part, xs in parts for i, x in enumerate(xs)})
        described = {**self.description, "version": VERSION, "weights_sha256": hashlib.sha256(data).hexdigest()}
        (folder / WEIGHTS).write_bytes(data)
        (folder / DESCRIPTION).write_text(json.dumps(described, indent=1, allow_nan=False) + "\n")
        return folder

    @classmethod
    def load(cls, path: str | Path, backend: Backend = "numpy", parts: Sequence[type] = ()) -> "Policy":
        """Read what `save` wrote. `backend`: `jax` computes decisions there, compiled; `numpy` imports no JAX. `parts`: the classes of a
        user's own bodies, encoders and channel in it, since a policy loads no code.

        Raises `UserError` where it is missing, damaged, of a newer version, or has a part that is not among `parts`.
        """
        folder = Path(path).expanduser()
        try:
            described = json.loads((folder / DESCRIPTION).read_text())
            data = (folder / WEIGHTS).read_bytes()
        except (OSError, ValueError) as error:
            raise UserError(f"{folder} is no policy that can be read ({error}): name a folder that Policy.save wrote") from error
        if not isinstance(described, dict) or described.get("version") not in READ:
            version = described.get("version") if isinstance(described, dict) else None
            raise UserError(f"{folder} is a policy of version {version}, and up to {VERSION} are read here: update this package")
        if hashlib.sha256(data).hexdigest() != described.pop("weights_sha256", None):
            raise UserError(f"{folder}: {WEIGHTS} is not what {DESCRIPTION} was written with: copy both again")
        try:
            arrays = load(data)
        except SafetensorError as error:
            raise UserError(f"{folder}: {WEIGHTS} cannot be read ({error}): copy it again") from error
        own = tuple(arrays[k] for k in sorted(arrays) if not k.startswith(f"{GATE}/"))
        gate = [arrays[k] for k in sorted(arrays) if k.startswith(f"{GATE}/")]
        made = cls({"fallback": None, "gate": None, **described}, own, Gate.of(gate) if gate else None, backend, tuple(parts))
        if parts or OWN in json.dumps(described["network"]["actors"]):
            _ = made._actor
        _ = made.channel
        return made

    # ---- what acts in its place
    def with_gate(
        self,
        gate: Gate,
        *,
        fallback: Literal["default", "ask"] = "default",
        rate: float | None = None,
        figures: Mapping[str, Any] | None = None,
    ) -> Self:
        """The same policy behind a gate: an agent whose observation lies outside does its fallback action instead.

        Args: `gate`: of this policy's training seed (`Run.policy(gated=True)` finds the one that was measured); `fallback`: `ask` also
        counts a question each time an agent gets outside; `rate`: of familiar episodes that may raise an alarm, as calibrated; `figures`:
        what was measured, as JSON. Raises `UserError` where the gate is of other observations.
        """
        if fallback not in ("default", "ask"):
            raise UserError(
                f"Policy.with_gate: fallback is {fallback!r}: give 'default' or 'ask'; an artifact holds no second policy to act"
            )
        like = [x.shape for x in blank(self._actor.spec).arrays()]
        if [x.shape for x in gate.arrays()] != like:
            raise UserError("Policy.with_gate: this gate is of other observations, or of several seeds: give one seed's own (Gate.of_seed)")
        told = {"fallback": fallback, "rate": rate, "figures": None if figures is None else dict(figures)}
        return type(self)({**self.description, "gate": told}, self.arrays, gate, self.backend, self.parts, self.callers)

    def without_gate(self) -> Self:
        """The same policy, which acts whatever it is shown."""
        return type(self)({**self.description, "gate": None}, self.arrays, None, self.backend, self.parts, self.callers)

    def with_budget(self, bits: float) -> Self:
        """The same policy under another of the budgets that it was trained for, in bits per joint step: without, the first. Raises
        `UserError` for any other."""
        budgets = () if self.channel is None else self.channel.budget_bits
        if bits not in budgets:
            known = ", ".join(f"{b:g}" for b in budgets) or "none"
            raise UserError(f"Policy.with_budget: {bits:g} is no budget that this policy was trained for: choose one of {known}")
        return type(self)({**self.description, "budget": float(bits)}, self.arrays, self.gate, self.backend, self.parts, self.callers)

    def with_tools(self, callers: Mapping[str, Any]) -> Self:
        """The same policy with what its real tools call, by name: a function of one argument (`tools.calls.Call`), or a tool such as
        `HttpTool` or `FunctionTool`. A policy's folder names none, since nothing that is received may call anything.

        Raises `UserError` for a name that is no real tool of this policy, or one that is left out.
        """
        names = [self.toolbox.tools[i].name for i in self.toolbox.real]
        if strange := [k for k in callers if k not in names]:
            raise UserError(f"Policy.with_tools: {strange[0]!r} is no real tool of this policy: it calls {', '.join(names) or 'none'}")
        if lacks := [k for k in names if k not in callers]:
            raise UserError(f"Policy.with_tools: {lacks[0]!r} is left out: this policy calls {', '.join(names)}; say what each is")
        found = {k: x.caller() if isinstance(x, Tool) else x for k, x in callers.items()}
        return type(self)(self.description, self.arrays, self.gate, self.backend, self.parts, found)

    def with_fallback(self, actions: Mapping[str, Any]) -> Self:
        """The same policy with declared fallback actions, by agent, as its environment takes them; agents left out keep their defaults.

        They replace the policy outside its gate, and are what a server answers when it has no time to ask the policy. Raises `UserError`
        for an agent that is not there, or an action that is not in its space.
        """
        rows = [np.array(x) for x in self._fallback_rows]
        for agent, action in actions.items():
            if agent not in self.agents:
                raise UserError(f"Policy.with_fallback: {agent!r} is no agent of this policy: it acts for {', '.join(self.agents)}")
            try:
                flat = self._dictionaries.recorded(agent, action)
            except (ValueError, TypeError, KeyError, AssertionError) as error:
                raise UserError(f"Policy.with_fallback, agent {agent!r}: {error}: give an action that its environment takes") from error
            group, place = next((i, g.agents.index(agent)) for i, g in enumerate(self.spec_without_goals.groups) if agent in g.agents)
            if rows[group].ndim == 1:
                rows[group][place] = flat[0]
            else:
                rows[group][place, : len(flat)] = flat
        return type(self)(
            {**self.description, "fallback": [x.tolist() for x in rows]}, self.arrays, self.gate, self.backend, self.parts, self.callers
        )

    @cached_property
    def _fallback_rows(self) -> tuple[np.ndarray, ...]:
        """Per group of the environment, recorded fallback actions `[n_g ...]`."""
        blanks = [blank_actions(g) for g in self.spec_without_goals.groups]
        if (declared := self.description["fallback"]) is not None:
            return tuple(np.array(x, like.dtype) for x, like in zip(declared, blanks, strict=True))
        return tuple(g.default_like(x) for g, x in zip(self.spec_without_goals.groups, blanks, strict=True))

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

    @property
    def deployed_spec(self) -> Spec:
        """The groups that networks and gate know: the environment's, and managers where there are some."""
        return self._actor.spec

    @property
    def source(self) -> Mapping[str, Any]:
        """Where it came from: run, training seed, updates; for people."""
        return dict(self.description["source"])

    @cached_property
    def _actor(self) -> FastActor:
        actor = FastActor(dict(self.description["network"]), self.parts)
        actor.load(list(self.arrays))
        return actor

    @cached_property
    def deployed(self) -> Deployed:
        """What decides, on this policy's backend: pure array code."""
        gate, declared, bound = self.gate, self.description["fallback"], self._actor.bind(self.arrays)
        if self.backend == "jax":
            import jax
            import jax.numpy as jnp

            with jax.ensure_compile_time_eval():  # arrays, also where this is first asked for while a program is traced
                bound = self._actor.bind([jnp.asarray(x) for x in self.arrays], copy=lambda x: x)
                gate = None if gate is None else jax.tree.map(jnp.asarray, gate)
        fallback = None
        if declared is not None:
            managers = self._actor.spec.groups[len(self.spec_without_goals.groups) :]
            rows = self._fallback_rows if self._kit is None else self._kit.idle(self._fallback_rows)
            rows = rows if self._talk is None else self._talk.silent(rows)
            fallback = (*rows, *(g.default_like(blank_actions(g)) for g in managers))
        own = self.spec_without_goals.groups
        never = tuple((g, np.any([x.forbidden(g) for x in self.withheld], axis=0)) for g in own) if self.withheld else ()
        return Deployed(self._actor, bound, self._layout, self._talk, gate, fallback, self._kit, never)

    @cached_property
    def _decide(self) -> Callable[..., Any]:
        """`Deployed.act`, compiled where this policy acts in JAX."""
        if self.backend == "numpy":
            return self.deployed.act
        import jax

        compiled = jax.jit(self.deployed.act)

        def decide(step: Any, memory: PolicyMemory, noise: Any) -> Any:
            return jax.tree.map(np.asarray, compiled(step, memory, noise))

        return decide

    def pure(self) -> PureActing:
        """The same decisions as pure functions in JAX, to jit, vmap and scan."""
        mine = self if self.backend == "jax" else type(self)(self.description, self.arrays, self.gate, "jax", self.parts, self.callers)
        return PureActing(self.spec_without_goals, temperature(self.acting), mine.deployed)

    @cached_property
    def _arranged(self) -> Arrangement | None:
        return None if (wiring := self.description["wiring"]) is None else arrangement_from_json(wiring)

    @cached_property
    def withheld(self) -> tuple[Withheld, ...]:
        """What it does without: observation leaves that need not be given, and actions that it never takes."""
        return tuple(x for x in map(fault_from_json, self.description.get("withheld") or ()) if isinstance(x, Withheld))

    @cached_property
    def _dictionaries(self) -> Dictionaries:
        return Dictionaries(self.spec_without_goals, self._arranged, frozenset(leaf for x in self.withheld for leaf in x.leaves))

    @cached_property
    def _layout(self) -> Layout | None:
        return None if (managers := self.description["managers"]) is None else Layout(Managers(**managers), self.spec_without_goals)

    @cached_property
    def channel(self) -> Channel | None:
        """How its agents talk; None where they do not."""
        plain = self.description.get("channel")
        return None if plain is None else channel_from_json(plain, self.parts)

    @cached_property
    def _talk(self) -> TalkLayout | None:
        if (channel := self.channel) is None:
            return None
        below = self._kit.spec if self._kit is not None else self._managed
        return TalkLayout(channel, below, self.description.get("budget"))

    @cached_property
    def toolbox(self) -> Toolbox:
        """What its agents may call, look up and store; real tools as `External`, unless `with_tools` said what they are."""
        return received(self.description.get("tools"))

    @cached_property
    def _kit(self) -> ToolLayout | None:
        return ToolLayout(self.toolbox, self._managed) if self.toolbox.any else None

    @property
    def _managed(self) -> Spec:
        return self._layout.spec if self._layout is not None else self.spec_without_goals

    @cached_property
    def spec_without_goals(self) -> Spec:
        """The environment's own groups: without managers, the goals that these give, tools and messages."""
        if self._arranged is not None:
            groups = self._arranged.groups
            for x in self.withheld:
                groups = tuple(map(x.group, groups))
            return Spec(groups, 0)
        box = self.toolbox
        if self.description["managers"] is None and self.description.get("channel") is None and not box.any:
            return self.spec
        hidden = (GOAL,) if self.description.get("channel") is None else (GOAL, INBOX, LINKS, SAID)
        bare = lambda g: replace(g, observation={k: leaf for k, leaf in g.observation.items() if k not in hidden})
        own = (without_messages(bare(g)) for g in self.spec.groups)
        return Spec(tuple(without_tools(g, box) for g in own), 0)

    # ---- acting
    def memory(self) -> PolicyMemory:
        """Before an episode's first step."""
        return self.deployed.memory()

    def act(
        self,
        observations: Mapping[str, Any],
        memory: PolicyMemory | None = None,
        rng: np.random.Generator | None = None,
        *,
        infos: Mapping[str, Any] | None = None,
        acting: Act | None = None,
        prices: Mapping[str, float] | None = None,
    ) -> tuple[dict[str, Any], PolicyMemory]:
        """What each agent does now, and what to remember for the next step.

        Args: `observations`: by agent name, as the environment gives them (`action_mask` inside is honored); agents left out are gone, or
        not asked; `memory`: what the last step returned, None at an episode's start; `rng`: draws samples (None: a generator with a seed
        of the system's); `infos`: by agent name, where the environment gives masks there; `acting`: another way than the deployed one;
        `prices`: what tools cost now, by name (`memory_read` and `memory_write` of the memory), until told otherwise; as declared without.
        Raises ValueError naming agent and field for an observation that is not as declared.
        """
        first, memory = memory is None, memory or self.memory()
        asked = [a for a in observations if observations[a] is not None]
        if strange := [a for a in asked if a not in self.agents]:
            raise ValueError(f"observations of {strange[0]!r}, who is no agent of this policy: it acts for {', '.join(self.agents)}")
        obs, legal = self._dictionaries.groups(observations, infos or {})
        present = np.array([a in asked for a in self.spec_without_goals.agents])
        step = observed(obs, legal, present, np.bool_(first))
        heat, rng = np.float32(temperature(acting or self.acting)), rng or np.random.default_rng()
        noise = tuple(heat * z for z in self._actor.noise(rng, ()))  # at 0 the mode, whatever is drawn
        if prices:
            memory = self._told(memory, prices)
        desk = None
        if self.toolbox.real:
            desk, memory = self._called(memory)
        emitted, memory = self._decide(step, memory, (*noise, *outer_draws(self.deployed, rng)))
        if desk is not None:
            sent = cast(ToolLayout, self._kit).sent
            desk.make(memory.tools.called, memory.tools.argument, lambda k, tool: sent(step, k, tool))
        actions = self._dictionaries.named(emitted)
        return {a: actions[a] for a in asked}, memory

    @cached_property
    def _desks(self) -> dict[int, Desk]:
        return {}

    def _called(self, memory: PolicyMemory) -> tuple[Desk, PolicyMemory]:
        """Where an episode's real tools are called, and memory with what has come. Raises `UserError` where nobody said what they call."""
        box, desks = self.toolbox, self._desks
        if not self.callers:
            names = ", ".join(box.tools[i].name for i in box.real)
            raise UserError(f"this policy calls {names}, and its folder does not say what that is: give it, policy.with_tools({{...}})")
        if memory.desk is None or int(memory.desk) not in desks:
            number = max(desks, default=-1) + 1
            desks[number] = Desk(box, self.agents, self.callers)
            if len(desks) > MOST_DESKS:
                desks.pop(next(iter(desks))).close()
            return desks[number], replace(memory, desk=np.int32(number))
        desk = desks[int(memory.desk)]
        told = desk.outcomes()
        return desk, replace(memory, tools=arrive(box, memory.tools, told.came, told.good, told.value, told.attempts))

    def _told(self, memory: PolicyMemory, prices: Mapping[str, float]) -> PolicyMemory:
        """Memory in which these prices hold. Raises `UserError` for an item that is not there, and a price that is none."""
        items = self.toolbox.items
        told = np.full(len(items), np.nan, np.float32) if memory.told is None else np.array(memory.told)
        for name, price in prices.items():
            if name not in items:
                raise UserError(f"Policy.act: prices has {name!r}, and this policy pays for {', '.join(items) or 'nothing'}: leave it out")
            if not 0 <= price < float("inf"):
                raise UserError(f"Policy.act: the price of {name!r} is {price}: give a number from 0 up")
            told[items.index(name)] = price
        return replace(memory, told=told)

    def outside(self, memory: PolicyMemory) -> tuple[str, ...]:
        """Agents, managers too, whose fallback acted at the last step, by the memory after it; nobody without a gate."""
        return () if memory.gate is None else self._those(memory.gate.away[0])

    def asked(self, memory: PolicyMemory) -> tuple[str, ...]:
        """Agents who got outside the gate just now: whom a person would be asked about where the gate's fallback is `ask`."""
        wants = self.gate is not None and self.description["gate"]["fallback"] == "ask"
        return self._those(memory.gate.asked[0]) if wants and memory.gate is not None else ()

    def _those(self, which: np.ndarray) -> tuple[str, ...]:
        return tuple(a for a, yes in zip(self._actor.spec.agents, which, strict=True) if yes)

    def default_actions(self) -> dict[str, Any]:
        """By agent: the action that was declared to do nothing special, as the environment takes it."""
        groups = self.spec_without_goals.groups
        return self._dictionaries.named(tuple(g.space.emit(g.default_like(blank_actions(g))) for g in groups))

    def fallback_actions(self) -> dict[str, Any]:
        """By agent: what is done in the policy's place, as the environment takes it; the default actions unless others were declared."""
        rows = zip(self.spec_without_goals.groups, self._fallback_rows, strict=True)
        return self._dictionaries.named(tuple(g.space.emit(x) for g, x in rows))
