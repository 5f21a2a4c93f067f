"""What happens when something goes wrong: edge cases, and observations that training never showed."""
