"""Who sees what, who shares parameters, who decides when.

Nothing here imports JAX before it makes parameters or trains, so that actors without JAX can read it.
"""

from marlstone.architectures.body import Gru, Mlp
from marlstone.architectures.contract import Architecture
from marlstone.architectures.ctde import Ctde
from marlstone.architectures.decentralized import Decentralized
from marlstone.architectures.hierarchical import Hierarchical

__all__ = ["Architecture", "Ctde", "Decentralized", "Hierarchical", "Gru", "Mlp"]
