"""The load test: `make load` measures the service beside its baselines and writes a report.

`cluster.py` starts the service in parts, `drive.py` sends calls from many processes, `baselines.py` runs the same code
without the service, `cost.py` says whose CPU time it was, `samples.py` what it was spent on. What is measured is in
`sections.py`, `step.py`, `at_once.py` and `profile.py`; `report.py` writes about it, `bars.py` judges it.
"""
