"""Makes checks.py a module of its own name; the domain itself is domain.yaml."""
