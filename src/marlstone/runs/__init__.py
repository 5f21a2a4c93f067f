"""A run's records: its directory, metrics store, checkpoints and learning curve. Import from the modules."""
