"""Marlstone: multi-agent reinforcement learning for teams who put it into production.

    import marlstone as ms

    run = ms.train("proving:climbing", credit="counterfactual", steps=50_000, seeds=5)
    run.result.return_iqm, run.policy().act(observations)

Everything is imported when it is first asked for: `import marlstone` is fast and brings no JAX.
"""

from typing import Any

__version__ = "0.1.0"
_PUBLIC = {
    "api.questions": ("audit_credit", "compare", "evaluate", "make_env", "payoff", "select", "tune"),
    "api.results": ("Comparison", "CreditAudit", "Payoff", "Returns", "Selection", "Training", "Tuning"),
    "api.runs": ("Run", "load", "make_train", "train"),
    "architectures": ("Ctde", "Decentralized", "Gru", "Hierarchical", "Mlp"),
    "core.errors": ("UserError",),
    "comms": ("Broadcast", "Channel", "Link", "NoMessages", "Targeted"),
    "credit": (
        "Attention",
        "Counterfactual",
        "Decoupled",
        "Difference",
        "Individual",
        "Measured",
        "Qmix",
        "Qplex",
        "Shaping",
        "Team",
        "Vdn",
    ),
    "encoders": ("Image", "Vector"),
    "learners": ("Adam", "PolicyGradient", "Pqn", "QLearning", "RAdam", "RmsProp", "Sgd"),
    "policy.policy": ("Policy",),
    "tools": ("DelayLine", "ExternalMemory", "FunctionTool", "HttpTool", "McpTool"),
}
"""What is public, by the module that defines it."""
_WHERE = {name: f"marlstone.{module}" for module, names in _PUBLIC.items() for name in names}
__all__ = ["__version__", *sorted(_WHERE)]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'marlstone' has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
