"""How far may another training run fall from this one: ratings, cross-play, disagreement between seeds."""
