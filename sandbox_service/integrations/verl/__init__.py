"""The plug-in for verl 0.9.1. `import verl` loads `plugin.py` by its entry point (`verl.plugins`), in every process.

| verl's hook | ours | switched on by |
|---|---|---|
| agent loop | `agent_loop.RStarAgentLoop` | `actor_rollout_ref.rollout.agent.default_agent_loop=rstar2` |
| tool, for verl's own loop | `tool.SandboxTool` | `actor_rollout_ref.rollout.multi_turn.tool_config_path` |
| tool parser, for the same | `parser.JsonToolParser` | `actor_rollout_ref.rollout.multi_turn.format=sandbox_json` |
| reward manager | `reward.VerifyRewardManager` | `reward.reward_manager.name=sandbox_verify` |
| replay buffer | `sampler.RoCReplayBuffer` | `trainer.v1.sampler.custom_sampler` |
| router | `router.KVRouter` | `actor_rollout_ref.rollout.router_config_path` |

`make integrations-test` runs them in verl on CPUs, with an engine that follows a script; nothing was run on GPUs.

Where the service is: `+sandbox.url=http://...` on verl's command line (and `+sandbox.api_key=...` if it has keys).
"""
