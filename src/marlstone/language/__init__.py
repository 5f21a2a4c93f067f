"""Agents that are language models: endpoints that return token ids and log-probs, answer parsers, mixed teams, and credit for trainers."""
