"""Environments that Python steps, written for other libraries: one adapter a file, each giving a `HostEnv`.

`recognize` says which object is of which library; `pettingzoo` and `gymnasium` are the two adapters that the others are brought to: agents
by name in dictionaries, and agents in sequences.
"""
