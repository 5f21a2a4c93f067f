"""Who beats whom? Every policy plays the team against every policy as its opponents, on the same episodes: a payoff matrix.

    M_ij = mean over episodes e of  (1/k) sum over training seeds s of  R_team(policy s of i as the team, policy s of j as the opponents, e)

All cells play the same episodes (the same keys), so that differences between cells are paired. The interval is Student's over episodes: it
speaks of these policies, not of those another training would give. Each side's return is the sum of its own agents' rewards.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from marlstone.architectures import Decentralized
from marlstone.config import RunConfig
from marlstone.core.acting import Act, temperature
from marlstone.core.errors import UserError
from marlstone.core.types import Spec
from marlstone.credit import Individual
from marlstone.envs.teams import declared_team, members
from marlstone.evaluation.paired.pace import Tell
from marlstone.evaluation.paired.players import Players, keys_of
from marlstone.learners import PolicyGradient
from marlstone.play.evaluator import Episodes
from marlstone.play.sides import BySides, jax_policy
from marlstone.policy.policy import DESCRIPTION, Policy
from marlstone.rollout.opponents import WORDS, ByPolicy, Seat
from marlstone.rollout.sides import policy_view, seat

LEVEL = 0.95


@dataclass(frozen=True)
class Contestant:
    """Who plays: `name` as it was asked for, and a policy of each training seed, or none for `random` and `default`."""

    name: str
    policies: tuple[Policy, ...]

    @classmethod
    def of(cls, name: str) -> "Contestant":
        """A run's policies, one of each of its seeds, a policy's folder, or a word. Raises `UserError` where there is none."""
        if name in WORDS:
            return cls(name, ())
        path = Path(name).expanduser()
        if (path / DESCRIPTION).is_file():
            return cls(name, (Policy.load(path),))
        found = {int(p.name.removeprefix("seed-")): p for p in (path / "policy").glob("seed-*")}
        if not found:
            what = "has no policy yet: finish its training" if path.is_dir() else "is no folder"
            raise UserError(f"payoff: {name} {what}; name finished runs, policies' folders, {' or '.join(WORDS)}")
        return cls(name, tuple(Policy.load(found[s]) for s in sorted(found)))

    def of_seed(self, s: int) -> Policy:
        """The policy of training seed number `s`, round and round where there are fewer."""
        return self.policies[s % len(self.policies)]

    @property
    def structure(self) -> str:
        """What two contestants must have in common to be played by one program."""
        if not self.policies or self.policies[0].gate is not None:  # a gate is built into its program
            return self.name
        return json.dumps({k: v for k, v in self.policies[0].description.items() if k not in ("source", "acting")}, sort_keys=True)


@dataclass
class Pitch:
    """An environment with two sides, where contestants meet. `team`, `others`: names of their agents; `act`: another way of acting."""

    players: Players
    team: tuple[str, ...]
    others: tuple[str, ...]
    act: Act | None = None

    @property
    def spec(self) -> Spec:
        """The environment's own."""
        return self.players.spec

    def seat(self, who: Contestant, agents: tuple[str, ...]) -> Seat:
        """`who` in the place of these agents. Raises ValueError where it cannot play them."""
        if not who.policies:
            return seat(self.spec, None, agents, who.name, who.name)
        view = policy_view(self.spec, self.players.runtime.wiring, agents, who.policies[0])
        return Seat(ByPolicy(jax_policy(who.policies[0]), self.act), view, frozenset(agents))

    def played(self, who: Contestant, at: Seat) -> Any:
        """What a seat is played by, stacked `[seeds ...]`: the temperature of its way of acting, and its policies' arrays."""
        seeds = range(self.players.seeds)
        heat = [temperature(self.act or who.of_seed(s).acting) if who.policies else at.mind.heat for s in seeds]
        each = [who.of_seed(s).arrays for s in seeds] if who.policies else []
        return np.array(heat, np.float32), tuple(np.stack(xs) for xs in zip(*each, strict=True))


def payoff(
    names: Sequence[str], env: str, episodes: int, team: str = "", seeds: int | None = None, acting: Act | None = None,
    tell: Tell = lambda line: None,
) -> dict[str, Any]:  # fmt: skip
    """The record of `marlstone payoff --json`: rows play the `team` (a pattern; "": as the environment declares), columns its opponents.

    Raises `UserError` for an environment without opponents where no team is named, and where nobody can play either side.
    """
    who = [Contestant.of(name) for name in names]
    counts = [len(w.policies) for w in who if w.policies]
    k = min([c for c in counts if c > 1] or [1]) if seeds is None else seeds
    config = RunConfig(env, Decentralized(), Individual(), PolicyGradient(epochs=1, minibatches=1), seeds=k)
    with Players.of(config, k) as players:
        mine = members(players.spec, team, "team") if team else declared_team(players.spec)
        others = tuple(a for a in players.spec.agents if a not in mine)
        if not others:
            agents = ", ".join(players.spec.agents)
            raise UserError(
                f"payoff: {env} has one team only, {agents}: say who the rows play, for example --team {players.spec.agents[0]}"
            )
        pitch = Pitch(players, mine, others, acting)
        cells, why = _cells(pitch, who, episodes, tell)
    if all(c is None for row in cells for c in row):
        raise UserError(f"payoff: nobody here can play both sides of {env}: {why}")
    return {
        "env": env, "runs": list(names), "team": list(mine), "opponents": list(others), "seeds": k, "episodes": episodes,
        "acting": acting or "as deployed", "level": LEVEL, "cells": cells, "cannot": why,
    }  # fmt: skip


def _cells(pitch: Pitch, who: list[Contestant], episodes: int, tell: Tell) -> tuple[list[list[dict[str, Any] | None]], dict[str, str]]:
    """Row by row; None where somebody cannot play that side, and why, by name and side."""
    why: dict[str, str] = {}

    def seated(w: Contestant, agents: tuple[str, ...], side: str) -> Seat | None:
        try:
            return pitch.seat(w, agents)
        except ValueError as error:
            why[f"{w.name} as {side}"] = str(error)
            return None

    rows = [seated(w, pitch.team, "team") for w in who]
    columns = [seated(w, pitch.others, "opponents") for w in who]
    programs: dict[tuple[str, str], Any] = {}
    runtime, out, done = pitch.players.runtime, [], 0
    keys = keys_of(pitch.players.seeds, 0)
    side = [[pitch.spec.agents.index(a) for a in agents] for agents in (pitch.team, pitch.others)]
    for w, row in zip(who, rows, strict=True):
        line: list[dict[str, Any] | None] = []
        for v, column in zip(who, columns, strict=True):
            done += 1
            if row is None or column is None:
                line.append(None)
                continue
            tell(f"{w.name} against {v.name} ({done} of {len(who) ** 2})")
            shape = w.structure, v.structure
            if shape not in programs:
                programs[shape] = runtime.evaluator(episodes, decider=BySides(runtime.algorithm, (row, column)))
            both = runtime.placement.pad((pitch.played(w, row), pitch.played(v, column)))
            played: Episodes = programs[shape](both, keys)
            own = np.asarray(played.agent_return, float)
            line.append({name: _mean(played.ended_only(own[..., s].sum(-1))) for name, s in zip(("team", "opponents"), side, strict=True)})
        out.append(line)
    return out, why


def _mean(returns: np.ndarray) -> dict[str, Any]:
    """Mean and interval of `[seeds episodes]`, NaN where one did not end: over episodes, each averaged over seeds."""
    x = np.array([e[~np.isnan(e)].mean() for e in returns.T if not np.isnan(e).all()])
    if not x.size:
        return {"mean": None, "ci95": [None, None], "episodes": 0}
    half = float(special.stdtrit(x.size - 1, (1 + LEVEL) / 2) * x.std(ddof=1) / np.sqrt(x.size)) if x.size > 1 else None
    mean = float(x.mean())
    return {"mean": mean, "ci95": [None, None] if half is None else [mean - half, mean + half], "episodes": int(x.size)}
