"""What a Ray cluster is asked for; free of Ray, so that a command can read it first."""

from __future__ import annotations

from dataclasses import dataclass

from supernet.errors import NasError, check_number


@dataclass(frozen=True, slots=True)
class RayOptions:
    """How candidates are scored on a Ray cluster.

    Args:
        address: ``"auto"`` joins the cluster that this machine belongs to, ``"local"`` starts one
            of this machine alone, ``"host:port"`` and ``"ray://host:10001"`` name another.
        workers: processes that score; those that find no room wait for it, which makes an
            autoscaler start nodes. None: as many as find room, more when nodes join.
        cpus: reserved for a worker, which computes with so many threads, at least one.
        gpus: reserved for a worker; 0.25 lets four share one GPU.
        timeout_s: of one candidate; a worker that takes longer is replaced.
        attempts: a candidate that has failed so often is given up.
        placement_s: how long to wait for the first worker, and for one after all are lost. An
            autoscaler needs minutes to start a node.

    Raises:
        NasError: a value out of range.
    """

    address: str = "auto"
    workers: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    timeout_s: float = 600.0
    attempts: int = 3
    placement_s: float = 600.0

    def __post_init__(self) -> None:
        if not (isinstance(self.address, str) and self.address):
            raise NasError(f"address must be auto, local or a cluster's, not {self.address!r}")
        if self.workers is not None:
            check_number("workers", self.workers, 1, whole=True)
        for name in ("cpus", "gpus"):
            check_number(name, getattr(self, name), 0)
        if not self.cpus and not self.gpus:
            raise NasError("cpus and gpus of a worker must not both be 0")
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise NasError(f"gpus above 1 must be a whole number, not {self.gpus!r}")
        check_number("timeout_s", self.timeout_s, 1)
        check_number("attempts", self.attempts, 1, whole=True)
        check_number("placement_s", self.placement_s, 1)

    @property
    def threads(self) -> int:
        """That a worker computes with."""
        return max(1, int(self.cpus))

    @property
    def resources(self) -> dict[str, float]:
        """That Ray reserves for a worker, those that are not 0."""
        needed = {"CPU": float(self.cpus), "GPU": float(self.gpus)}
        return {name: amount for name, amount in needed.items() if amount}
