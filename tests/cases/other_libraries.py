"""small environments as the documentation of other libraries shows them: RLlib, mobile-env, Flatland, CityLearn, PyMARL, EPyMARL, old gym"""
import random
import numpy as np
import gymnasium as gym
from gymnasium import spaces

BOX = lambda n=2: spaces.Box(-1e3, 1e3, (n,), np.float32)

# ---- RLlib, new API stack: observation_spaces and action_spaces by agent; a class that takes a config
class TurnBased(gym.Env):
    """two players in turn, only who is to act is shown something; the last move pays both; the mover is drawn by Python's generator"""
    def __init__(self, config=None):
        self.agents = self.possible_agents = ["player1", "player2"]
        self.observation_spaces = {a: BOX() for a in self.agents}; self.action_spaces = {a: spaces.Discrete(3) for a in self.agents}
        self.moves = (config or {}).get("moves", 4); self.late = (config or {}).get("late", False)
    def see(self, a): return np.array([self.t, self.agents.index(a)], np.float32)
    def reset(self, *, seed=None, options=None):
        self.t = 0; self.at = random.choice(self.agents); return {self.at: self.see(self.at)}, {}
    def step(self, action_dict):
        assert list(action_dict) == [self.at], (action_dict, self.at)
        self.t += 1; was, self.at = self.at, "player2" if self.at == "player1" else "player1"
        if self.t < self.moves:
            return {self.at: self.see(self.at)}, {was: 0.5}, {"__all__": False}, {"__all__": False}, {self.at: {"length": self.t}}
        obs = {a: self.see(a) for a in ([self.at] if self.late else self.agents)}
        return obs, {was: 1.0, self.at: -1.0}, {"__all__": not self.late}, {"__all__": self.late}, {"__common__": {"length": self.t}}

# ---- RLlib, old API stack: numbers for names, one space for all, only get_agent_ids()
class Numbered:
    """three agents 0, 1, 2; agent 1 terminates at step 2, agent 2 is shown something first at step 2; time runs out at 5"""
    observation_space = BOX(); action_space = spaces.Discrete(2); _agent_ids = {0, 1, 2}
    def get_agent_ids(self): return self._agent_ids
    def see(self, who): return {a: np.array([self.t, a], np.float32) for a in who}
    def reset(self, *, seed=None, options=None):
        self.rng = np.random.default_rng(seed); self.t = 0; self.here = [0, 1]; return self.see(self.here), {}
    def step(self, action_dict):
        assert sorted(action_dict) == sorted(self.here), (action_dict, self.here)
        self.t += 1; rew = {a: float(self.rng.integers(3)) for a in self.here}; shown = list(self.here)
        te = {"__all__": False}; tr = {"__all__": self.t >= 5}
        if self.t == 2: te[1] = True; self.here = [0, 2]; shown = [0, 1, 2]
        return self.see(shown), rew, te, tr, {}

# ---- RLlib, old API stack: Dict spaces by agent
class DictSpaces(gym.Env):
    """cars of different sizes by name; one dict space each way"""
    observation_space = spaces.Dict({"car": BOX(3), "light": BOX(2)}); action_space = spaces.Dict({"car": spaces.Box(-2, 2, (1,), np.float32), "light": spaces.Discrete(4)})
    def see(self): return {"car": np.full(3, self.t, np.float32), "light": np.full(2, self.t, np.float32)}
    def reset(self, seed=None, options=None): super().reset(seed=seed); self.t = 0; return self.see(), {}
    def step(self, actions):
        assert self.action_space.contains(actions), actions
        self.t += 1; return self.see(), {"car": 1.0, "light": 2.0}, self.t >= 3, False, {"late": self.t}

# ---- mobile-env: Dict spaces by number, only active users are seen, flags for all
class Cells(gym.Env):
    """user equipment 1, 2 and 3; 3 arrives at step 2; time is up at 4, after which nobody is seen"""
    def __init__(self):
        self.observation_space = spaces.Dict({i: spaces.Box(-1, 1, (2,), np.float32) for i in (1, 2, 3)}); self.action_space = spaces.Dict({i: spaces.Discrete(3) for i in (1, 2, 3)})
    def active(self): return [] if self.t >= 4 else [1, 2, 3] if self.t >= 2 else [1, 2]
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed); self.t = 0; return self.see(), {"mean utility": 0.0}
    def see(self): return {i: np.array([self.t / 4, i / 3], np.float32) for i in self.active()}
    def step(self, actions):
        assert sorted(actions) == self.active(), actions
        rewards = {i: float(x) for i, x in actions.items()}; self.t += 1
        return self.see(), rewards, False, self.t >= 4, {"mean utility": self.t / 4, "number connections": 3}

# ---- Flatland: handles, agents only after reset, random_seed, four values, infos by field; spaces are set by hand
class Rail:
    """two trains; train 1 need not act at odd steps; done["__all__"] ends it"""
    observation_space = BOX(); action_space = spaces.Discrete(5)
    def __init__(self): self.agents = []
    def get_agent_handles(self): return range(len(self.agents))
    def see(self): return {h: np.array([self.t, self.first], np.float32) for h in self.get_agent_handles()}
    def info(self): return {"action_required": {0: True, 1: self.t % 2 == 0}, "speed": {0: 1.0, 1: 0.5}}
    def reset(self, regenerate_rail=True, regenerate_schedule=True, *, random_seed=None):
        self.agents = [object(), object()]; self.t = 0; self.first = np.random.RandomState(random_seed).randint(100); return self.see(), self.info()
    def step(self, action_dict_):
        self.t += 1; done = self.t >= 4
        return self.see(), {0: -1.0, 1: -1.0}, {0: done, 1: done, "__all__": done}, self.info()

# ---- CityLearn, central_agent=False: lists of Boxes, lists of lists, rewards in a list
class City(gym.Env):
    """two buildings of different sizes; a step takes a list of lists of numbers"""
    def __init__(self):
        self.observation_space = [BOX(2), BOX(3)]; self.action_space = [spaces.Box(-1, 1, (1,), np.float32), spaces.Box(-1, 1, (2,), np.float32)]
    def see(self): return [[float(self.t)] * 2, [float(self.t)] * 3]
    def reset(self, seed=None, options=None): super().reset(seed=seed); self.t = 0; return self.see(), {}
    def step(self, actions):
        assert isinstance(actions, list) and [len(a) for a in actions] == [1, 2]; self.t += 1
        return self.see(), [-1.0, -2.0], False, self.t >= 3, {"cost": 2.5}

# ---- gym before Gymnasium (OpenAI's particle environments, ma-gym): lists, four values, done by agent, a method seed
class Particles:
    def __init__(self): self.observation_space = [BOX()] * 2; self.action_space = [spaces.Discrete(2)] * 2
    def seed(self, n=None): self.rng = np.random.default_rng(n)
    def reset(self): self.t = 0; self.x = self.rng.random(2).astype(np.float32); return [self.x, self.x]
    def step(self, action_n): self.t += 1; return [self.x, self.x], [1.0, 1.0], [self.t >= 3] * 2, {"n": [{}, {}]}

# ---- PyMARL and SMAC: three values, one reward for the team, legal actions and state by methods
class Marines:
    """three units; unit 2 dies at step 2 and then only the first action is legal; it ends at 4, or, `limit`, by the limit of 3"""
    n_agents = 3; episode_limit = 3
    def __init__(self, limit=False): self.limit = limit
    def get_obs(self): return [np.array([self.t, i], np.float64) for i in range(3)]
    def get_obs_size(self): return 2
    def get_state(self): return np.array([self.t, self.dead, 7.0, 7.0, 7.0])
    def get_state_size(self): return 5
    def get_avail_actions(self): return [[1, 0, 0, 0] if i == 2 and self.dead else [0, 1, 1, self.t % 2] for i in range(3)]
    def get_total_actions(self): return 4
    def reset(self): self.t, self.dead = 0, 0; self.luck = np.random.random(); return self.get_obs(), self.get_state()
    def step(self, actions):
        assert all(avail[a] for avail, a in zip(self.get_avail_actions(), actions)), actions
        self.t += 1; self.dead = int(self.t >= 2); over = self.t >= (3 if self.limit else 4)
        return 2.0 + self.luck, over, {"battle_won": over, "dead_allies": self.dead, **({"episode_limit": True} if over and self.limit else {})}
    def get_env_info(self):
        return {"state_shape": 5, "obs_shape": 2, "n_actions": 4, "n_agents": 3, "episode_limit": self.episode_limit}
    def close(self): pass

# ---- EPyMARL: five values, observations first, rewards in a list where they are not common
class Foragers(Marines):
    def reset(self, seed=None, options=None): self.t, self.dead = 0, 0; self.luck = np.random.default_rng(seed).random(); return self.get_obs(), {}
    def step(self, actions):
        reward, over, info = super().step(actions); return self.get_obs(), [1.0, 2.0, 3.0 + self.luck], over and not self.limit, over and self.limit, {"food": 1}

class Nothing:
    def reset(self): return 0
    def step(self, action): return 0
class Shapeless:
    possible_agents = ["a", "b"]
    def reset(self): return {}
    def step(self, actions): return {}

def make_turns(moves=4, late=False): return TurnBased({"moves": moves, "late": late})
def numbered(config): assert config == {}; return Numbered()
