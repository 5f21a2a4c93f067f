"""Who sees what, who shares parameters, who decides when.

An architecture of your own derives from `Architecture`, or from one of these; a body answers `Body`. Nothing here imports JAX before it
makes parameters or trains, so that actors without JAX can read it.
"""

from marlstone.architectures.body import Body, Gru, Mlp
from marlstone.architectures.contract import Architecture
from marlstone.architectures.ctde import Ctde
from marlstone.architectures.decentralized import Decentralized
from marlstone.architectures.hierarchical import Hierarchical

__all__ = ["Architecture", "Ctde", "Decentralized", "Hierarchical", "Body", "Gru", "Mlp"]
