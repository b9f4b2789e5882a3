"""The load test: `make load` measures the service beside its baselines and writes a report.

`cluster.py` starts the service in parts, `drive.py` sends calls from many processes, `baselines.py` runs the same code
without the service, `cost.py` says whose CPU time it was, `sections.py` is what is measured, `report.py` what is
written about it.
"""
