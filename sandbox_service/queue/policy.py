"""What a tenant may have of the service: its share, and the limits past which its calls are refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Policy(BaseModel):
    """A limit that is not set does not exist for this tenant; those of the whole service hold for everyone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(1, ge=0.01, le=1000, description="share of the slots while others have calls queued too")
    in_flight: int | None = Field(None, ge=1, description="executions at once; more wait in the queue")
    queued: int | None = Field(None, ge=1, description="calls that wait for a worker")
    rate: float | None = Field(None, ge=0.001, description="calls accepted per second, on average")
    burst: int | None = Field(None, ge=1, description="calls accepted at once after a pause (default: 10 s of `rate`)")
    cpu_s_per_hour: float | None = Field(None, ge=1, description="CPU seconds that its calls may use in an hour")

    def numbers(self) -> tuple[str, ...]:
        """Return what the scripts are told: six numbers, 0 for no limit."""
        burst = self.burst or max(1.0, 10 * (self.rate or 0))
        limits = (self.weight, self.in_flight, self.queued, self.rate, burst, self.cpu_s_per_hour)
        return tuple(format(limit or 0, ".15g") for limit in limits)


NO_LIMITS = Policy()
