"""Are recorded log-probs those of the policy that acted? The endpoint is asked for the log-probs of the recorded ids once more.

    check_on_policy(model, played.decisions).require()

Where ids were kept as sampled and the weights are the same, every ratio exp(recomputed - recorded) is 1: exactly, for an endpoint that
computes a token's log-prob the same way whether it samples or reads it. Text that was tokenized again gives other ids, so another number of
them or other log-probs. Real servers round differently in batches; allow them a `tolerance` (0.05 for bfloat16 is usual).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from marlstone.language.decisions import Decision
from marlstone.language.endpoint import LanguageModel


class OffPolicy(RuntimeError):
    """Recorded log-probs are not those of the policy that acted; the message names the first decision and what is wrong with it."""


@dataclass(frozen=True)
class OnPolicy:
    """What a check found.

    Attributes:
      decisions, tokens: that were looked at.
      largest: |log ratio| of a token, at most.
      problems: a sentence each, by decision.
    """

    decisions: int
    tokens: int
    largest: float
    problems: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether every ratio is exactly 1."""
        return not self.problems and self.largest == 0.0

    def require(self) -> "OnPolicy":
        """Itself. Raises `OffPolicy` where there is a problem, or nothing was looked at."""
        if not self.decisions:
            raise OffPolicy("no decision of a language model to check")
        if self.problems:
            more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            raise OffPolicy(f"{self.problems[0]}{more}")
        return self


def check_on_policy(model: LanguageModel, decisions: Sequence[Decision], tolerance: float = 0.0, most: int | None = None) -> OnPolicy:
    """Recompute log-probs of recorded ids at the endpoint: of all decisions of its model, or of the first `most`.

    Args: `tolerance`: of a token's |log ratio|. Raises what a call of the endpoint raises.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"check_on_policy(tolerance={tolerance}): give a finite number of at least 0")
    looked, tokens, largest, problems = 0, 0, 0.0, list[str]()
    for d in [d for d in decisions if d.sampled][:most]:
        looked += 1
        where = f"episode {d.episode}, step {d.step}, agent {d.agent!r}"
        if len(d.logprobs) != len(d.response_ids):
            problems.append(
                f"{where}: {len(d.response_ids)} response ids and {len(d.logprobs)} log-probs: these ids are not those that were sampled "
                "(text tokenized again?)"
            )
            continue
        read, again = model.score(d.prompt_ids, d.response_ids)
        if read != d.prompt_ids + d.response_ids:
            problems.append(f"{where}: the endpoint read other ids than it was sent")
            continue
        tokens += len(again)
        off = [abs(a - b) for a, b in zip(again, d.logprobs)]
        largest = max([largest, *off])
        k = next((k for k, x in enumerate(off) if not x <= tolerance), None)
        if k is not None:
            ratio = math.exp(min(700.0, again[k] - d.logprobs[k]))
            problems.append(
                f"{where}: at token {k}, id {d.response_ids[k]}, the ratio is {ratio:.6g} and not 1: the log-prob recorded is "
                f"{d.logprobs[k]:.6g}, at the endpoint {again[k]:.6g} (other weights, another temperature, or text tokenized again?)"
            )
    return OnPolicy(looked, tokens, largest, tuple(problems))
