"""Many actors, one learner, and nobody waits for a sibling."""
