"""The demo in the terminal: compounds, gates and lanes as pictures, colours with a text beside them, keys below."""

from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edge.core.facts import Prompt
from edge.sentences import sentence
from menwei.demo.sites import SITES, Site

KEYS: dict[str, tuple[str, str, str, str]] = {
    "r": ("resident", "walk", "居民", "resident"),
    "c": ("car_with_three", "car", "三人轿车", "car with three"),
    "f": ("feverish_driver", "car", "发热司机", "feverish driver"),
    "k": ("courier", "walk", "快递员", "courier"),
    "s": ("stranger", "walk", "陌生人", "stranger"),
    "x": ("expired_pass", "walk", "过期通行证", "expired pass"),
    "a": ("ambulance", "car", "救护车", "ambulance"),
    "F": ("fire", "walk", "火警", "fire"),
    "b": ("broken_loop", "car", "地感故障", "broken loop"),
}
POSITIONS = {"open": "开 open", "closed": "关 closed", "between": "移动 moving", "unknown": "未知 unknown"}
_ARM = {"closed": "▌━━━━━━━", "open": "▌╱      ", "between": "▌─ ─ ─  ", "unknown": "▌? ? ?  "}
_COLOUR = {"closed": "red", "open": "green", "between": "yellow", "unknown": "magenta"}
_PHASES = {
    "idle": ("空闲", "idle"),
    "screening": ("查验", "screening"),
    "committing": ("记录", "recording"),
    "passing": ("通行", "passing"),
    "refused": ("拒绝", "refused"),
}
_LOCKOUTS = {
    "curfew": "宵禁 curfew",
    "fever": "发热 fever",
    "fault": "故障 fault",
    "disk": "磁盘 disk",
    "clock": "时钟 clock",
}
SAID_LINES = 6


@dataclass(slots=True)
class View:
    """What the screen shows; `statuses` are the gates' own answers, None when a gate is silent."""

    page: str
    language: str
    rate: float
    statuses: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    chosen: str = "garden-1"
    said: list[str] = field(default_factory=list)

    def say(self, chinese: str, english: str) -> None:
        """Add a line to what happens."""
        self.said = [*self.said, english if self.language == "en" else f"{chinese}  {english}"][-SAID_LINES:]

    def render(self) -> RenderableType:
        """The whole screen."""
        page = Text.assemble(
            ("menwei 门卫 ", "bold"), "  live page: ", (self.page, "bold cyan underline"), f"   time x {self.rate:g}"
        )
        return Group(page, *(self._site(site) for site in SITES), self._happenings(), self._keys())

    def _site(self, site: Site) -> Panel:
        table = Table.grid(padding=(0, 2))
        for gate in site.gates:
            for row in self._gate(gate):
                table.add_row(*row)
        return Panel(
            table, title=f"{site.name} · {site.site} · {site.area_m2:,} m²", title_align="left", border_style="blue"
        )

    def _gate(self, gate: str) -> list[tuple[RenderableType, ...]]:
        status = self.statuses.get(gate)
        mark = "▶ " if gate == self.chosen else "  "
        if status is None:
            return [(Text(mark + gate, "bold"), Text("无应答 silent", "bold red"))]
        clock = Text.assemble((mark + gate + "\n", "bold"), (f"  {status['time'][11:19]}", "cyan"))
        clock.append(f"\n  未回执 unreceipted {status['waiting']}", "dim")
        rows: list[tuple[RenderableType, ...]] = []
        for number, lane in enumerate(status["lanes"]):
            rows.append((clock if number == 0 else Text(""), *self._lane(lane)))
        return rows

    def _lane(self, lane: dict[str, Any]) -> tuple[RenderableType, ...]:
        position = lane["position"]
        colour = _COLOUR.get(position, "white")
        arm = Text(f"{_ARM.get(position, '')}\n{POSITIONS.get(position, position)}", colour)
        kind = "人 walk" if lane["kind"] == "pedestrian" else "车 car"
        chinese, english = _PHASES.get(lane["phase"], (lane["phase"], lane["phase"]))
        state = Text.assemble((f"{chinese} {english}\n", "bold"))
        for cause in lane["lockouts"]:
            state.append(f"⛔ {_LOCKOUTS.get(cause, cause)} ", "bold red")
        shown = Text(f"「{sentence(Prompt(lane['prompt']), self.language)}」", "bright_white on grey23")
        return Text(kind), arm, state, shown, Text(lane["last"] or "", "dim")

    def _happenings(self) -> Panel:
        return Panel("\n".join(self.said) or " ", title="正在发生 happening", title_align="left", border_style="grey50")

    def _keys(self) -> Text:
        text = Text()
        for key, (_, _, chinese, english) in KEYS.items():
            text.append(f" {key} ", "black on white")
            text.append(f" {english if self.language == 'en' else chinese}  ")
        for key, words in (
            ("p", "断电 power cut"),
            ("Tab", "换门 next gate"),
            ("+/-", "快慢 speed"),
            ("n", "到午夜 midnight"),
            ("q", "退出 quit"),
        ):
            text.append(f" {key} ", "black on white")
            text.append(f" {words}  ")
        return text
