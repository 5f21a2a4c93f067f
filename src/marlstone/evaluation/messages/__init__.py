"""What messages are worth, what they cost, and whether agents ask more than they act."""
