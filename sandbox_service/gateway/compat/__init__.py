"""Dialects: the HTTP interfaces of SandboxFusion, code-judge and Piston, spoken by the same service.

A dialect translates: its request into native calls, which go through the same admission, queue and jails as all others,
and their Results into its answer. It has no limits, queue or languages of its own (`deploy/languages.toml` is for all).
What its clients take for a verdict is one: a fault of ours or a lack of time is told in the way that makes them try
again, never as a failure of the code.
"""
