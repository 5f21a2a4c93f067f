"""Where a run's figures go beside its own store: TensorBoard, Weights & Biases, MLflow, CSV, or a sink of the user's.

contract.py     what a sink is, and what it is told
follower.py     sends what the store holds to one sink, on a thread of its own
tensorboard.py, wandb.py, mlflow.py, csv.py     one service each, imported when it is opened
"""

from marlstone.runs.sinks.contract import About, Ended, Sink, Writer
from marlstone.runs.sinks.csv import Csv
from marlstone.runs.sinks.mlflow import MLflow
from marlstone.runs.sinks.tensorboard import TensorBoard
from marlstone.runs.sinks.wandb import Wandb

__all__ = ["About", "Csv", "Ended", "MLflow", "Sink", "TensorBoard", "Wandb", "Writer"]
