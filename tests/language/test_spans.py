"""Spans by the conventions for generative AI: named, nested and closed, with what was used and nothing of what was said."""

import json
import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as conventions

from examples.language_agents import Crossing
from examples.stub_language_model import Stub
from marlstone.cost.http_calls import CallRefused
from marlstone.cost.retries import RetryPolicy
from marlstone.language import genai_names as names
from marlstone.language.agents import LanguageAgent
from marlstone.language.endpoint import Endpoint, LanguageModel
from marlstone.language.parsers import Choice
from marlstone.language.playing import play
from marlstone.language.spans import Spans

QUICK = RetryPolicy(attempts=3, timeout=20.0, wait_initial=0.0, wait_jitter=0.0)


def traced() -> tuple[Spans, InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Spans(provider), exporter


def test_a_decision_is_an_agent_invoked_around_a_chat() -> None:
    spans, exporter = traced()
    with Stub(failing=1) as stub:
        asked = LanguageModel(Endpoint("tiny", stub.url, max_tokens=8, seed=3, retries=QUICK), spans=spans)
        agent = LanguageAgent(asked, Choice(("wait", "go")), system="be careful at the crossing")
        played = play(Crossing(), {"north": agent, "east": lambda *_: 0, "bell": lambda *_: 0})
    found = {name: [s for s in exporter.get_finished_spans() if s.name == name] for name in ("chat tiny", "invoke_agent north")}
    assert [len(v) for v in found.values()] == [6, 6]
    outer = {s.context.span_id for s in found["invoke_agent north"] if s.context}
    assert {s.parent.span_id for s in found["chat tiny"] if s.parent} == outer
    seen = [dict(s.attributes or {}) for s in found["chat tiny"]]
    told = [(a[names.INPUT_TOKENS], a[names.OUTPUT_TOKENS], a[names.RETRIES]) for a in seen]
    assert told == [(d.input_tokens, d.output_tokens, d.retries) for d in played.decisions if d.sampled] and told[0][2] == 1
    assert seen[0][names.OPERATION] == "chat" and seen[0][names.AGENT_NAME] == "north" and seen[0][names.SERVER_ADDRESS] == "127.0.0.1"
    assert [dict(s.attributes or {})[names.PARSE] for s in found["invoke_agent north"]] == ["ok"] * 6
    assert "crossing" not in json.dumps([_plain(s) for s in exporter.get_finished_spans()])


def _plain(span: ReadableSpan) -> list[object]:
    return [span.name, dict(span.attributes or {}), [dict(e.attributes or {}) for e in span.events]]


def test_a_failure_is_named_and_a_tool_has_its_span() -> None:
    spans, exporter = traced()
    with Stub(key="other") as stub, pytest.raises(CallRefused):
        LanguageModel(Endpoint("tiny", stub.url, retries=QUICK), spans=spans).chat([{"role": "user", "content": "go"}])
    with spans.execute_tool("look_up", "call-1"):
        pass
    chat, tool = exporter.get_finished_spans()
    assert (chat.attributes or {})[names.ERROR_TYPE] == "CallRefused" and not chat.status.is_ok
    assert tool.name == "execute_tool look_up" and (tool.attributes or {})[names.TOOL_CALL_ID] == "call-1"


def test_pinned_names_are_those_of_the_conventions() -> None:
    known = {v for k, v in vars(conventions).items() if k.startswith("GEN_AI_")}
    ours = {v for k, v in vars(names).items() if k.isupper() and isinstance(v, str) and v.startswith("gen_ai.")}
    assert len(ours) > 10 and ours <= known
    operations = {x.value for x in conventions.GenAiOperationNameValues}
    assert {names.CHAT, names.INVOKE_AGENT, names.EXECUTE_TOOL} <= operations


def test_without_spans_nothing_of_opentelemetry_and_of_jax_is_imported() -> None:
    program = "import sys, marlstone.language.playing, marlstone.language.on_policy, marlstone.language.export; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "marlstone.language.spans" in modules and not {"jax", "opentelemetry.sdk", "opentelemetry.trace"} & set(modules)
