"""RoC as verl's replay buffer: of the 2G sessions of each prompt, the G that are trained on (paper 2.2.2).

    trainer.v1.sampler.custom_sampler.path: pkg://sandbox_service.integrations.verl.sampler
    trainer.v1.sampler.custom_sampler.name: RoCReplayBuffer
    trainer.v1.sampler.sampler_kwargs: {keep: 16}

It runs before log-probabilities and advantages are computed, as in the paper. Groups are kept or dropped whole; all
sequences of a session share its fate. `sampler_kwargs`: `keep` (G), `rule`, `epsilon`, `at_least` (see
`trainer.roc.Selection`), `seed`; and `refill` (false; not in the paper): replace groups without signal and groups
whose sessions all failed by fresh prompts, `train_batch_size` of them at once at most.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.replay_buffer import FILTER_GROUPS_REWARD_METRIC, ReplayBuffer, ReplayBufferAsync

from sandbox_service.integrations.roc import Candidate, choose
from sandbox_service.integrations.verl.hooks import fits
from sandbox_service.trainer.rewards import p_err, p_format
from sandbox_service.trainer.roc import Selection

fits("sampler")
_SELECTION = ("keep", "rule", "epsilon", "at_least")


class _RoC:
    """Options and selection; mixed into verl's two buffers, which do the waiting and the eviction."""

    def __init__(self, *, sampler_kwargs: Any, **kwargs: Any) -> None:
        options = dict(sampler_kwargs or {})
        self._how = Selection(**{name: options.pop(name) for name in _SELECTION if name in options})
        self._seed = options.pop("seed", 0)
        if options.pop("refill", False):
            if "train_batch_size" not in options:
                raise ValueError("sampler_kwargs: refill needs train_batch_size, which is data.train_batch_size")
            kwargs |= {
                "filter_groups_metric": FILTER_GROUPS_REWARD_METRIC,
                "train_batch_size": options.pop("train_batch_size"),
                "gen_batch_size": 1,
                "sync_refill_failed_groups": True,
            }
        if options:
            raise ValueError(f"sampler_kwargs has no {', '.join(options)}")
        super().__init__(sampler_kwargs=sampler_kwargs, **kwargs)  # type: ignore[call-arg]

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[KVBatchMeta, dict[str, Any]]:
        batch, metrics = super().sample(global_steps, partition_id, batch_size)  # type: ignore[misc]
        if partition_id == "val":
            return batch, metrics
        chosen, figures = self._choose(batch, f"{self._seed}/{global_steps}")
        gone = [key for key in batch.keys if _session(key) not in chosen]
        if gone:
            tq.kv_clear(partition_id=partition_id, keys=gone)
        kept = [(key, tag) for key, tag in zip(batch.keys, batch.tags, strict=True) if _session(key) in chosen]
        selected = KVBatchMeta(partition_id=partition_id, keys=[key for key, _ in kept], tags=[tag for _, tag in kept])
        return selected, {**metrics, **figures}

    def _choose(self, batch: KVBatchMeta, seed: str) -> tuple[set[str], dict[str, float]]:
        """The sessions to train on, each as `{uid}_{session}`."""
        last: dict[str, str] = {}
        for key in batch.keys:  # the reward and the facts stand in a session's last sequence
            session = _session(key)
            if session not in last or _index(key) > _index(last[session]):
                last[session] = key
        data = tq.kv_batch_get(
            keys=list(last.values()), partition_id=batch.partition_id, select_fields=["rm_scores", "extra_fields"]
        )
        groups: dict[str, list[Candidate]] = defaultdict(list)
        sessions: dict[str, list[str]] = defaultdict(list)
        for session, scores, fields in zip(last, list(data["rm_scores"]), list(data["extra_fields"]), strict=True):
            uid = session.partition("_")[0]
            groups[uid].append(Candidate(float(scores.sum()), _facts(getattr(fields, "data", fields))))
            sessions[uid].append(session)
        chosen, figures = choose(groups, self._how, seed)
        if not chosen:
            # verl cannot train on nothing. Rollouts of equal reward have no advantage: the step then changes nothing.
            uid = min(groups)
            chosen = {uid: list(range(min(self._how.keep, len(groups[uid]))))}
        return {sessions[uid][index] for uid, indices in chosen.items() for index in indices}, figures


class RoCReplayBuffer(_RoC, ReplayBuffer):
    """For `trainer_mode=sync`, the paper's."""


class RoCReplayBufferAsync(_RoC, ReplayBufferAsync):
    """For `colocate_async` and `separate_async`."""


def _session(key: str) -> str:
    """verl's keys are `{uid}_{session}_{index}`."""
    return key.rpartition("_")[0]


def _index(key: str) -> int:
    return int(key.rpartition("_")[2])


def _facts(fields: dict[str, Any]) -> dict[str, Any]:
    """Those of `rstar2`; for verl's own loop with our tool what is known of its calls."""
    if "p_err" in fields:
        return fields
    outcomes = fields.get("outcomes", [])
    return {"p_err": p_err(outcomes), "p_format": p_format(1, 1), "outcomes": outcomes}
