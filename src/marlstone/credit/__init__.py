"""How a team outcome becomes each agent's learning signal. A method of your own needs `Credit`, and what it is given: `Spec`, `Views`,
`Trajectory`."""

from marlstone.core.types import Spec, Trajectory, Views
from marlstone.credit.attention import Attention
from marlstone.credit.contract import Asked, Credit
from marlstone.credit.counterfactual import Counterfactual, Difference
from marlstone.credit.decomposition import Qmix, Qplex, Vdn
from marlstone.credit.decoupled import Decoupled
from marlstone.credit.individual import Individual
from marlstone.credit.measured import Measured
from marlstone.credit.shaping import Shaping
from marlstone.credit.team import Team

Chunk = Trajectory  # its name until 0.1: methods in users' files import it

__all__ = [
    "Asked", "Attention", "Chunk", "Counterfactual", "Credit", "Decoupled", "Difference", "Individual", "Measured", "Qmix", "Qplex",
    "Shaping", "Team", "Vdn", "Trajectory", "Spec", "Views",
]  # fmt: skip
