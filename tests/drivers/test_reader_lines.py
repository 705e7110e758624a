import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drivers.errors import DeviceMissing, DeviceRefused
from drivers.ports import BadScan, CodeReader, Medium, Scan, ScanProblem
from drivers.reader.framing import LineEnd
from drivers.reader.gm65 import Zone
from drivers.reader.qr import QrReader
from drivers.reader.rdm6300 import Rdm6300Reader
from drivers.sim.readers import Make, SimSerialReader
from drivers.sim.serial_line import Manner

DEADLINE_S = 5.0
IDLE_END_S = 0.2  # longer than the real 50 ms: a busy test machine makes pauses of its own
PASS = b"6BF+70790T9WJWG.FKY*4GO0.O1CV2 O5 N2FBBRW1*70HS8WY04AC*WIFN0AHCD8KD97TK0F90KECTHGWJC0FDC:5AIA%G7X+A "
TAG, OTHER_TAG = b"100086F444", b"13005D1DA5"


def qr_text(url: str) -> CodeReader:
    return QrReader(url)


def qr_framed(url: str) -> CodeReader:
    return QrReader(url, framed=True)


def qr_plain(url: str) -> CodeReader:
    return QrReader(url, configure=False)


def qr_silent_end(url: str) -> CodeReader:
    return QrReader(url, configure=False, line_end=LineEnd.SILENCE, idle_end_s=IDLE_END_S)


def card(url: str) -> CodeReader:
    return Rdm6300Reader(url)


# make, terminator, driver, two codes
SETUPS = {
    "gm65-text": (Make.GM65_TEXT, b"\r", qr_text, PASS, b"SECOND"),
    "gm65-framed": (Make.GM65_FRAMED, b"", qr_framed, PASS, b"SECOND"),
    "plain-cr": (Make.GM65_TEXT, b"\r", qr_plain, PASS, b"SECOND"),
    "plain-lf": (Make.GM65_TEXT, b"\n", qr_plain, PASS, b"SECOND"),
    "plain-crlf": (Make.GM65_TEXT, b"\r\n", qr_plain, PASS, b"SECOND"),
    "plain-none": (Make.GM65_TEXT, b"", qr_silent_end, PASS, b"SECOND"),
    "rdm6300": (Make.RDM6300, b"", card, TAG, OTHER_TAG),
}


@asynccontextmanager
async def opened(
    make: Make, terminator: bytes, driver: Callable[[str], CodeReader], directory: Path, manner: Manner = Manner.PERFECT
) -> AsyncIterator[tuple[SimSerialReader, CodeReader]]:
    simulated = SimSerialReader(make, directory=directory, terminator=terminator, manner=manner)
    reader = driver(simulated.url)
    try:
        async with asyncio.timeout(DEADLINE_S):
            await reader.open()
        yield simulated, reader
    finally:
        await reader.close()
        simulated.close()


async def read(reader: CodeReader) -> Scan | BadScan:
    async with asyncio.timeout(DEADLINE_S):
        return await reader.read()


def exists(url: str) -> bool:
    return Path(url).exists()


def scan(make: Make, code: bytes) -> Scan:
    return Scan(code, Medium.EM4100 if make is Make.RDM6300 else Medium.QR)


@pytest.mark.parametrize("manner", [Manner.PERFECT, Manner.ONE_BYTE, Manner.MERGED])
@pytest.mark.parametrize("setup", SETUPS)
async def test_codes_are_read_exactly(setup: str, manner: Manner, tmp_path: Path):
    make, terminator, driver, first, second = SETUPS[setup]
    async with opened(make, terminator, driver, tmp_path, manner) as (simulated, reader):
        simulated.present(first)
        if manner is Manner.MERGED and terminator:
            simulated.present(second)
            assert [await read(reader), await read(reader)] == [scan(make, first), scan(make, second)]
        else:
            assert await read(reader) == scan(make, first)
            simulated.present(second)
            assert await read(reader) == scan(make, second)
        assert simulated.dropped == 0


@pytest.mark.parametrize("manner", [Manner.LOSSY, Manner.NOISY])
@pytest.mark.parametrize("setup", SETUPS)
async def test_a_bad_line_never_raises_and_the_good_code_after_it_is_read(setup: str, manner: Manner, tmp_path: Path):
    make, terminator, driver, first, second = SETUPS[setup]
    async with opened(make, terminator, driver, tmp_path) as (simulated, reader):
        simulated.line.manner = manner
        for _ in range(3):
            simulated.present(first, hold_s=0.1)
        assert isinstance(await read(reader), Scan | BadScan)
        simulated.line.manner = Manner.PERFECT
        for _ in range(20):  # what the bad line left behind comes first; the person shows the code again
            simulated.present(second)
            while isinstance(got := await read(reader), BadScan):
                assert got.problem in set(ScanProblem)
            if got == scan(make, second):
                return
        pytest.fail("the good code was never read")


@pytest.mark.parametrize("manner", [Manner.ONE_BYTE, Manner.MERGED, Manner.NOISY, Manner.LOSSY])
@pytest.mark.parametrize("framed", [False, True])
async def test_a_module_as_shipped_is_set_up_over_a_bad_line(framed: bool, manner: Manner, tmp_path: Path):
    simulated = SimSerialReader("gm65-text", directory=tmp_path, manner=manner, as_shipped=True)
    simulated.line.loss = 0.02  # three tries of a seven-byte answer live with that
    simulated.present(b"NOT YET")
    reader = QrReader(simulated.url, framed=framed)
    async with asyncio.timeout(DEADLINE_S):
        await reader.open()
    zones = simulated.module.zones
    assert [zones[z] for z in (Zone.MODE, Zone.OUTPUT, Zone.INTERFACE, Zone.TAIL)] == [
        0xD6,
        0x01,
        0xA0,
        0x81 if framed else 0x01,
    ]
    simulated.line.manner = Manner.PERFECT
    await reader.close()
    await reader.open()
    simulated.present(PASS)
    while (got := await read(reader)) != Scan(PASS, Medium.QR):
        assert isinstance(got, BadScan)
    await reader.close()
    simulated.close()


async def test_codes_shown_during_set_up_are_not_lost(tmp_path: Path):
    simulated = SimSerialReader("gm65-text", directory=tmp_path, manner=Manner.ONE_BYTE)
    reader = QrReader(simulated.url)
    opening = asyncio.create_task(reader.open())
    async with asyncio.timeout(DEADLINE_S):
        while not simulated.line._queue:  # the first reply is on its way
            await asyncio.sleep(0)
        simulated.present(PASS)
        info = await opening
    assert (info.model, info.place, info.integrity) == ("GM65", str(tmp_path / "reader"), "signature-only")
    assert await read(reader) == Scan(PASS, Medium.QR)
    await reader.close()
    simulated.close()


async def test_a_silent_module_is_missing_and_a_deaf_setting_is_refused(tmp_path: Path):
    simulated = SimSerialReader("gm65-text", directory=tmp_path)
    simulated.module.ignored_zones = {Zone.TAIL}
    with pytest.raises(DeviceRefused, match=r"0060 reads back 01 instead of 81.*plain driver"):
        await QrReader(simulated.url, framed=True).open()
    simulated.mute = True
    with pytest.raises(DeviceMissing, match="nothing answers like a GM65"):
        await QrReader(simulated.url).open()
    simulated.close()


async def test_a_module_that_stops_answering_behind_a_uart_is_missed(tmp_path: Path):
    simulated = SimSerialReader("gm65-text", directory=tmp_path)
    reader = QrReader(simulated.url, heartbeat_s=0.05)
    await reader.open()
    with pytest.raises(TimeoutError):  # well: ten heartbeats are answered, nothing is read
        async with asyncio.timeout(0.5):
            await reader.read()
    simulated.present(PASS)
    assert await read(reader) == Scan(PASS, Medium.QR)
    simulated.mute = True
    with pytest.raises(DeviceMissing, match="no longer answers"):
        await read(reader)
    await reader.close()
    simulated.close()


@pytest.mark.parametrize("setup", SETUPS)
async def test_unplug_is_missing_and_replug_works_under_the_same_path(setup: str, tmp_path: Path):
    make, terminator, driver, first, second = SETUPS[setup]
    async with opened(make, terminator, driver, tmp_path) as (simulated, reader):
        url = simulated.url
        waiting = asyncio.create_task(read(reader))
        await asyncio.sleep(0)
        simulated.unplug()
        with pytest.raises(DeviceMissing, match="gone"):
            await waiting
        with pytest.raises(DeviceMissing):
            await read(reader)
        await reader.close()
        with pytest.raises(DeviceMissing, match="plug the reader in"):
            await reader.open()
        simulated.replug()
        assert simulated.url == url
        await reader.open()
        simulated.present(second)
        assert await read(reader) == scan(make, second)
        assert first != second


async def test_what_came_before_the_unplug_is_still_read(tmp_path: Path):
    async with opened(*SETUPS["plain-cr"][:3], tmp_path) as (simulated, reader):
        simulated.present(PASS)
        assert await read(reader) == Scan(PASS, Medium.QR)
        simulated.present(b"A")
        simulated.present(b"B")
        async with asyncio.timeout(DEADLINE_S):
            while b"".join(chunk.data for chunk in reader._port._chunks) != b"A\rB\r":
                await asyncio.sleep(0.001)
        simulated.unplug()
        assert [await read(reader), await read(reader)] == [Scan(b"A", Medium.QR), Scan(b"B", Medium.QR)]
        with pytest.raises(DeviceMissing):
            await read(reader)


async def test_cancelling_a_read_loses_nothing(tmp_path: Path):
    async with opened(*SETUPS["plain-none"][:3], tmp_path, Manner.ONE_BYTE) as (simulated, reader):
        simulated.present(PASS)
        got: list[Scan | BadScan] = []
        async with asyncio.timeout(DEADLINE_S):
            while not got:
                reading = asyncio.create_task(reader.read())
                await asyncio.wait([reading], timeout=0.003)
                reading.cancel()
                await asyncio.wait([reading])
                got += [] if reading.cancelled() else [reading.result()]
        assert got == [Scan(PASS, Medium.QR)]


async def test_codes_without_terminator_that_nobody_fetched_stay_apart(tmp_path: Path):
    async with opened(*SETUPS["plain-none"][:3], tmp_path) as (simulated, reader):
        for code in (b"A", b"B"):
            simulated.present(code)
            seen = len(reader._port._chunks)
            async with asyncio.timeout(DEADLINE_S):
                while len(reader._port._chunks) == seen:
                    await asyncio.sleep(0.001)
            silent_until_s = asyncio.get_running_loop().time() + 1.1 * IDLE_END_S
            while asyncio.get_running_loop().time() < silent_until_s:
                await asyncio.sleep(0.01)
        assert [await read(reader), await read(reader)] == [Scan(b"A", Medium.QR), Scan(b"B", Medium.QR)]


async def test_a_stalled_loop_does_not_tear_a_code_apart(tmp_path: Path):
    async with opened(*SETUPS["plain-none"][:3], tmp_path) as (simulated, reader):
        reading = asyncio.create_task(read(reader))
        simulated.line._write(PASS[:40])
        async with asyncio.timeout(DEADLINE_S):
            while reader._line._framer.patience_s is None:
                await asyncio.sleep(0)
        simulated.line._write(PASS[40:])
        stalled_until_s = time.monotonic() + 2 * IDLE_END_S
        while time.monotonic() < stalled_until_s:
            pass
        assert await reading == Scan(PASS, Medium.QR)


async def test_ten_kilobytes_are_one_complaint(tmp_path: Path):
    async with opened(*SETUPS["gm65-text"][:3], tmp_path) as (simulated, reader):
        simulated.present(b"x" * 10_000)
        simulated.present(PASS)
        assert await read(reader) == BadScan(ScanProblem.OVERSIZE, 10_000, Medium.QR)
        assert await read(reader) == Scan(PASS, Medium.QR)


async def test_an_unread_stream_is_bounded_and_counted(tmp_path: Path):
    async with opened(*SETUPS["plain-cr"][:3], tmp_path) as (simulated, reader):
        async with asyncio.timeout(DEADLINE_S):
            while not simulated.dropped:
                simulated.line._write(b"y" * 64 + b"\r")
                await asyncio.sleep(0)
        assert len(reader._port._chunks) <= 256
        async with asyncio.timeout(DEADLINE_S):  # and once somebody reads again, codes come again
            simulated.present(PASS)
            while await reader.read() != Scan(PASS, Medium.QR):
                simulated.present(PASS)


async def test_one_line_has_one_user(tmp_path: Path):
    async with opened(*SETUPS["plain-cr"][:3], tmp_path) as (simulated, _):
        with pytest.raises(DeviceRefused, match="another process holds"):
            await QrReader(simulated.url, configure=False).open()


async def test_paths_that_are_no_reader(tmp_path: Path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DeviceRefused, match="no serial line"):
        await QrReader(str(file)).open()
    with pytest.raises(DeviceRefused, match="no serial line"):
        await QrReader(str(tmp_path)).open()
    with pytest.raises(DeviceMissing, match=r"nowhere.*plug the reader in"):
        await QrReader(str(tmp_path / "nowhere")).open()
    with pytest.raises(DeviceRefused, match="correct the reader's url"):
        await QrReader("http://127.0.0.1").open()
    with pytest.raises(DeviceMissing, match="open it first"):
        await QrReader("/dev/null").read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give the permission away")
async def test_no_permission_names_the_group(tmp_path: Path):
    simulated = SimSerialReader("gm65-text", directory=tmp_path)
    os.seteuid(65534)
    try:
        with pytest.raises(DeviceRefused, match="group dialout"):
            await QrReader(simulated.line._path, configure=False).open()
    finally:
        os.seteuid(0)
    simulated.close()


async def test_a_socket_is_a_line_too():
    ends: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _, writer: ends.put_nowait(writer), "127.0.0.1", 0)
    url = f"socket://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    reader = QrReader(url, configure=False)
    assert (await reader.open()).place == url
    writer = await ends.get()
    writer.write(PASS + b"\r\n")
    assert await read(reader) == Scan(PASS, Medium.QR)
    writer.close()
    await writer.wait_closed()
    with pytest.raises(DeviceMissing, match="gone"):
        await read(reader)
    await reader.close()
    server.close()
    await server.wait_closed()
    with pytest.raises(DeviceMissing, match="nothing answers there"):
        await reader.open()


async def test_closing_ends_a_waiting_read(tmp_path: Path):
    async with opened(*SETUPS["plain-cr"][:3], tmp_path) as (_, reader):
        waiting = asyncio.create_task(read(reader))
        await asyncio.sleep(0)
        await reader.close()
        await reader.close()
        with pytest.raises(DeviceMissing, match="closed"):
            await waiting


async def test_an_unplugged_line_drops_and_counts(tmp_path: Path):
    simulated = SimSerialReader("gm65-text", directory=tmp_path)
    assert exists(simulated.url)
    simulated.unplug()
    assert not exists(simulated.url)
    simulated.present(b"AB")
    async with asyncio.timeout(DEADLINE_S):
        while simulated.dropped != 3:
            await asyncio.sleep(0.001)
    simulated.close()
    without_directory = SimSerialReader("rdm6300")
    assert without_directory.url.startswith("/dev/pts/")
    without_directory.close()
