"""The trainer: GRPO-RoC (rStar2-Agent, arXiv 2508.20722) with the service in the loop.

Read it in this order: `recipe.py` (what is trained, as data), `train.py` (the loop), `rollout.py` (one rollout), then
the pure parts: `prompts.py`, `rewards.py`, `roc.py`, `loss.py`. Needs the extra `train`; of the rest of this
package it uses the public client, the models and the errors.
"""
