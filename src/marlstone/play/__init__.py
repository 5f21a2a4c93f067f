"""How policies are judged: whole episodes without learning, by whatever selects the actions."""
