"""Messages between agents: what they say, to whom, over which links, under which budget.

contract.py      what a channel is, with every choice a neutral default
none.py          nobody speaks
broadcast.py     to all, or to all within reach; who hears takes the mean
targeted.py      to whom the sender chooses; who hears attends
link.py          what becomes of a message on its way: loss, delay, duplication
exchange.py      one step of the channel, pure, in NumPy and JAX
layout.py        the spec, steps and actions of an environment whose agents talk
talking.py       an environment with a channel over it, in JAX and in Python
learning.py      what learning needs: the inbox with gradients, what speaking is expected to cost, the multiplier
"""

from marlstone.comms.broadcast import Broadcast
from marlstone.comms.contract import INBOX, LINKS, SAID, Channel
from marlstone.comms.link import Link
from marlstone.comms.none import NoMessages
from marlstone.comms.targeted import Targeted

__all__ = ["INBOX", "LINKS", "SAID", "Broadcast", "Channel", "Link", "NoMessages", "Targeted"]
