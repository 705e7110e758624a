"""The words of the gate: frozen values that inputs, state, effects and facts are made of."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Now:
    """The instant of a step: monotonic nanoseconds for durations, wall milliseconds (Unix, UTC) for the calendar."""

    mono_ns: int
    wall_ms: int

    def after_ms(self, duration_ms: int) -> int:
        """Monotonic instant `duration_ms` from now."""
        return self.mono_ns + duration_ms * 1_000_000


class LaneKind(StrEnum):
    """What a lane is built for."""

    VEHICLE = "vehicle"
    PEDESTRIAN = "pedestrian"


class Direction(StrEnum):
    """Seen from the compound."""

    IN = "in"
    OUT = "out"


class Line(StrEnum):
    """Inputs of a lane, in the words of the core (the edge maps the driver's names onto them)."""

    LIMIT_OPEN = "limit_open"
    LIMIT_CLOSED = "limit_closed"
    LOOP = "loop"
    APPROACH = "approach"
    PHOTOCELL = "photocell"
    FIRE = "fire"
    KEY = "key"
    STOP = "stop"


SAFETY_LINES = frozenset({Line.LOOP, Line.PHOTOCELL})


class Level(StrEnum):
    """What is known of a line. UNKNOWN counts as dangerous wherever danger is possible."""

    ACTIVE = "active"
    CLEAR = "clear"
    UNKNOWN = "unknown"


class ClockTrust(StrEnum):
    """How far the wall clock may carry a decision."""

    TRUSTED = "trusted"
    HOLDOVER = "holdover"
    UNTRUSTED = "untrusted"


class Thermal(StrEnum):
    """Temperature outcome of one person."""

    NORMAL = "normal"
    FEVER = "fever"
    NOT_MEASURED = "not_measured"


class Mask(StrEnum):
    """Mask outcome of one person."""

    WORN = "worn"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class LockoutCause(StrEnum):
    """Causes that keep a lane shut."""

    CURFEW = "curfew"
    CLOCK = "clock"
    FEVER = "fever"
    FAULT = "fault"
    DISK = "disk"
    COMMAND = "command"
    SEALED = "sealed"
    TAMPER = "tamper"


class ExceptionKind(StrEnum):
    """Reasoned exceptions a guard may grant; what each waives stands in the policy."""

    AMBULANCE = "ambulance"
    FIRE_BRIGADE = "fire_brigade"
    POLICE = "police"
    MEDICAL = "medical"
    DUTY = "duty"


class VerdictKind(StrEnum):
    """What a gate says to a party."""

    ADMIT = "admit"
    REFUSE = "refuse"
    RETEST = "retest"
    WAIT = "wait"


class Reason(StrEnum):
    """Why; `RULE_OF` names the rule of the notice each stands on."""

    PASS_MISSING = "pass_missing"
    PASS_EXPIRED = "pass_expired"
    PASS_NOT_YET = "pass_not_yet"
    PASS_WRONG_SITE = "pass_wrong_site"
    PASS_WRONG_DIRECTION = "pass_wrong_direction"
    PASS_REVOKED = "pass_revoked"
    PASS_REUSED = "pass_reused"
    PASS_SUSPENDED = "pass_suspended"
    TOKEN_NOT_OURS = "token_not_ours"
    TOKEN_MALFORMED = "token_malformed"
    TOKEN_OVERSIZE = "token_oversize"
    TOKEN_UNKNOWN_KEY = "token_unknown_key"
    TOKEN_BAD_SIGNATURE = "token_bad_signature"
    TOKEN_WRONG_ALGORITHM = "token_wrong_algorithm"
    CODE_CONTROL_CHARACTERS = "code_control_characters"
    CODE_CHECKSUM = "code_checksum"
    CODE_FRAME = "code_frame"
    CARD_UNKNOWN = "card_unknown"
    CURFEW = "curfew"
    CURFEW_IMMINENT = "curfew_imminent"
    CLOCK_UNTRUSTED = "clock_untrusted"
    FEVER = "fever"
    NOT_MEASURED = "not_measured"
    LOW_READING = "low_reading"
    IMPLAUSIBLE = "implausible"
    SPREAD = "spread"
    AMBIENT_OUT_OF_RANGE = "ambient_out_of_range"
    NOTHING_IN_FRONT = "nothing_in_front"
    TOO_FEW_SAMPLES = "too_few_samples"
    SENSOR_FAILED = "sensor_failed"
    MASK_REFUSED = "mask_refused"
    MASK_UNKNOWN = "mask_unknown"
    OCCUPANTS_UNKNOWN = "occupants_unknown"
    TOO_MANY_OCCUPANTS = "too_many_occupants"
    LEFT = "left"
    TIMED_OUT = "timed_out"
    LOCKOUT_FEVER = "lockout_fever"
    LOCKOUT_FAULT = "lockout_fault"
    LOCKOUT_DISK = "lockout_disk"
    LOCKOUT_COMMAND = "lockout_command"
    LOCKOUT_SEALED = "lockout_sealed"
    LOCKOUT_TAMPER = "lockout_tamper"
    FIRE = "fire"
    EXCEPTION_AMBULANCE = "exception_ambulance"
    EXCEPTION_FIRE_BRIGADE = "exception_fire_brigade"
    EXCEPTION_POLICE = "exception_police"
    EXCEPTION_MEDICAL = "exception_medical"
    EXCEPTION_DUTY = "exception_duty"
    ALL_GOOD = "all_good"


_RULES: dict[int, tuple[Reason, ...]] = {
    0: (
        Reason.CLOCK_UNTRUSTED,
        Reason.LEFT,
        Reason.TIMED_OUT,
        Reason.LOCKOUT_FAULT,
        Reason.LOCKOUT_DISK,
        Reason.LOCKOUT_COMMAND,
        Reason.LOCKOUT_TAMPER,
        Reason.FIRE,
    ),
    1: (
        Reason.CURFEW,
        Reason.CURFEW_IMMINENT,
        Reason.LOCKOUT_SEALED,
        Reason.EXCEPTION_AMBULANCE,
        Reason.EXCEPTION_FIRE_BRIGADE,
        Reason.EXCEPTION_POLICE,
        Reason.EXCEPTION_MEDICAL,
        Reason.EXCEPTION_DUTY,
    ),
    2: (
        Reason.FEVER,
        Reason.NOT_MEASURED,
        Reason.LOW_READING,
        Reason.IMPLAUSIBLE,
        Reason.SPREAD,
        Reason.AMBIENT_OUT_OF_RANGE,
        Reason.NOTHING_IN_FRONT,
        Reason.TOO_FEW_SAMPLES,
        Reason.SENSOR_FAILED,
        Reason.MASK_REFUSED,
        Reason.MASK_UNKNOWN,
        Reason.OCCUPANTS_UNKNOWN,
        Reason.TOO_MANY_OCCUPANTS,
        Reason.LOCKOUT_FEVER,
    ),
    3: (
        Reason.PASS_EXPIRED,
        Reason.PASS_NOT_YET,
        Reason.PASS_WRONG_SITE,
        Reason.PASS_WRONG_DIRECTION,
        Reason.PASS_REVOKED,
        Reason.PASS_REUSED,
        Reason.PASS_SUSPENDED,
        Reason.TOKEN_MALFORMED,
        Reason.TOKEN_OVERSIZE,
        Reason.TOKEN_UNKNOWN_KEY,
        Reason.TOKEN_BAD_SIGNATURE,
        Reason.TOKEN_WRONG_ALGORITHM,
        Reason.CODE_CONTROL_CHARACTERS,
        Reason.CODE_CHECKSUM,
        Reason.CODE_FRAME,
        Reason.ALL_GOOD,
    ),
    4: (Reason.PASS_MISSING, Reason.TOKEN_NOT_OURS, Reason.CARD_UNKNOWN),
}
RULE_OF: dict[Reason, int] = {reason: rule for rule, reasons in _RULES.items() for reason in reasons}


@dataclass(frozen=True, slots=True)
class Sample:
    """One sound measurement, hundredths of a degree Celsius."""

    object_centi_c: int
    ambient_centi_c: int


@dataclass(frozen=True, slots=True)
class Reading:
    """An accepted measurement: skin as measured, body as estimated; outcome NORMAL or FEVER."""

    skin_centi_c: int
    body_centi_c: int
    ambient_centi_c: int
    thermal: Thermal


@dataclass(frozen=True, slots=True)
class Pass:
    """Claims of a pass whose signature was verified. Times are Unix seconds; [not_before, expires) is half-open."""

    serial: str
    site: str
    category: str
    person: str  # keyed pseudonym
    directions: frozenset[Direction]
    not_before_s: int
    expires_s: int
    curfew_exempt: bool = False


@dataclass(frozen=True, slots=True)
class Person:
    """One member of a party. `refusal` is what is wrong with the pass; `reading` or why there is none."""

    credential: Pass | None = None
    refusal: Reason | None = None
    reading: Reading | None = None
    reading_failure: Reason | None = None
    retests: int = 0
    mask: Mask = Mask.UNKNOWN

    @property
    def thermal(self) -> Thermal:
        """Temperature outcome; no reading is never a number and never normal."""
        return self.reading.thermal if self.reading else Thermal.NOT_MEASURED


@dataclass(frozen=True, slots=True)
class ExceptionGrant:
    """A recorded exception: who approved what."""

    kind: ExceptionKind
    approver: str


@dataclass(frozen=True, slots=True)
class Party:
    """The people (and vehicle) of one encounter. `occupants` is None until it is known how many there are."""

    people: tuple[Person, ...] = ()
    occupants: int | None = None
    grant: ExceptionGrant | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision about a party with every reason, most important first."""

    kind: VerdictKind
    reasons: tuple[Reason, ...]
