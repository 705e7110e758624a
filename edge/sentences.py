"""The plain sentence for each prompt, Chinese first. The roadside display, the console and the demo say the same."""

from edge.core.facts import Prompt

SENTENCES: dict[Prompt, tuple[str, str]] = {
    Prompt.IDLE: ("请出示通行证", "Please show your pass"),
    Prompt.SHOW_PASS: ("请扫描通行证", "Scan your pass"),
    Prompt.MEASURE: ("请将额头靠近测温仪", "Hold your forehead to the thermometer"),
    Prompt.MASK: ("请戴好口罩", "Please wear your mask"),
    Prompt.OCCUPANTS: ("请告知车内人数", "How many people are in the car?"),
    Prompt.WAIT: ("请稍候", "One moment"),
    Prompt.GO: ("请通行", "Please go"),
    Prompt.REFUSED: ("不能通行,请询问门卫", "No entry: please ask the guard"),
    Prompt.RETEST: ("请休息片刻后重新测温", "Rest a moment, then measure again"),
    Prompt.CURFEW: ("24:00至6:00禁止通行", "Closed from 24:00 to 06:00"),
    Prompt.GUARD: ("请稍候,门卫马上过来", "Please wait, the guard is coming"),
    Prompt.FIRE: ("火警:道闸已打开,请疏散", "Fire: the gate is open, leave now"),
    Prompt.CLOSED: ("本通道暂停使用", "This lane is closed"),
}


def sentence(prompt: Prompt, language: str) -> str:
    """The sentence in "zh" or "en"."""
    chinese, english = SENTENCES[prompt]
    return english if language == "en" else chinese
