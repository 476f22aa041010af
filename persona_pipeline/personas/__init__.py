"""Documents to personas, personas to related personas, and the rules both must pass."""
