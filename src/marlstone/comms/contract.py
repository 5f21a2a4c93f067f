"""What a channel is. Whatever an agent says at step t is heard at t + 1 at the earliest.

    speaks_ij    gate: the sender's choice, for all recipients or for each; an action with a log-probability
    m_j          content (`core.distributions.Content`): numbers or a symbol, differentiable
    heard_ij     the age of the latest message that reached i from j; 0: none (`exchange`, `Link`)
    inbox_i      hear(own_i, {m_j(t - age_ij)}, age_ij): what i's network sees at step t

Actors take the inbox as data, as it was recorded. In learning it is computed anew from what senders would now have said, by the recorded
ages, so that receivers' losses reach senders (`learning`); a lossy link never changes a log-probability.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from marlstone.comms.link import Link
from marlstone.core.arrays import Array
from marlstone.core.distributions import FORMS, Content, Form

INBOX = "inbox"  # the observation leaf in which an agent sees what it heard
LINKS = "links"  # the leaf that records, per agent, the ages of what it heard, to whom it sent, and in how many bits: `[3 n]`
SAID = "said"  # the leaf in which an agent that speaks in symbols sees its own last one; its mean is what codes are made for


@dataclass(frozen=True)
class Channel:
    """The contract, and the fields that channels share. Subclass as a frozen dataclass, in one file, and name it `kind = "file.py:Class"`.

    Fields:
      message: `float` (32 bits a number), `dithered` (quantized to `step`), or `symbols`.
      size: numbers of a message, or how many symbols there are.
      step: of quantization.
      gate: whether agents choose when to speak; without, everybody always speaks.
      open: the logit of speaking with which gates begin.
      reach: the observation leaf `[n]` that says who is within reach of an agent; "": everybody.
      hold: for how many further steps a message stays in the inbox while nothing newer comes.
      link: what becomes of messages on their way.
      budget_bits: bits per joint step that an episode may take on average; several: one is drawn for each episode and shown to the agents,
        so that one policy serves them all; none: unlimited.
      per_agent: whether each agent has that budget for itself.
      enforce: whether the channel refuses what is over the budget, wherever the policy is judged or deployed; training never does, so
        that the policy learns to keep it by itself.
      price: what a bit costs in training, in units of the standardized advantage, fixed (DDCL's lambda); 0: what the budget takes.
      opening: the share of training in which speaking costs nothing.
      cut: links that do not exist, each `"sender>recipient"` by agents' names, `*` for everybody: nothing is sent on them, in training,
        judged and deployed, and an agent all of whose links are cut keeps its gate shut.

    Raises:
      ValueError: a field out of range, one that nothing reads beside the others, a price beside a budget, or a link that is no pair.
    """

    kind: ClassVar[str]
    message: Form = "float"
    size: int = 8
    step: float = 0.5
    gate: bool = True
    open: float = 2.0
    reach: str = ""
    hold: int = 0
    link: Link = field(default_factory=Link)
    budget_bits: tuple[float, ...] = ()
    per_agent: bool = False
    enforce: bool = True
    price: float = 0.0
    opening: float = 0.3
    cut: tuple[str, ...] = ()

    private: ClassVar[int] = 0  # numbers that an agent keeps to itself, to listen by
    random: ClassVar[bool] = False  # whether `admits` draws

    def __post_init__(self) -> None:
        name = "comms"
        if self.message not in FORMS:
            raise ValueError(f"{name}.message is {self.message!r}: choose one of {', '.join(FORMS)}")
        _ = self.content
        if not 0 <= self.hold <= 64:
            raise ValueError(f"{name}.hold is {self.hold}: give 0 to 64 steps")
        if any(not 0 < b < float("inf") for b in self.budget_bits):
            raise ValueError(f"{name}.budget_bits is {self.budget_bits}: give bits above 0, or none at all")
        if not 0 <= self.price < float("inf") or not 0 <= self.opening < 1:
            raise ValueError(f"{name}.price, opening are {self.price}, {self.opening}: give 0 or more, and a share below 1")
        if self.price and self.budget_bits:
            raise ValueError(f"{name}.price and {name}.budget_bits are both given: a budget finds its own price; leave one out")
        if bad := next((x for x in self.cut if x.count(">") != 1 or not all(map(str.strip, x.split(">")))), None):
            raise ValueError(f"{name}.cut has {bad!r}: write a link as 'sender>recipient', such as 'scout>worker' or 'scout>*'")
        unread = {
            "step": (self.message != "dithered", "only dithered messages are quantized: add comms.message = 'dithered'"),
            "open": (not self.gate, "without a gate everybody always speaks: leave comms.gate out"),
            "per_agent": (not self.budget_bits, "there is no budget: add comms.budget_bits"),
            "opening": (not self.priced, "speaking never costs anything: add comms.budget_bits, or comms.price"),
        }
        for field_, (nobody_reads, why) in unread.items():
            if nobody_reads and (given := getattr(self, field_)) != type(self).__dataclass_fields__[field_].default:
                raise ValueError(f"{name}.{field_} is {given}, and {why}, or leave it out")

    # ---- what agents say
    @property
    def speaks(self) -> bool:
        """Whether there is a channel at all."""
        return True

    @property
    def content(self) -> Content:
        """What a message holds."""
        return Content(self.numbers, self.message, self.step)

    @property
    def numbers(self) -> int:
        """Numbers of a message, or symbols."""
        return self.size

    def choices(self, n: int) -> int:
        """Gates of each agent: 1 for all recipients, or one for each of the `n` agents."""
        return 1

    def refuses(self, n: int) -> str | None:
        """Why this channel cannot serve a team of `n` agents, or None."""
        return "one agent has nobody to talk to: use comms = 'none'" if n < 2 else None

    # ---- who is sent what
    def admits(self, to: Array, u: Array | None) -> Array:
        """Who is sent something: `to [n n]` (recipient, sender), as agents chose, less what this channel keeps back. Neutral: nothing.

        Args: `u [n n]`, uniform numbers, given where the channel says `random = True`; else maybe None.
        """
        return to

    # ---- what agents hear
    def heard(self, n: int) -> int:
        """Numbers of an inbox."""
        return self.numbers + 2

    def hear(self, own: Array, said: tuple[Array, ...], age: Array) -> Array:
        """What arrived, as networks see it, `[... n heard]`; pure, differentiable, and the same whatever was not delivered.

        Args: `own [... n private]`, what listeners put out one step before; `said[a] [... n w]`, what was sent a + 1 steps before;
        `age [... n n]` (recipient, sender): 1 + a of what reached it, 0 for nothing.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what is heard: write `hear`")

    # ---- budgets
    @property
    def levels(self) -> np.ndarray:
        """The budgets, in bits per joint step, `[levels]`; infinite where there is none."""
        return np.array(self.budget_bits or (np.inf,), np.float32)

    @property
    def priced(self) -> bool:
        """Whether speaking ever costs anything in training."""
        return bool(self.budget_bits or self.price)

    @property
    def shown(self) -> bool:
        """Whether agents are shown their episode's budget."""
        return len(self.budget_bits) > 1

    @property
    def history(self) -> int:
        """For how many steps what was said is kept."""
        return self.link.slots + self.hold

    @property
    def drawing(self) -> bool:
        """Whether a step takes random numbers."""
        return self.random or not self.link.ideal

    @property
    def training(self) -> "Channel":
        """The channel as training has it: it refuses nothing, so that the policy itself learns to keep its budget."""
        return replace(self, enforce=False) if self.enforce and self.budget_bits else self

    def over(self, env: Any) -> Any:
        """`env`, an `Env` or a `HostEnv`, whose agents talk. Raises `UserError` where they cannot."""
        from marlstone.comms.talking import talking

        return talking(self, env)


def weights(age: Array, steps: int) -> list[Array]:
    """Which senders each agent hears by messages of each age 1..`steps`, as 0 and 1, `[... n n]` each."""
    return [(age == a + 1).astype(np.float32) for a in range(steps)]


def presence(age: Array) -> Array:
    """The share of the others that were heard, and how old that was on average (1 for one step), `[... n 2]`."""
    xp = age.__array_namespace__()
    heard = (age > 0).astype(np.float32)
    count = xp.sum(heard, axis=-1)
    old = xp.sum(heard / xp.maximum(age, 1), axis=-1) / xp.maximum(count, 1)
    return xp.stack([count / max(age.shape[-1] - 1, 1), old], axis=-1)
