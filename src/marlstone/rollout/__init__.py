"""How steps are made: one unroll for every backend, worker processes and the memory shared with them, faults counted."""
