"""A language model behind an OpenAI-compatible endpoint that returns token ids and log-probs: what was sampled, never tokenized again.

Text that is tokenized a second time may become other tokens, and log-probs of other tokens are no log-probs of the policy that acted.
So the endpoint is asked for ids (`return_token_ids`, vLLM 0.10.2 and later; `response_token_ids` of SGLang is read too), and an answer
without them is refused.

| request | fields |
|---|---|
| `POST URL/chat/completions` | `model messages max_tokens temperature top_p seed n logprobs return_token_ids` |
| answer | `prompt_token_ids choices[0].token_ids choices[0].logprobs.content[].logprob choices[0].message.content usage` |
| `POST URL/completions` | `model prompt` (ids) `max_tokens prompt_logprobs return_token_ids`: log-probs of ids that are known (`score`) |
| answer | `choices[0].prompt_logprobs[]`, one `{id: {logprob}}` a token, `choices[0].prompt_token_ids` |

Source: vLLM, OpenAI-compatible server (chat_completion and completion protocol); https://blog.vllm.ai/2025/10/22/agent-lightning.html.
"""

import ipaddress
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from marlstone.core.errors import UserError
from marlstone.core.ledger import MICRO
from marlstone.cost.accounts import Account, Call
from marlstone.cost.budgets import MONEY
from marlstone.cost.http_calls import Answer, CallRefused, address, post_json
from marlstone.cost.prices import TOKENS, PriceTable
from marlstone.cost.retries import Retrier, RetryPolicy
from marlstone.cost.retry_budget import RetryBudget, RetryTokens
from marlstone.cost.retry_counts import RetryCounter
from marlstone.cost.root_requests import current_frame
from marlstone.language.spans import NO_SPANS, NoSpans

LOOPBACK = "http://127.0.0.1:8000/v1"
TEMPLATE = 64
"""Tokens that a chat template may add to a message, in what is reserved of a budget before a call."""


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served, and how it is sampled.

    Attributes:
      model: its name there.
      url: of the API, with its version; this machine unless given.
      key_variable: name of the environment variable that holds the key; empty: none is sent. The key itself is kept nowhere.
      temperature, top_p, max_tokens, seed: of sampling. vLLM's log-probs are before temperature and truncation unless it is started with
        `--logprobs-mode processed_logprobs`; on-policy ratios need 1, 1 or that.
      retries: of one call.
      budget: of retries across all calls to this endpoint.
      most_bytes: of an answer.
      extra: further fields of the request, as a server of its own takes them.
    """

    model: str
    url: str = LOOPBACK
    key_variable: str = ""
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    seed: int | None = None
    retries: RetryPolicy = RetryPolicy(attempts=3, timeout=120.0, attempt_timeout=60.0)
    budget: RetryBudget = RetryBudget()
    most_bytes: int = 4 * 1024 * 1024
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("Endpoint.model is empty: give the name under which the server knows the model")
        for name, least, most in (("temperature", 0.0, 100.0), ("top_p", 1e-9, 1.0), ("max_tokens", 1, 10**6), ("most_bytes", 1, 2**31)):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and least <= value <= most):
                raise ValueError(f"Endpoint.{name} is {value!r}: give a number from {least:g} to {most:g}")
        scheme, host, *_ = address(self.url)
        if self.key_variable and scheme == "http" and not _loopback(host):
            raise ValueError(f"Endpoint.url is {self.url!r} and a key would travel unencrypted: use https, or no key_variable")
        if taken := sorted(set(self.extra) & set(_OWN)):
            raise ValueError(f"Endpoint.extra holds {taken}: these fields are set by Endpoint itself")


_OWN = ("model", "messages", "prompt", "temperature", "top_p", "max_tokens", "seed", "n", "logprobs", "return_token_ids", "stream")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class Completion:
    """What a model answered, as it was sampled.

    Attributes:
      prompt_ids: of the prompt, as the endpoint rendered and tokenized it.
      response_ids: as sampled; `logprobs`: one of each.
      text: the answer decoded, for parsers and people.
      finish_reason: `stop`, `length` ...
      response_id, model: as the endpoint calls them.
      input_tokens, output_tokens: that are paid for, as the endpoint counts them, else the ids.
      attempts, retries: of this call.
      latency_us: microseconds, waits included.
    """

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish_reason: str
    response_id: str
    model: str
    input_tokens: int
    output_tokens: int
    attempts: int = 1
    retries: int = 0
    latency_us: int = 0


class LanguageModel:
    """Calls of one endpoint, under one retry budget; thread-safe.

    Args:
      endpoint: where, and how it samples.
      account: budgets that each call is reserved of: `input_tokens`, `output_tokens`, `attempts`, and `money` where `prices` are given.
      prices: what these cost, at the day of each call; both kinds of tokens need a price.
      spans: where spans go; none by default.
      run: for whom an account counts.
    """

    def __init__(
        self, endpoint: Endpoint, account: Account | None = None, prices: PriceTable | None = None, spans: NoSpans = NO_SPANS, run: str = ""
    ) -> None:
        if prices is not None and account is None:
            raise ValueError("LanguageModel has prices and no account to charge: give an account too, or price the record afterwards")
        if account is not None and prices is None and (money := [b.name for b in account.budgets if b.of == MONEY]):
            raise ValueError(f"LanguageModel has no prices, and budget {money[0]!r} of its account is of money: give prices")
        self.endpoint, self.account, self.prices, self.spans, self.run = endpoint, account, prices, spans, run
        self.retrier = Retrier(endpoint.retries, RetryTokens(endpoint.budget))
        _ = self._headers()  # a key that is missing is told now

    def chat(
        self, messages: Sequence[Mapping[str, str]], agent: str = "", seed: int | None = None, counter: RetryCounter | None = None
    ) -> Completion:
        """Sample an answer. `seed`: of this call, in place of the endpoint's; `counter`: knows the attempts of a call that fails, too.

        Raises `CallRefused` for an answer without ids, or with another number of log-probs, `BudgetRefused` where an account refuses,
        else what the last attempt raised.
        """
        e = self.endpoint
        body: dict[str, Any] = {
            "model": e.model,
            "messages": list(messages),
            "temperature": e.temperature,
            "top_p": e.top_p,
            "max_tokens": e.max_tokens,
            "n": 1,
            "logprobs": True,
            "return_token_ids": True,
            **e.extra,
        }
        if (drawn := e.seed if seed is None else seed) is not None:
            body["seed"] = drawn
        counter, began = counter or RetryCounter(), time.perf_counter()
        size = sum(len(m["content"].encode()) + TEMPLATE for m in messages)
        with self._charge(agent, size) as charge, self.spans.chat(e, agent) as span:
            try:
                found = self._sampled(self._call("/chat/completions", body, counter).body)
            finally:
                counts = counter.counts()
                if charge is not None:  # until the answer says how many tokens: what was reserved, of as many attempts as there were
                    charge.actual = self._amounts(agent, size, e.max_tokens, counts.attempts)
            took = round((time.perf_counter() - began) * 1e6)
            found = replace(found, attempts=counts.attempts, retries=counts.retries, latency_us=took)
            if charge is not None:
                used = {"input_tokens": found.input_tokens, "output_tokens": found.output_tokens, "attempts": found.attempts}
                charge.actual = self._priced(agent, used)
            self.spans.answered(span, found)
        return found

    def score(self, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Log-probs of known ids, recomputed by the endpoint; and the ids that it says it has read."""
        ids = [*prompt_ids, *response_ids]
        e = self.endpoint
        body = {"model": e.model, "prompt": ids, "max_tokens": 1, "temperature": e.temperature, "top_p": e.top_p}
        body |= {"prompt_logprobs": 1, "return_token_ids": True, **e.extra}
        with self._charge("", 4 * len(ids)):
            choice = _first(self._call("/completions", body, RetryCounter()).body)
        told, read = choice.get("prompt_logprobs"), _ids(choice.get("prompt_token_ids"))
        if not isinstance(told, list) or read is None or len(told) != len(read):
            raise _lacks("/completions", "prompt_logprobs and prompt_token_ids of the ids it was sent", "vllm serve")
        wanted = list(zip(read, told))[len(prompt_ids) :]
        try:
            return read, tuple(float(by_id[str(i)]["logprob"]) for i, by_id in wanted)
        except (KeyError, TypeError, ValueError) as error:
            raise _lacks("/completions", "a log-prob of every id it was sent", "vllm serve") from error

    def _headers(self) -> dict[str, str]:
        if not self.endpoint.key_variable:
            return {}
        key = os.environ.get(self.endpoint.key_variable, "")
        if not key:
            raise UserError(f"Endpoint.key_variable is {self.endpoint.key_variable!r}, which is not set: export it, or name none")
        return {"Authorization": f"Bearer {key}"}

    def _call(self, path: str, body: Any, counter: RetryCounter) -> Answer:
        url, e = self.endpoint.url.rstrip("/") + path, self.endpoint
        ask = lambda attempt: post_json(url, body, attempt, self._headers(), most=e.most_bytes)
        return self.retrier.call(ask, counter=counter)

    def _amounts(self, agent: str, input_tokens: int, output_tokens: int, attempts: int) -> dict[str, int]:
        """Of so many attempts, were each of them paid for."""
        n = max(1, attempts)
        return self._priced(agent, {"input_tokens": n * input_tokens, "output_tokens": n * output_tokens, "attempts": n})

    def _priced(self, agent: str, amounts: dict[str, int]) -> dict[str, int]:
        """These and their money, in whole millionths, rounded up. Raises `UserError` for tokens without a price: they are not free."""
        if self.prices is None:
            return amounts
        cost, today = Fraction(0), datetime.now(UTC).date()
        for kind, amount in amounts.items():
            unit = self.prices.unit(kind, agent, "infer", today)
            if unit is None and kind in TOKENS:
                raise UserError(f"{self.prices.source or 'prices'}: no price of {kind} for agent {agent!r}: add one, or 0 if they are free")
            cost += amount * Fraction(repr(unit or 0.0))  # 3e-6 is three millionths, not its neighbor in binary
        return {**amounts, MONEY: math.ceil(cost * MICRO)}

    def _charge(self, agent: str, input_tokens: int) -> AbstractContextManager[Call | None]:
        """At most what a call may cost, reserved: a byte is a token at least, and every attempt may be paid for."""
        if self.account is None:
            return nullcontext()
        most = self._amounts(agent, input_tokens, self.endpoint.max_tokens, self.endpoint.retries.attempts)
        frame = current_frame()
        return self.account.charged(most, run=self.run, agent=agent, request="" if frame is None else frame.root.id)

    def _sampled(self, body: Any) -> Completion:
        choice = _first(body)
        prompt = _ids(body.get("prompt_token_ids") or choice.get("prompt_token_ids"))
        response = _ids(choice.get("token_ids") or choice.get("response_token_ids"))
        if prompt is None or response is None:
            raise _lacks(
                "/chat/completions", "prompt_token_ids and choices[].token_ids", "vLLM 0.10.2 or later, which take return_token_ids"
            )
        try:
            content = choice["logprobs"]["content"]
            logprobs = tuple(float(token["logprob"]) for token in content)
            text = choice["message"].get("content") or ""
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise _lacks("/chat/completions", "choices[].logprobs.content[].logprob and choices[].message.content", "vllm serve") from error
        if len(logprobs) != len(response):
            raise CallRefused(f"{self.endpoint.url} answered {len(response)} token ids with {len(logprobs)} log-probs", 200)
        usage = body.get("usage") or {}
        paid = lambda name, ids: usage[name] if isinstance(usage.get(name), int) and usage[name] >= 0 else len(ids)
        return Completion(
            prompt,
            response,
            logprobs,
            str(text),
            str(choice.get("finish_reason") or ""),
            str(body.get("id") or ""),
            str(body.get("model") or self.endpoint.model),
            paid("prompt_tokens", prompt),
            paid("completion_tokens", response),
        )


def _lacks(path: str, what: str, remedy: str) -> CallRefused:
    return CallRefused(f"the endpoint's answer to {path} lacks {what}: serve the model by {remedy}", 200)


def _first(body: Any) -> dict[str, Any]:
    """The first choice."""
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise CallRefused("the endpoint's answer has no choices: is this an OpenAI-compatible endpoint?", 200)
    return choices[0]


def _ids(value: Any) -> tuple[int, ...] | None:
    """Token ids, or None for anything else."""
    if not isinstance(value, list) or not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in value):
        return None
    return tuple(value)
