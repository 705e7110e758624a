"""What the guard's console and the demo are told on `status`: state, streams, connection; no people."""

import msgspec

from edge import encode
from edge.controller import Controller
from edge.core import gate
from edge.core.barrier import position
from edge.core.lane import Lane
from edge.outbox import Outbox

_encoder = msgspec.json.Encoder()


class Status:
    """Answers `status`."""

    def __init__(self, origin: encode.Origin, controller: Controller, outbox: Outbox) -> None:
        self._origin, self._controller, self._outbox = origin, controller, outbox
        self.connected = False

    def answer(self) -> bytes:
        """One JSON object."""
        state, now, rules = self._controller.state, self._controller.now(), self._controller.rules
        return _encoder.encode(
            {
                "ok": True,
                "node": self._origin.node,
                "site": self._origin.site,
                "time": encode.timestamp(now.wall_ms, self._origin.tz),
                "clock": state.trust,
                "fire": state.fire,
                "broker": "connected" if self.connected else "offline",
                "waiting": self._outbox.waiting(),
                "heads": self._outbox.heads(),
                "devices_lost": sorted(state.devices_lost),
                "lanes": [
                    {
                        "lane": lane.lane,
                        "kind": lane.kind,
                        "direction": lane.direction,
                        "position": position(state.lanes[lane.lane].barrier),
                        "phase": state.lanes[lane.lane].phase,
                        "prompt": state.lanes[lane.lane].prompt,
                        "lockouts": sorted(gate.lockouts(state, lane.lane, rules, now)),
                        "last": _last(state.lanes[lane.lane]),
                    }
                    for lane in rules.lanes
                ],
            }
        )


def _last(lane: Lane) -> str:
    if lane.verdict is None:
        return ""
    return f"{lane.verdict.kind}: {', '.join(lane.verdict.reasons)}"
