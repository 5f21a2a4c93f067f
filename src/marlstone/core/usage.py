"""What a joint action used beside the environment's own step: counted per agent, in a leaf that every step records and no network sees."""

LEAF = "usage"
"""The observation leaf of kind `record`, `[n_g k]`, k as `USAGE`: of the joint action before this step."""
USAGE = ("tool_calls", "attempts", "retries", "memory_reads", "memory_writes", "price")
"""Calls of tools; tries of those calls, the first one too; further ones; look-ups and writes of memory; and what all that cost, in the
currency of the declared prices, when it was asked for."""
