"""How a team outcome becomes each agent's learning signal."""

from marlstone.credit.contract import Asked, Credit
from marlstone.credit.individual import Individual
from marlstone.credit.team import Team

__all__ = ["Asked", "Credit", "Individual", "Team"]
