"""Names of the OpenTelemetry semantic conventions for generative AI, pinned: they are in development and change between versions.

Source: semantic conventions 1.41.0, pages "GenAI client spans" and "GenAI agent and framework spans".
"""

SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"

CHAT, INVOKE_AGENT, EXECUTE_TOOL = "chat", "invoke_agent", "execute_tool"
"""Operations; a span is called by its operation and the model, the agent or the tool."""

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
AGENT_NAME = "gen_ai.agent.name"
CONVERSATION = "gen_ai.conversation.id"
REQUEST_MODEL, RESPONSE_MODEL, RESPONSE_ID = "gen_ai.request.model", "gen_ai.response.model", "gen_ai.response.id"
MAX_TOKENS, TEMPERATURE, TOP_P, SEED = (f"gen_ai.request.{name}" for name in ("max_tokens", "temperature", "top_p", "seed"))
FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS, OUTPUT_TOKENS = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
TOOL_NAME, TOOL_CALL_ID, TOOL_TYPE = "gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.tool.type"
SERVER_ADDRESS, SERVER_PORT, ERROR_TYPE = "server.address", "server.port", "error.type"

RETRIES, PARSE = "marlstone.retries", "marlstone.parse"
"""Our own, beside them."""
