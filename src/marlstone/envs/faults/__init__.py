"""Faults: what may go wrong between an environment and its agents."""

from marlstone.envs.faults.actions import ActionDelay, ActionLoss
from marlstone.envs.faults.contract import Draws, Fault, faults_of, with_faults
from marlstone.envs.faults.drift import Drift
from marlstone.envs.faults.link import Volatile
from marlstone.envs.faults.messages import MessageCopies, MessageCut, MessageDelay, MessageFault, MessageLoss, is_message_fault
from marlstone.envs.faults.plain import FAULTS, fault_from_json, fault_to_json
from marlstone.envs.faults.presence import Death, LateArrival
from marlstone.envs.faults.rewards import RewardDelay, RewardNoise
from marlstone.envs.faults.sensors import Delay, Dropout, Freeze, Noise, Skew
from marlstone.envs.faults.values import Extreme
from marlstone.envs.faults.withheld import Withheld

__all__ = [
    "Fault", "Draws", "with_faults", "faults_of", "FAULTS", "fault_to_json", "fault_from_json",
    "Noise", "Dropout", "Freeze", "Delay", "Skew", "ActionDelay", "ActionLoss", "Death", "LateArrival",
    "RewardDelay", "RewardNoise", "Extreme", "Volatile", "Drift",
    "MessageFault", "MessageLoss", "MessageDelay", "MessageCopies", "MessageCut", "is_message_fault", "Withheld",
]  # fmt: skip
