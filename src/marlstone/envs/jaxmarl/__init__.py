"""`jaxmarl:` environments (Rutherford et al. 2024): MPE, SMAX, Overcooked, Hanabi, MABrax, STORM, the coin game, the switch riddle, JaxNav.

What JaxMARL leaves to the reader, settled here:
- **Ends.** JaxMARL reports `done` for a time limit and for a real end alike. A `Game` tells them apart: a battle lost or a soup kitchen
  blown up is a termination, time that runs out a truncation (discount 1). `time_limit=terminate` makes every end a termination, which is
  what JaxMARL's own training scripts do (they do not bootstrap at the limit): use it to reproduce them exactly. MPE counts so that an
  episode of `max_steps=25` has 26 steps; so do ours, and the peers' returns are over 26.
- **Return.** `team_reward` is the sum of what the team's agents get. Where JaxMARL gives every agent the team's one reward (SMAX,
  Overcooked, Hanabi, MABrax, the switch riddle), each has an equal share of it, and the team's is that one reward: our figures are on
  the scale of its scripts' logs. In simple_spread agents have rewards of their own, and the sum is three times what one agent's log
  shows; JaxMARL's `MPELogWrapper` multiplies by the number of agents, so its scripts' figures are on our scale there too. In a
  competing game the team is the side named by `team` (types joined by `+`, as in `team=leadadversary+adversary`), by default the hunters
  or, where adversaries only disturb, the others; every agent still has its own reward.
- **Legal actions** are those of `get_avail_actions(state)`, or of Hanabi's `get_legal_moves(state)`. An agent without one plays its
  default.
- **Turns and deaths.** Who is dead is absent; who has no say (out of turn, not in the room) is not `deciding`.
- **Groups.** Agents with the same kind of action and observation form one group; sizes are padded and masked.
"""

from marlstone.envs.jaxmarl.adapter import JaxMarl
from marlstone.envs.jaxmarl.build import make

__all__ = ["JaxMarl", "make"]
