"""Inside other people's trainers: verl and TRL. Each needs that trainer's own packages, and imports no server of ours.

`episode.py` is the paper's rollout loop, `roc.py` the selection with its figures; both know no trainer.
"""
