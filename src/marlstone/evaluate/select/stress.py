"""PLACEHOLDER"""


def stressed(runtime, state, config, episodes, chance):
    return {"cases": []}
