"""``streamchar demo``: a whole simulated night on one machine, from shutter to subscriber."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
import webbrowser
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table

from streamchar.dashboard.follow import follow
from streamchar.dashboard.night import Night, Row
from streamchar.dashboard.terminal import figure, render
from streamchar.errors import StreamcharError
from streamchar.frozen import frozen

START_TIMEOUT = 60.0
"""Seconds a process may take to say that it is ready."""
SETTLE_SECONDS = 2.0
"""Seconds without a new message after which the accounts are closed, so that repeats would show."""

GRADE_LIMITS = {
    "grades.default.seeing": "{yellow = 1.0, orange = 1.25, red = 1.6}",
    "grades.default.star_e_median": "{yellow = 0.08, orange = 0.15, red = 0.25}",
}
"""What the simulated observatory calls good: seeing in arcseconds, ellipticity of the stars."""

INTERRUPTED = 130
"""Exit code after a signal."""
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class DemoError(StreamcharError):
    """A process of the demo did not do its part."""

    code = "demo"
    template = "{process} {detail}; its log is {log}"


@frozen
class Plan:
    """What the demo is asked to do."""

    directory: Path
    duration: float
    cadence: float
    workers: int
    seed: int
    fault_rate: float
    finish_within: float
    kill_broker_after: float | None
    port: int
    page_port: int
    open_page: bool


def demo(
    duration: Annotated[float, typer.Option(min=1, help="Length of the night in seconds.")] = 60.0,
    cadence: Annotated[
        float, typer.Option(min=0.5, help="Seconds between exposures of all four detectors.")
    ] = 5.0,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    seed: Annotated[int, typer.Option(help="The same seed gives the same night.")] = 1,
    fault_rate: Annotated[
        float,
        typer.Option(min=0, max=1, help="Fraction of files that are truncated, missing or full of NaN."),
    ] = 0.05,
    directory: Annotated[
        Path | None,
        typer.Option(help="Keep exposures, logs and broker data here; a temporary directory otherwise."),
    ] = None,
    kill_broker_after: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Kill the broker with SIGKILL then, and start it again."),
    ] = None,
    finish_within: Annotated[
        float, typer.Option(min=1, help="Seconds after the night in which everything must be finished.")
    ] = 120.0,
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="Port of the broker; any free one with 0, or when it is taken."),
    ] = 9092,
    page_port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, help="Port of the live page; any free one with 0, or when it is taken."
        ),
    ] = 8751,
    open_page: Annotated[bool, typer.Option("--open", help="Open the live page in a browser.")] = False,
) -> None:
    """Run a simulated night: broker, camera, service, live table and live page; then settle the accounts.

    Exit code 0 only if every announced event ended in exactly one status and every process ended cleanly.

    Example: streamchar demo --duration 30 --kill-broker-after 10
    """
    with tempfile.TemporaryDirectory(prefix="streamchar-demo-") as temporary:
        place = (directory or Path(temporary)).resolve()
        place.mkdir(parents=True, exist_ok=True)
        plan = Plan(
            place,
            duration,
            cadence,
            workers,
            seed,
            fault_rate,
            finish_within,
            kill_broker_after,
            port,
            page_port,
            open_page,
        )
        raise typer.Exit(asyncio.run(_run_until_told(plan, Console())))


async def _run_until_told(plan: Plan, console: Console) -> int:
    """Run the demo; a signal, or the end of the terminal, stops its processes and removes its files before it ends."""
    running, loop = asyncio.ensure_future(_run(plan, console)), asyncio.get_running_loop()
    for number in _STOPS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup wants it
            # Once: a second one would cut off the stopping.
            loop.add_signal_handler(number, lambda: running.cancelling() or running.cancel())
    try:
        return await running
    except asyncio.CancelledError:
        # All is stopped but this process, which has files to remove; the loop's handlers end before it does.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        console.print("[bold yellow]interrupted[/]: the night was not accounted for")
        return INTERRUPTED


async def _run(plan: Plan, console: Console) -> int:
    night = Night()
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(
            _process("broker", plan, *_broker_command(plan, _free(plan.port)))
        )
        bootstrap = _address(await broker.line_with("listening on"))
        console.print(f"broker on {bootstrap}; files and logs in {plan.directory}", highlight=False)
        service = await stack.enter_async_context(
            _process("service", plan, *_service_command(plan, bootstrap))
        )
        metrics = _address_of_metrics(await service.line_with("metrics on http"))
        await service.line_with("ready")
        page = await stack.enter_async_context(
            _process("page", plan, *_page_command(plan, bootstrap, metrics))
        )
        address = (await page.line_with("live page on")).rpartition(" ")[2]
        console.print(f"[bold]live page on {address}[/]", highlight=False)
        if plan.open_page:
            webbrowser.open(address)
        camera = await stack.enter_async_context(_process("camera", plan, *_camera_command(plan, bootstrap)))
        if plan.kill_broker_after is not None:
            restart = asyncio.create_task(_kill_and_restart(plan, broker, bootstrap, stack))
            stack.push_async_callback(_cancelled, restart)
        await _watch(plan, bootstrap, night, camera, service, console, f"live page on {address}")
        camera_code = await camera.process.wait()
        service.process.send_signal(signal.SIGTERM)
        service_code = await asyncio.wait_for(service.process.wait(), plan.finish_within)
    failures = _failures(night, camera_code, service_code)
    console.print()
    console.print(_summary(night, plan))
    for failure in failures:
        console.print(f"[bold red]not accounted for:[/] {failure}", highlight=False)
    if not failures:
        console.print(
            f"[bold green]All {night.announced} events accounted for[/]: one status each, none lost, none repeated."
        )
    return int(bool(failures))


async def _watch(
    plan: Plan, bootstrap: str, night: Night, camera: _Child, service: _Child, console: Console, title: str
) -> None:
    """Show the night until the camera is done and every event has its status, or time is up."""
    deadline = time.monotonic() + plan.duration + START_TIMEOUT + plan.finish_within
    last_message = time.monotonic()
    with Live(render(night, title=title), console=console, refresh_per_second=4) as live:
        async for message in follow(bootstrap):
            if message is not None:
                night.add(message)
                last_message = time.monotonic()
                continue
            live.update(render(night, title=title))
            finished = camera.process.returncode is not None and night.announced and not night.missing
            if finished and time.monotonic() - last_message > SETTLE_SECONDS:
                return
            if service.process.returncode is not None:
                raise DemoError(process="service", detail="ended early", log=str(service.log))
            if time.monotonic() > deadline:
                return


async def _kill_and_restart(plan: Plan, broker: _Child, bootstrap: str, stack: AsyncExitStack) -> None:
    assert plan.kill_broker_after is not None
    await asyncio.sleep(plan.kill_broker_after)
    broker.process.kill()
    await broker.process.wait()
    port = int(bootstrap.rsplit(":", 1)[-1])
    again = await stack.enter_async_context(_process("broker", plan, *_broker_command(plan, port)))
    await again.line_with("listening on")


def _free(port: int) -> int:
    """Return the port when nobody listens there, and 0 otherwise."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def _address(line: str) -> str:
    return line.split("listening on ", 1)[1].split()[0].rstrip(",")


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _address_of_metrics(line: str) -> str:
    """Read the address from the line of the service's log that names its port."""
    address = line.partition("http://")[2].partition('"')[0].split()[0]
    return f"http://{address}/metrics"


def _broker_command(plan: Plan, port: int) -> tuple[str, ...]:
    return "streamchar.broker", "--port", str(port), "--data-dir", str(plan.directory / "broker")


def _service_command(plan: Plan, bootstrap: str) -> tuple[str, ...]:
    settings = {
        "kafka.bootstrap": bootstrap,
        "workers.count": plan.workers,
        "fetch.roots": f'["{plan.directory / "exposures"}"]',
        "http.port": 0,
        "retry.in_process": 1,
        "retry.rounds": 0,
        "store.uri": _thumbnails(plan),
        "store.exposures": "false",
        **GRADE_LIMITS,
    }
    return (
        "streamchar.cli",
        "serve",
        *(word for key, value in settings.items() for word in ("-c", f"{key}={value}")),
    )


def _page_command(plan: Plan, bootstrap: str, metrics: str) -> tuple[str, ...]:
    return (
        "streamchar.cli",
        "dashboard",
        "--bootstrap",
        bootstrap,
        "--port",
        str(_free(plan.page_port)),
        "--metrics",
        metrics,
        "-c",
        f'dashboard.roots=["{_thumbnails(plan)}"]',
    )


def _thumbnails(plan: Plan) -> Path:
    return plan.directory / "thumbnails"


def _camera_command(plan: Plan, bootstrap: str) -> tuple[str, ...]:
    options = {
        "--output": plan.directory / "exposures",
        "--bootstrap": bootstrap,
        "--duration": plan.duration,
        "--cadence": plan.cadence,
        "--seed": plan.seed,
        "--fault-rate": plan.fault_rate,
    }
    return (
        "streamchar.cli",
        "telescope",
        *(word for key, value in options.items() for word in (key, str(value))),
    )


@dataclass(slots=True)
class _Child:
    """A process of the demo: its output goes line by line into a log and can be waited for."""

    name: str
    log: Path
    process: asyncio.subprocess.Process
    lines: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)

    async def line_with(self, words: str) -> str:
        """Wait for a line of output that contains ``words``.

        Raises
        ------
        DemoError
            When the process ends or the time is up before that.
        """
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while (line := await self.lines.get()) is not None:
                    if words in line:
                        return line.strip()
        except TimeoutError:
            raise DemoError(
                process=self.name, detail=f"did not say '{words}' in time", log=str(self.log)
            ) from None
        raise DemoError(process=self.name, detail=f"ended before it said '{words}'", log=str(self.log))

    async def copy_output(self) -> None:
        """Copy the output into the log until the process closes it."""
        assert self.process.stdout is not None
        with self.log.open("ab") as log:
            async for line in self.process.stdout:
                log.write(line)
                log.flush()
                self.lines.put_nowait(line.decode(errors="replace"))
        self.lines.put_nowait(None)


@asynccontextmanager
async def _process(name: str, plan: Plan, module: str, *arguments: str) -> AsyncIterator[_Child]:
    """Run ``python -m module``; at the end ask it to stop, and insist when it does not."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        limit=1 << 20,
    )
    child = _Child(name, plan.directory / f"{name}.log", process)
    copying = asyncio.create_task(child.copy_output())
    try:
        yield child
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 30)
            except TimeoutError:
                process.kill()
                await process.wait()
        await copying


def _failures(night: Night, camera_code: int, service_code: int) -> list[str]:
    """Everything that keeps the night from being accounted for."""
    named = [
        ("without a status", night.missing),
        ("with more than one status", night.repeated),
        ("with a status though never announced", night.unannounced),
    ]
    failures = [f"{len(events)} events {what}: {', '.join(events[:5])}" for what, events in named if events]
    failures += [
        f"the {name} ended with exit code {code}"
        for name, code in (("camera", camera_code), ("service", service_code))
        if code
    ]
    if not night.announced:
        failures.append("no event was announced")
    return failures


def _summary(night: Night, plan: Plan) -> Table:
    table = Table(title="The night", show_header=False, box=SIMPLE_HEAD)
    latencies, ratios = night.latencies, _fwhm_ratios(night, plan.directory / "exposures")
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(night.outcomes.items()))
    for name, value in (
        ("events announced", str(night.announced)),
        ("statuses received", f"{sum(night.outcomes.values())} ({outcomes})"),
        ("latency, announced to published", _range(latencies, "s")),
        ("PSF FWHM, measured over true", _agreement(ratios)),
    ):
        table.add_row(name, value)
    return table


def _range(values: list[float], unit: str) -> str:
    return (
        f"median {median(values):.2f} {unit}, maximum {max(values):.2f} {unit}" if values else figure(None, 0)
    )


def _agreement(ratios: list[float]) -> str:
    if not ratios:
        return figure(None, 0)
    return (
        f"median {median(ratios):.4f}, range {min(ratios):.4f} to {max(ratios):.4f}, {len(ratios)} exposures"
    )


def _fwhm_ratios(night: Night, exposures: Path) -> list[float]:
    """Measured over true FWHM at the centre of each detector."""
    truths = {path.name.removesuffix(".truth.fits"): path for path in exposures.glob("*.truth.fits")}
    return [ratio for row in night.rows.values() if (ratio := _fwhm_ratio(row, truths)) is not None]


def _fwhm_ratio(row: Row, truths: dict[str, Path]) -> float | None:
    from streamchar.characterize.psf.width import effective_fwhm
    from streamchar.telescope.truth import read_truth

    quality = row.quality
    if row.key is None or quality.psf_fwhm is None:
        return None
    instrument, exposure, detector = row.key
    path = truths.get(f"{instrument}-{exposure:06d}-{detector:02d}")
    if path is None or quality.width is None or quality.height is None:
        return None
    center = 0.5 * (quality.width - 1), 0.5 * (quality.height - 1)
    true_image = read_truth(path).psf.kernel_images(*center)[0]
    return quality.psf_fwhm / effective_fwhm(true_image)
