"""An agent whose policy is a language model: observation to messages, answer to action, and a declared action where there is no answer."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium.spaces as gs
import numpy as np

from marlstone.core.errors import UserError
from marlstone.cost.budgets import BudgetRefused
from marlstone.cost.deadlines import DeadlinePassed
from marlstone.cost.retries import AttemptsUsedUp, CallFailed
from marlstone.cost.retry_counts import RetryCounter
from marlstone.language.endpoint import Completion, LanguageModel
from marlstone.language.parsers import FAILED, NOT_LEGAL, OK, REFUSED, AnswerParser, Choice, Parsed, in_space
from marlstone.runs.json_line import plain

HOLE = "{observation}"
STOP = "stop"
"""The fallback of a budget that ends the work in order."""


@dataclass(frozen=True)
class Turn:
    """One exchange of an agent with its model, as far as later prompts repeat it.

    Attributes:
      asked, said: texts.
      ids: prompt and answer as token ids, to see whether a later prompt continues them.
    """

    asked: str
    said: str
    ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Answered:
    """What an agent does, and what became of its model's answer.

    Attributes:
      action: as its space takes it.
      parse: status, of `language.parsers`.
      completion: None where no answer came.
      attempts, retries, latency_us: of its call, whether an answer came or not.
      continues: whether the prompt's ids begin with those of the turn before.
      memory: of the turns that later prompts repeat.
    """

    action: Any
    parse: str
    completion: Completion | None
    memory: tuple[Turn, ...]
    continues: bool = False
    attempts: int = 0
    retries: int = 0
    latency_us: int = 0


@dataclass(frozen=True)
class LanguageAgent:
    """Plays one agent by a language model.

    Attributes:
      model: whom to ask; agents may share one.
      parser: from its answer to an action.
      system: the system message; empty: none.
      ask: the message to it, in which `{observation}` stands for what the agent observes: a Text as it is, anything else as JSON.
      turns: earlier messages and answers that a prompt repeats, at most.
      default: the action where there is no usable answer; None: what the environment declares (`default_actions`).
    """

    model: LanguageModel
    parser: AnswerParser
    system: str = ""
    ask: str = HOLE
    turns: int = 0
    default: Any = None

    def __post_init__(self) -> None:
        if HOLE not in self.ask:
            raise ValueError(f"LanguageAgent.ask is {self.ask!r} and never says what is observed: put {HOLE} into it")
        if self.turns < 0:
            raise ValueError(f"LanguageAgent.turns is {self.turns}: give 0 or more earlier turns")

    def check(self, name: str, space: gs.Space, declared: Any) -> Any:
        """The default action, after everything was found to fit. Raises `UserError` for a parser that gives no actions of this space."""
        if not isinstance(space, self.parser.spaces):
            kinds = ", ".join(kind.__name__ for kind in self.parser.spaces)
            raise UserError(
                f"agent {name!r} acts in {space}, and {type(self.parser).__name__} gives actions of {kinds}: take another parser"
            )
        if isinstance(self.parser, Choice) and isinstance(space, gs.Discrete) and len(self.parser.options) != space.n:
            raise UserError(
                f"agent {name!r} has {space.n} actions and Choice.options names {len(self.parser.options)}: name each, in order"
            )
        given = declared if self.default is None else self.default
        if given is None:
            raise UserError(
                f"agent {name!r} has no default action: give LanguageAgent.default, or declare default_actions of the environment"
            )
        action = in_space(plain(given), space)
        if action is None:
            raise UserError(f"agent {name!r}: the default action {given!r} is not in {space}")
        return action

    def messages(self, observation: Any, memory: tuple[Turn, ...]) -> list[dict[str, str]]:
        """The prompt, as chat messages."""
        said = observation if isinstance(observation, str) else json.dumps(plain(observation))
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for turn in memory:
            messages += [{"role": "user", "content": turn.asked}, {"role": "assistant", "content": turn.said}]
        return [*messages, {"role": "user", "content": self.ask.replace(HOLE, said)}]

    def act(
        self,
        name: str,
        observation: Any,
        space: gs.Space,
        default: Any,
        memory: tuple[Turn, ...] = (),
        seed: int | None = None,
        conversation: str = "",
        mask: Any = None,
    ) -> Answered:
        """Ask, and understand the answer. Where a call fails for good, or a budget refuses it, the default action is taken; the
        first legal one, where `mask` (one entry for each action of a Discrete space) forbids the default.

        Raises what no other attempt and no other answer could help: `CallRefused` of a wrong model name, key or server, and `BudgetRefused`
        of a budget whose declared fallback is to stop.
        """
        messages, spans, counter, began = self.messages(observation, memory), self.model.spans, RetryCounter(), time.perf_counter()
        legal = legal_actions(space, mask)
        default = default if legal is None or not legal or default in legal else legal[0]

        def took() -> dict[str, Any]:
            counts = counter.counts()
            wall = round((time.perf_counter() - began) * 1e6)
            return {"attempts": counts.attempts, "retries": counts.retries, "latency_us": wall}

        with spans.invoke_agent(name, conversation) as span:
            try:
                completion = self.model.chat(messages, name, seed, counter)
            except (*_NO_ANSWER, BudgetRefused) as error:
                if isinstance(error, BudgetRefused) and error.refusal.fallback == STOP:
                    raise
                status = REFUSED if isinstance(error, BudgetRefused) else FAILED
                spans.parsed(span, status)
                return Answered(default, status, None, memory, **took())
            found = self.parser.parse(completion.text, space)
            if found.status == OK and legal is not None and found.action not in legal:
                found = Parsed(NOT_LEGAL)
            spans.parsed(span, found.status)
        before = memory[-1].ids if memory else None
        continues = before is not None and completion.prompt_ids[: len(before)] == before
        turn = Turn(messages[-1]["content"], completion.text, completion.prompt_ids + completion.response_ids)
        action = found.action if found.status == OK else default
        kept = (*memory, turn)[-self.turns :] if self.turns else ()
        return Answered(action, found.status, completion, kept, continues, **took())


_NO_ANSWER = (CallFailed, ConnectionError, TimeoutError, DeadlinePassed, AttemptsUsedUp)


def legal_actions(space: gs.Space, mask: Any) -> list[int] | None:
    """Actions that a Discrete space's mask allows; None where there is no mask."""
    if mask is None or not isinstance(space, gs.Discrete):
        return None
    allowed = np.asarray(mask).ravel()
    if allowed.size != space.n:
        raise UserError(f"an action mask has {allowed.size} entries for {space}: give one for each action")
    return [int(space.start) + int(k) for k in np.flatnonzero(allowed)]


def declared_default(env: Any, agent: str) -> Any:
    """What `env.default_actions` declares for an agent, raw; None where it declares nothing."""
    given = getattr(env, "default_actions", None)
    return given.get(agent) if isinstance(given, Mapping) else given
