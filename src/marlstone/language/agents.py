"""An agent whose policy is a language model: observation to messages, answer to action, and a declared action where there is no answer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium.spaces as gs

from marlstone.core.errors import UserError
from marlstone.cost.deadlines import DeadlinePassed
from marlstone.cost.retries import AttemptsUsedUp, CallFailed
from marlstone.language.endpoint import Completion, LanguageModel
from marlstone.language.parsers import FAILED, OK, AnswerParser, Choice, in_space
from marlstone.runs.json_line import plain

HOLE = "{observation}"


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
      continues: whether the prompt's ids begin with those of the turn before.
      memory: of the turns that later prompts repeat.
    """

    action: Any
    parse: str
    completion: Completion | None
    continues: bool
    memory: tuple[Turn, ...]


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
    ) -> Answered:
        """Ask, and understand the answer. A call that fails for good, or is refused by a budget, is answered by the default action.

        Raises what no other attempt and no other answer could help: `CallRefused` of a wrong model name, key or server.
        """
        messages, spans = self.messages(observation, memory), self.model.spans
        with spans.invoke_agent(name, conversation) as span:
            try:
                completion = self.model.chat(messages, name, seed)
            except _NO_ANSWER:
                spans.parsed(span, FAILED)
                return Answered(default, FAILED, None, False, memory)
            found = self.parser.parse(completion.text, space)
            spans.parsed(span, found.status)
        before = memory[-1].ids if memory else None
        continues = before is not None and completion.prompt_ids[: len(before)] == before
        turn = Turn(messages[-1]["content"], completion.text, completion.prompt_ids + completion.response_ids)
        action = found.action if found.status == OK else default
        return Answered(action, found.status, completion, continues, (*memory, turn)[-self.turns :] if self.turns else ())


_NO_ANSWER = (CallFailed, ConnectionError, TimeoutError, DeadlinePassed, AttemptsUsedUp)


def declared_default(env: Any, agent: str) -> Any:
    """What `env.default_actions` declares for an agent, raw; None where it declares nothing."""
    given = getattr(env, "default_actions", None)
    return given.get(agent) if isinstance(given, Mapping) else given
