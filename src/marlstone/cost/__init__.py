"""What agents cost, in pure Python: prices, budgets, and the retries of calls that leave the process."""
