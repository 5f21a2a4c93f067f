"""The public names, for type checkers; `__init__.py` imports them when they are first asked for."""

from marlstone.api.questions import audit_credit as audit_credit
from marlstone.api.questions import compare as compare
from marlstone.api.questions import evaluate as evaluate
from marlstone.api.questions import make_env as make_env
from marlstone.api.questions import payoff as payoff
from marlstone.api.questions import select as select
from marlstone.api.questions import tune as tune
from marlstone.api.results import Comparison as Comparison
from marlstone.api.results import CreditAudit as CreditAudit
from marlstone.api.results import Payoff as Payoff
from marlstone.api.results import Returns as Returns
from marlstone.api.results import Selection as Selection
from marlstone.api.results import Training as Training
from marlstone.api.results import Tuning as Tuning
from marlstone.api.runs import Run as Run
from marlstone.api.runs import load as load
from marlstone.api.runs import make_train as make_train
from marlstone.api.runs import train as train
from marlstone.architectures import Ctde as Ctde
from marlstone.architectures import Decentralized as Decentralized
from marlstone.architectures import Gru as Gru
from marlstone.architectures import Hierarchical as Hierarchical
from marlstone.architectures import Mlp as Mlp
from marlstone.core.errors import UserError as UserError
from marlstone.credit import Attention as Attention
from marlstone.credit import Counterfactual as Counterfactual
from marlstone.credit import Decoupled as Decoupled
from marlstone.credit import Difference as Difference
from marlstone.credit import Individual as Individual
from marlstone.credit import Qmix as Qmix
from marlstone.credit import Qplex as Qplex
from marlstone.credit import Shaping as Shaping
from marlstone.credit import Team as Team
from marlstone.credit import Vdn as Vdn
from marlstone.encoders import Image as Image
from marlstone.encoders import Vector as Vector
from marlstone.learners import Adam as Adam
from marlstone.learners import PolicyGradient as PolicyGradient
from marlstone.learners import Pqn as Pqn
from marlstone.learners import QLearning as QLearning
from marlstone.learners import RAdam as RAdam
from marlstone.learners import RmsProp as RmsProp
from marlstone.learners import Sgd as Sgd
from marlstone.policy.policy import Policy as Policy

__version__: str
