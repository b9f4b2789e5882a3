"""What the smaller subcommands of `sandbox-service` do; `cli.py` says what can be asked for."""
