"""What went wrong with a device, told apart by what to do next."""


class DeviceError(Exception):
    """A device did not do what it was asked; the message names the device, the place and the next step."""


class DeviceMissing(DeviceError):  # noqa: N818 - named by the condition, as the guard hears it
    """Nothing answers there: unplugged, wrong address, no such line. Back off and try to reopen."""


class DeviceRefused(DeviceError):  # noqa: N818
    """It is there, but not for us (permission, busy, wrong kind). Do not retry: somebody must change something."""


class TransferFailed(DeviceError):  # noqa: N818
    """One exchange failed (no acknowledge, time-out, wrong checksum). Retry soon, a bounded number of times."""


class ValueRefused(DeviceError):  # noqa: N818
    """The exchange was sound but the device flags its value, or the value is impossible. Never use it; ask again."""
