"""Names to drivers, and what an import of the package costs."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from drivers import catalog
from drivers.barrier.gpio import GpioBarrier
from drivers.barrier.wiring import BarrierWiring, RelayWire
from drivers.catalog import Shelf, UnknownDriver
from drivers.errors import DeviceMissing, DeviceRefused
from drivers.ports import BarrierPort, CodeReader, DisplayPort, Relay, Thermometer
from drivers.reader.qr import QrReader
from drivers.reader.rdm6300 import Rdm6300Reader
from drivers.sim.board import SimBoard
from drivers.thermometer.mlx90614 import Mlx90614

WIRING = BarrierWiring({Relay.OPEN: RelayWire(17), Relay.CLOSE: RelayWire(18)})


def test_every_name_makes_its_driver() -> None:
    shelf = Shelf()
    thermometer: Thermometer = shelf.thermometer("mlx90614", bus=1, address=0x5A)
    assert isinstance(thermometer, Mlx90614)
    readers: dict[str, CodeReader] = {
        name: shelf.reader(name, url="/dev/menwei-reader-1", baud=9600) for name in catalog.READERS
    }
    assert isinstance(readers["gm65"], QrReader)
    assert isinstance(readers["serial-text"], QrReader)
    assert isinstance(readers["rdm6300"], Rdm6300Reader)
    barrier: BarrierPort = shelf.barrier("gpio", wiring=WIRING, chip=None, name="barrier-walk")
    assert isinstance(barrier, GpioBarrier)
    displays: list[DisplayPort] = [shelf.display(name, name="walk") for name in catalog.DISPLAYS]
    assert len(displays) == 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda shelf: shelf.thermometer("thermo9000", bus=1, address=1), "thermometer driver 'thermo9000'.*mlx90614"),
        (lambda shelf: shelf.reader("x", url="y", baud=1), "reader driver 'x'.*gm65, serial-text, rdm6300"),
        (lambda shelf: shelf.barrier("x", wiring=WIRING, chip=None, name="y"), "barrier driver 'x'.*gpio"),
        (lambda shelf: shelf.display("x", name="y"), "display driver 'x'.*none, console"),
    ],
)
def test_an_unknown_name_lists_the_known_ones(make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(UnknownDriver, match=words):
        make(Shelf())


async def test_lanes_of_one_chip_share_its_pins() -> None:
    boards: list[int | None] = []

    def pins(chip: int | None) -> SimBoard:
        boards.append(chip)
        return SimBoard()

    shelf = Shelf(pins=pins)
    first = shelf.barrier("gpio", wiring=WIRING, chip=None, name="one")
    second = shelf.barrier("gpio", wiring=WIRING, chip=None, name="two")
    other_chip = shelf.barrier("gpio", wiring=WIRING, chip=3, name="three")
    assert boards == [None, 3]
    await first.open(lambda _: None)
    with pytest.raises(DeviceRefused, match="already in use"):
        await second.open(lambda _: None)
    await other_chip.open(lambda _: None)
    for barrier in (first, second, other_chip):
        await barrier.close()


@pytest.mark.skipif(any(Path("/dev").glob("gpiochip*")), reason="this machine has GPIO")
async def test_the_machines_own_chip_is_missing_where_there_is_none() -> None:
    barrier = Shelf().barrier("gpio", wiring=WIRING, chip=None, name="barrier-walk")
    with pytest.raises(DeviceMissing, match="is this a Raspberry Pi"):
        await barrier.open(lambda _: None)
    with pytest.raises(DeviceMissing):
        barrier.levels()
    await barrier.close()


def test_importing_and_naming_drivers_loads_no_hardware_library() -> None:
    script = (
        "import sys; from drivers.catalog import Shelf; import drivers.barrier.gpio, drivers.sim.time;"
        "from drivers.barrier.wiring import *; from drivers.ports import Relay;"
        "Shelf().barrier('gpio', wiring=BarrierWiring({Relay.OPEN: RelayWire(1), Relay.CLOSE: RelayWire(2)}),"
        " chip=None, name='x'); Shelf().thermometer('mlx90614', bus=1, address=90);"
        "print(sorted({'gpiozero', 'lgpio', 'smbus2'} & sys.modules.keys()))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


async def test_the_console_display_says_each_text_once(caplog: pytest.LogCaptureFixture) -> None:
    display = Shelf().display("console", name="walk")
    assert (await display.open()).model == "console"
    with caplog.at_level(logging.INFO):
        for lines in (("请出示通行证", "show your pass"), ("请出示通行证", "show your pass"), ("请通行", "go")):
            await display.show(lines)
        await display.close()
        await display.show(("请通行", "go"))
    said = [record.__dict__["fields"]["text"] for record in caplog.records if record.message == "display"]
    assert said == ["请出示通行证 / show your pass", "请通行 / go", "请通行 / go"]


async def test_no_display_takes_everything() -> None:
    display = Shelf().display("none", name="walk")
    await display.open()
    await display.show(("anything",))
    await display.close()
    await display.close()
