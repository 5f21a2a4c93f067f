"""From one leaf of an observation to features, and from all leaves to the first layer of a network.

An encoder of your own needs `Encoder` and what it is given: `Leaf`. Nothing here imports JAX before it makes parameters.
"""

from marlstone.core.types import Leaf
from marlstone.encoders.contract import Encoder
from marlstone.encoders.image import Image, convolved, in_blocks
from marlstone.encoders.vector import Vector

__all__ = ["Encoder", "Image", "Vector", "Leaf", "convolved", "in_blocks"]
