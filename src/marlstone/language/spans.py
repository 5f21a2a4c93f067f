"""Spans of what agents do by language models, named by the OpenTelemetry conventions for generative AI (`language.genai_names`).

`Spans()` needs `pip install marlstone[otel]`; without it nothing of OpenTelemetry is imported. What was said is in no span, only how much.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from marlstone.core.errors import UserError
from marlstone.cost.http_calls import address
from marlstone.language import genai_names as names

if TYPE_CHECKING:
    from marlstone.language.endpoint import Completion, Endpoint


class NoSpans:
    """Nothing is traced."""

    @contextmanager
    def chat(self, endpoint: "Endpoint", agent: str) -> Iterator[Any]:
        """A call of a model."""
        yield None

    @contextmanager
    def invoke_agent(self, agent: str, conversation: str) -> Iterator[Any]:
        """A decision of an agent."""
        yield None

    @contextmanager
    def execute_tool(self, tool: str, call: str = "") -> Iterator[Any]:
        """A call of a tool."""
        yield None

    def answered(self, span: Any, completion: "Completion") -> None:
        """What a model's answer cost."""

    def parsed(self, span: Any, status: str) -> None:
        """Whether an answer was understood."""


class Spans(NoSpans):
    """Spans of the OpenTelemetry API, to whatever exporter the program has set up.

    Args:
      provider: a `TracerProvider`; None: the program's.
      system: the conventions' name of who provides the model, such as `openai` or `vllm`.
    """

    def __init__(self, provider: Any = None, system: str = "vllm") -> None:
        try:
            from opentelemetry import trace
        except ModuleNotFoundError as error:
            raise UserError("spans need OpenTelemetry: pip install marlstone[otel]") from error
        self._trace, self._system = trace, system
        self._tracer = trace.get_tracer("marlstone.language", schema_url=names.SCHEMA_URL, tracer_provider=provider)

    @contextmanager
    def _span(self, operation: str, what: str, kind: Any, attributes: dict[str, Any]) -> Iterator[Any]:
        attributes = {names.OPERATION: operation, **attributes}
        with self._tracer.start_as_current_span(f"{operation} {what}".strip(), kind=kind, attributes=attributes) as span:
            try:
                yield span
            except BaseException as error:
                span.set_attribute(names.ERROR_TYPE, type(error).__qualname__)
                raise

    @contextmanager
    def chat(self, endpoint: "Endpoint", agent: str) -> Iterator[Any]:
        """A call of a model, with its retries."""
        _, host, port, _ = address(endpoint.url)
        attributes: dict[str, Any] = {
            names.PROVIDER: self._system,
            names.REQUEST_MODEL: endpoint.model,
            names.MAX_TOKENS: endpoint.max_tokens,
            names.TEMPERATURE: endpoint.temperature,
            names.TOP_P: endpoint.top_p,
            names.SERVER_ADDRESS: host,
            names.SERVER_PORT: port,
        }
        attributes |= {} if endpoint.seed is None else {names.SEED: endpoint.seed}
        attributes |= {names.AGENT_NAME: agent} if agent else {}
        with self._span(names.CHAT, endpoint.model, self._trace.SpanKind.CLIENT, attributes) as span:
            yield span

    @contextmanager
    def invoke_agent(self, agent: str, conversation: str) -> Iterator[Any]:
        """A decision of an agent: its call of a model and the parsing of the answer."""
        attributes = {names.PROVIDER: self._system, names.AGENT_NAME: agent, names.CONVERSATION: conversation}
        with self._span(names.INVOKE_AGENT, agent, self._trace.SpanKind.INTERNAL, attributes) as span:
            yield span

    @contextmanager
    def execute_tool(self, tool: str, call: str = "") -> Iterator[Any]:
        """A call of a tool, to be put around it by whoever calls it."""
        attributes = {names.TOOL_NAME: tool, names.TOOL_TYPE: "function"} | ({names.TOOL_CALL_ID: call} if call else {})
        with self._span(names.EXECUTE_TOOL, tool, self._trace.SpanKind.INTERNAL, attributes) as span:
            yield span

    def answered(self, span: Any, completion: "Completion") -> None:
        """What a model's answer cost, and why it ended."""
        span.set_attributes(
            {
                names.RESPONSE_MODEL: completion.model,
                names.RESPONSE_ID: completion.response_id,
                names.FINISH_REASONS: [completion.finish_reason],
                names.INPUT_TOKENS: completion.input_tokens,
                names.OUTPUT_TOKENS: completion.output_tokens,
                names.RETRIES: completion.retries,
            }
        )

    def parsed(self, span: Any, status: str) -> None:
        """Whether an answer was understood."""
        span.set_attribute(names.PARSE, status)


NO_SPANS = NoSpans()
