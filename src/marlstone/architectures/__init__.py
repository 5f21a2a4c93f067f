"""Who sees what, who shares parameters."""

from marlstone.architectures.body import Gru, Mlp
from marlstone.architectures.contract import Architecture
from marlstone.architectures.ctde import Ctde
from marlstone.architectures.decentralized import Decentralized

__all__ = ["Architecture", "Ctde", "Decentralized", "Gru", "Mlp"]
