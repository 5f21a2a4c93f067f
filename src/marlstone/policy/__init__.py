"""The frozen policy, as it is judged, deployed and exported; JAX is imported by nothing here until somebody asks for it.

policy.py           the artifact: a folder that saves, loads and acts on what an environment gives
numpy_actor.py      training's forward from a description and weights; fleet actors run it too
deployed.py         how one step is decided: managers, networks, gate, fallback; pure, in NumPy or JAX
gate.py             what lies outside of anything seen, and what is done there
fallback.py, dictionaries.py          declared actions as networks record them; observations and actions by agent name
"""
