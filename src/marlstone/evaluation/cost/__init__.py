"""What runs cost: their counted quantities as money, per agent, phase and kind, and what deciding will cost where they are deployed."""
