"""Action spaces and the probability distributions over them. A `head` is a policy network's output; sampling noise is an input.

    Discrete        one of several options: a categorical policy
    MultiDiscrete   several such choices at once, independent
    Box             bounded numbers: a Gaussian squashed by tanh
    Composite       choices and numbers in one action, part by part
    Gate, Content   of a Composite whose agents talk: whether to speak, and what is said

Because noise comes from outside, actors on different back ends (JAX, NumPy, ONNX) can be compared action by action, and
a rollout draws all its noise at once. Every method takes any leading axes and works on `jax.numpy` and `numpy` arrays.
Noise is drawn from a JAX key or from a NumPy generator; only a key imports JAX, so that worker processes need none.
"""

from marlstone.core.action_space import ActionSpace, Enumerable, Sampled, enumerable
from marlstone.core.distributions.box import Box
from marlstone.core.distributions.categorical import ILLEGAL_LOGIT
from marlstone.core.distributions.composite import Composite
from marlstone.core.distributions.discrete import Discrete
from marlstone.core.distributions.exploration import Exploring, exploration_head
from marlstone.core.distributions.groups import concat_agents, draw_group_noise
from marlstone.core.distributions.multi_discrete import MultiDiscrete
from marlstone.core.distributions.speech import FORMS, Content, Form, Gate

__all__ = [
    "ActionSpace", "Enumerable", "Sampled", "enumerable", "Discrete", "MultiDiscrete", "Box", "Composite", "Exploring", "ILLEGAL_LOGIT",
    "exploration_head", "draw_group_noise", "concat_agents", "Gate", "Content", "Form", "FORMS",
]  # fmt: skip
