"""Which settings of one configuration return most, measured: what `marlstone tune` asks and how it answers.

space.py      which options, and which values of each
question.py   what is asked: configuration, space, trials, budget, seeds
sampler.py    which settings are tried: at random, or as Optuna proposes
sweep.py      successive halving, then the winner anew on other seeds
report.py     the page with the picture

Jobs are those of `marlstone select` (`evaluation.select.trial`), done by the same executors.
"""

TRIALS, ETA, TUNING_SEEDS, SEEDS = 9, 3, 2, 5
SAMPLERS = ("random", "optuna")
