"""What hooks can refuse or fail to do: facts under the registry's, so that one table in the HTTP rim serves both."""

from __future__ import annotations

from registry.errors import Conflict


class LeaseLost(Conflict):
    """The job was taken over (or ended) while this worker still held it; what was to be written was not written.

    Nothing is left for the loser to do but to stop and to release what it holds on its own machine.
    """

    code = "lease_lost"

    def __init__(self, job_id: int, fence: int) -> None:
        super().__init__(f"job {job_id} is no longer held under fence {fence}")
        self.job_id = job_id
        self.fence = fence
