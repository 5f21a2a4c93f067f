"""How a policy's distribution becomes an action: by its mode, sampled, or sampled at a temperature.

    Discrete:  argmax_a (logit_a + T g_a),  g standard Gumbel:  a sample of softmax(logits / T)
    Box:       mean + T std z,              z standard normal

T = 0 is the mode and T = 1 a sample, so one compiled program plays a policy in every way. A team that acts by mode can get stuck where
the same policies, sampled, do not: acting is part of what is deployed, and is chosen by measurement.
"""

import re
from dataclasses import dataclass
from typing import Literal

Act = str  # "mode", "sample" or "temperature=T"
HIGHEST = 100.0
_TEMPERATURE = re.compile(r"temperature=(.+)", re.DOTALL)


def temperature(act: Act) -> float:
    """What sampling noise is multiplied by: 0 for the mode, 1 for a sample. Raises ValueError where `act` is no way of acting."""
    acting = Acting.parse(act)
    if acting.kind == "temperature":
        assert acting.temperature is not None
        return acting.temperature
    if acting.kind == "auto":
        raise ValueError("acting is 'auto', which is chosen by measurement: resolve it to mode, sample or temperature=T first")
    return 0.0 if acting.kind == "mode" else 1.0


@dataclass(frozen=True)
class Acting:
    """How policies act when they are judged and deployed. Value-based learners act greedily, so for them `auto` is `mode`.

    Attributes:
      kind: `auto` is the better of `mode` and `sample`, chosen on episodes that are not reported; `temperature` samples at a temperature.
      temperature: logits are divided by it, the standard deviation of a Box multiplied; only with `kind = "temperature"`.
      episodes: of each seed and way, that `auto` chooses by; None: as many as are reported, half as many where the environment is
        stepped by Python.

    Raises:
      ValueError: a temperature without its kind or outside (0, 100], or fewer than one episode.
    """

    kind: Literal["auto", "mode", "sample", "temperature"] = "auto"
    temperature: float | None = None
    episodes: int | None = None

    def __post_init__(self) -> None:
        if (self.kind == "temperature") != (self.temperature is not None):
            remedy = "give both, e.g. --acting temperature=0.5" if self.kind == "temperature" else 'it needs kind = "temperature"'
            raise ValueError(f"acting.temperature is {self.temperature} with acting.kind = {self.kind!r}: {remedy}")
        if self.temperature is not None and not 0 < self.temperature <= HIGHEST:
            raise ValueError(f"acting.temperature is {self.temperature}: give a number above 0, up to {HIGHEST:g}; 0 is --acting mode")
        if self.episodes is not None and self.episodes < 1:
            raise ValueError(f"acting.episodes is {self.episodes}: give at least 1")

    @classmethod
    def parse(cls, text: str) -> "Acting":
        """`auto`, `mode`, `sample` or `temperature=0.5`. Raises ValueError."""
        if text in ("auto", "mode", "sample"):
            return cls(text)  # type: ignore[arg-type]
        if (found := _TEMPERATURE.fullmatch(text)) is not None:
            try:
                return cls("temperature", float(found[1]))
            except ValueError as error:
                raise ValueError(f"acting is {text!r}: give a number above 0, e.g. temperature=0.5 ({error})") from error
        raise ValueError(f"acting is {text!r}: choose auto, mode, sample or temperature=T")

    @property
    def act(self) -> Act | None:
        """The way of acting this fixes, or None where it is to be chosen."""
        if self.kind == "auto":
            return None
        return self.kind if self.temperature is None else f"temperature={self.temperature:g}"
