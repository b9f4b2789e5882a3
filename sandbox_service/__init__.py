"""Runs code written by language models, fast and safely, for reinforcement learning.

Importing this package loads nothing else: `sandbox_service.client` is the SDK, every other part is started by
`sandbox-service` (see `cli.py`).
"""

__version__ = "0.1.0"
