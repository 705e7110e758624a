"""The reading side: a connection that cannot write, in a thread of its own; it never makes the writer wait."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from broker.collector.schema import StoreError, open_reader
from broker.wire import codec
from broker.wire.codec import WireError
from broker.wire.messages import Passage, Screened, Verdict

_LOOK_BACK = 20_000  # events; bounds the search when hardly any of them is a passage
_ORDER_OF_THERMAL = ("fever", "not_measured", "normal")


@dataclass(frozen=True, slots=True)
class PassageLine:
    """One encounter as the page shows it: no person, no number."""

    time: str
    site: str
    gate: str
    lane: str
    direction: str
    verdict: str  # empty when only the crossing is known
    outcome: str  # empty until something was observed to cross, or not
    reasons: tuple[str, ...]
    thermal: str
    occupants: int


class Reader:
    """Questions to the store, answered in one worker thread."""

    def __init__(self, path: Path) -> None:
        self._db = open_reader(path)
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="read")

    def last_passages(self, count: int) -> list[PassageLine]:
        """The newest `count` encounters, newest first. Raises StoreError. Call it in `executor`."""
        try:
            rows = self._db.execute(
                "SELECT node, body FROM recorded WHERE id > (SELECT coalesce(max(id), 0) FROM event) - ?"
                " AND kind IN ('verdict', 'passage') AND flaw IS NULL ORDER BY id DESC LIMIT ?",
                (_LOOK_BACK, count * 6),
            ).fetchall()
        except sqlite3.Error as e:
            raise StoreError(f"cannot read the last passages: {e}") from e
        lines: dict[tuple[str, str], PassageLine] = {}
        crossings: dict[tuple[str, str], Passage] = {}
        for node, body in rows:
            try:
                envelope = codec.decode_envelope(body)
                data = codec.decode_data(envelope)
            except WireError:
                continue  # sound when it was stored, strange to this version: not for the page
            site = envelope.source.split("/")[2]
            if isinstance(data, Passage):
                key = (node, data.encounter)
                crossings.setdefault(key, data)
                lines.setdefault(key, _crossing(envelope.time, site, node, data))
            elif isinstance(data, Verdict):
                key = (node, data.encounter)
                if key not in lines or not lines[key].verdict:  # the newest verdict of an encounter counts
                    lines[key] = _judged(envelope.time, site, node, data, crossings.get(key))
        return list(lines.values())[:count]

    def close(self) -> None:
        """Close the connection; questions still running are finished first."""
        self.executor.shutdown()
        self._db.close()


def _crossing(time: str, site: str, node: str, data: Passage) -> PassageLine:
    return PassageLine(time, site, node, data.lane, data.direction, "", data.outcome, (), "", data.occupants)


def _judged(time: str, site: str, node: str, data: Verdict, crossing: Passage | None) -> PassageLine:
    return PassageLine(
        time,
        site,
        node,
        data.lane,
        data.direction,
        data.verdict,
        crossing.outcome if crossing else "",
        tuple(dict.fromkeys(cause.code for cause in data.reasons)),
        _thermal(data.people),
        data.occupants,
    )


def _thermal(people: list[Screened]) -> str:
    """The gravest outcome of a party."""
    words = {person.thermal for person in people}
    return next((word for word in _ORDER_OF_THERMAL if word in words), "")
