"""What runs inside Ray: the replicas, each with a supervised local worker, and the registry that knows where they are.

Ray is not imported at the top: the hub's own process never loads it, and these classes are made into a deployment and
an actor by `ray_serve_child.py`.
"""

import threading
import time
from typing import Any

import anyio
import msgspec

from autoglm.inference.local import Down, LocalProvider, LocalSpec, LocalState, Ready
from autoglm.inference.providers.ray_order import RayMembers, Whereabouts

HEALTH_PERIOD_S = 2.0
LEASE_S = 5 * HEALTH_PERIOD_S
"""A replica that has not said for so long that it lives is no member any more."""


class Registry:
    """An actor: which replicas live. What it knows is renewed with each health check, so that it may die and return."""

    def __init__(self) -> None:
        self._leases: dict[str, tuple[float, Whereabouts | None, str]] = {}

    def renew(self, replica: str, whereabouts: Whereabouts | None, trouble: str) -> None:
        """whereabouts: None while it cannot be asked. trouble: why that is so, where it is known."""
        self._leases[replica] = (time.monotonic() + LEASE_S, whereabouts, trouble)

    def report(self) -> RayMembers:
        now_s = time.monotonic()
        self._leases = {name: lease for name, lease in self._leases.items() if lease[0] > now_s}
        return RayMembers(
            members=sorted(whereabouts for _, whereabouts, _ in self._leases.values() if whereabouts is not None),
            trouble=next((trouble for _, _, trouble in self._leases.values() if trouble), ""),
        )


class Replica:
    """A deployment of Ray Serve: llama.cpp's server in a child process, on the machine where Ray has put it.

    Requests do not come through Ray: the hub speaks to each server directly, so that its queue binds late, sees which
    one is slow, and streams without another hop. Ray places the replicas and replaces those that are lost.
    """

    def __init__(self, registry: Any, spec: LocalSpec, *, is_loopback: bool) -> None:
        """registry: the actor's handle. spec: its host is filled in here."""
        import ray
        from ray import serve

        if is_loopback:
            _keep_serve_to_loopback()
        self._registry = registry
        self._name = str(serve.get_replica_context().replica_id.unique_id)
        self._spec = msgspec.structs.replace(spec, host=str(ray.util.get_node_ip_address()))  # type: ignore[no-untyped-call]  # of Ray
        self._whereabouts: Whereabouts | None = None
        self._trouble = ""
        # A thread of its own: Serve's event loop is not ours, and a worker is killed with the thread that started it.
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._supervisor.start()

    def _supervise(self) -> None:
        anyio.run(LocalProvider(self._spec, self._on_state).run)

    def _on_state(self, state: LocalState) -> None:
        self._whereabouts = None
        match state:
            case Ready():
                self._whereabouts = Whereabouts(replica=self._name, base_url=state.base_url, api_key=state.api_key)
                self._trouble = ""
            case Down():
                self._trouble = state.reason
        self._registry.renew.remote(self._name, self._whereabouts, self._trouble)

    async def check_health(self) -> None:
        """Serve calls it each HEALTH_PERIOD_S and replaces the replica when it raises, or does not return in time."""
        if not self._supervisor.is_alive():
            raise RuntimeError("the supervisor of the model's worker has ended")
        await self._registry.renew.remote(self._name, self._whereabouts, self._trouble)


def _keep_serve_to_loopback() -> None:
    """Bind Serve's port for calls between deployments to 127.0.0.1.

    Ray's own ports follow the node's address, but this one is bound to all interfaces whatever that is (Ray 2.60). The
    cluster's token guards it as well; where a later release has no such function, that remains.
    """
    from ray.serve._private import replica

    def bind(server: Any, _: str) -> int:
        return int(server.add_insecure_port("127.0.0.1:0"))

    if hasattr(replica, "add_port_to_grpc_server"):
        replica.add_port_to_grpc_server = bind
