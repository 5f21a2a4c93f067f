"""The fleet: actors and learner without a barrier.

actor.py      latest -> unroll -> put, each with its own environments, never waiting for another
fast.py       a policy in NumPy, for actors without JAX
learner.py    get -> update -> publish: the runtime that `runtime.train` trains by
broker.py     where chunks wait and are counted, and weights are fetched; lock.py, its lock, whose holder can be seen
transport.py  both ends of the way there: in this process, over sockets, faulty on purpose
parcel.py, frames.py, page.py   what travels, how it is written, what each process is doing; handshake.py, who may connect over TCP
place.py, on_ray.py             where processes run: on this machine, or on the nodes of a Ray cluster
supervise.py  starts, watches, kills and restarts all of them; deadlines.py, how long each may be silent
simulate.py, scenario.py        the same loop as a discrete-event model
"""
