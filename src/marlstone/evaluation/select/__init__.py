"""Which training architecture is robust in this environment, measured: what `marlstone select` asks and how it answers.

question.py     what is asked: environment, budget, seeds, candidates
prices.py       what counted quantities cost
trial.py        one candidate trained as a run of its own, and judged; continued wherever it was stopped
forecast.py     how long all of it will take, told before it begins
study.py        the order of things: tune, train, stop the hopeless, stress, confirm, soak
question_file.py  what was asked, kept in the folder
findings.py     what the trials say: ranks, stability, cost, dead seeds, the recommendation
ranking.py      which candidates differ significantly, and what is recommended
report.py       the page with pictures
"""

BUDGET, QUICK_BUDGET, SEEDS = "1e6", "2e5", 5
