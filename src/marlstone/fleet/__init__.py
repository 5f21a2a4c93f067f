"""The fleet: actors and learner without a barrier.

actor.py            latest -> unroll -> put, each with its own environments, never waiting for another
learner.py          get -> update -> publish: the backend that `training.loop` trains by
broker.py           where trajectories wait and are counted, and weights are fetched; observable_lock.py, its lock, whose holder can be seen
transport.py        both ends of the way there: in this process, over sockets
payload.py, frames.py, handshake.py   what travels, how it is written, who may connect over TCP
status_page.py, inspection.py         what each process is doing, and a fleet seen from outside
launcher.py, on_ray.py                where processes run: on this machine, or on the nodes of a Ray cluster (ray_cluster.py)
lifecycle.py        the main program of an actor and of the learner
supervisor.py       starts, watches, kills and restarts all of them (member.py); deadlines.py, how long each may be silent
events.py, fleet_status.py            what happened, and what is known of a fleet: status, figures, why nothing moves
simulate.py, scenario.py, forecast.py the same loop as a discrete-event model
"""
