"""Starts the service on the embedded models, makes pictures over gRPC, stops it: `make demo`.

Writes generated pictures, a filled one and a sheet of them all to build/demo, and the server's log
beside them. The sheet is opened where there is a desktop.
Exits with 1, and shows the end of the log, when anything goes wrong.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from PIL import Image, ImageDraw

from darkroom_client import Client, DarkroomError, Generation
from darkroom_client.health import Health
from examples.sheet import Captioned, draw_sheet, show

REPOSITORY = Path(__file__).parents[1]
OUT = REPOSITORY / "build" / "demo"
LOG = OUT / "server.log"

PROMPTS = {
    "dog": "a dog on a yellow background",
    "pizzas": "two pizzas on a blue background",
    "landscape": "a sunset over the sea",
}
FILL_PROMPT = "a cat on a yellow background"
SEED = 7

#: A busy machine may take minutes.
START_TIMEOUT_S = 600.0
STOP_TIMEOUT_S = 30.0
#: How often a wait says that it still goes on.
REPORT_EVERY_S = 5.0


class DemoError(Exception):
    """Something that the demo promises did not happen."""


def main() -> int:
    """Runs the demo; the exit code."""
    OUT.mkdir(parents=True, exist_ok=True)
    LOG.unlink(missing_ok=True)
    try:
        port, http_port = free_ports(2)
        with server(port, http_port) as process, Client(f"127.0.0.1:{port}", timeout=120) as client:
            wait_until_serving(client, process)
            sheet = write_sheet(make_pictures(client))
            stop(process)
    except (DemoError, DarkroomError, OSError) as error:
        say(f"failed: {error}")
        show_log()
        return 1
    is_shown = show(sheet)
    where = sheet.relative_to(REPOSITORY)
    say(f"done: all of them side by side are {where}" + (", which opens now" if is_shown else ""))
    say("next: `make serve`, and its page in a browser")
    return 0


def free_ports(count: int) -> list[int]:
    """Ports that nothing listened on a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def server(grpc_port: int, http_port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The service as a process of its own; whatever happens, it does not outlive the block."""
    command = [
        str(Path(sys.executable).with_name("darkroom")),
        "serve",
        *("--model-repository", str(REPOSITORY / "model_repo")),
        *("--default-model", "tiny-sdxl"),
        *("--grpc-port", str(grpc_port)),
        *("--http-port", str(http_port)),
    ]
    say(f"starting the service on 127.0.0.1:{grpc_port}")
    with LOG.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_serving(client: Client, process: subprocess.Popen[bytes]) -> None:
    """Returns once the server's health is SERVING. Raises DemoError when that takes too long."""
    began_s = time.monotonic()
    report_s = REPORT_EVERY_S
    while (waited_s := time.monotonic() - began_s) < START_TIMEOUT_S:
        if process.poll() is not None:
            raise DemoError(f"the server ended with exit code {process.returncode}")
        if is_serving(client):
            say(f"the models are loaded, after {waited_s:.1f} s")
            return
        if waited_s >= report_s:
            say(f"waiting for the models to load ... {waited_s:.0f} s")
            report_s += REPORT_EVERY_S
        time.sleep(0.2)
    raise DemoError(f"the server was not ready after {START_TIMEOUT_S:.0f} s")


def is_serving(client: Client) -> bool:
    """Whether the server is there and ready."""
    try:
        return client.health(timeout=2.0) is Health.SERVING
    except DarkroomError:
        return False


def make_pictures(client: Client) -> list[Captioned]:
    """Three pictures from words, then one of them with its middle repainted."""
    made = []
    for name, prompt in PROMPTS.items():
        began_s = time.monotonic()
        generation = client.generate(prompt, seed=SEED)
        write(generation, OUT / f"{name}.png", f'"{prompt}"', time.monotonic() - began_s)
        made.append(Captioned(OUT / f"{name}.png", prompt))
    mask = OUT / "mask.png"
    middle_mask(OUT / "dog.png").save(mask)
    began_s = time.monotonic()
    generation = client.fill(OUT / "dog.png", mask, FILL_PROMPT, seed=SEED, preserve_unmasked=True)
    write(generation, OUT / "fill.png", f'fill: "{FILL_PROMPT}"', time.monotonic() - began_s)
    made += [
        Captioned(mask, "a mask over the first: white is repainted"),
        Captioned(OUT / "fill.png", f"filled: {FILL_PROMPT}"),
    ]
    return made


def write_sheet(pictures: list[Captioned]) -> Path:
    """All pictures on one sheet, as a file."""
    path = OUT / "sheet.png"
    draw_sheet(pictures, len(pictures)).save(path)
    return path


def middle_mask(path: Path) -> Image.Image:
    """A mask for the image at `path`: white, to be repainted, in the middle; black around it."""
    with Image.open(path) as image:
        width_px, height_px = image.size
    mask = Image.new("L", (width_px, height_px), 0)
    box = (width_px // 8, height_px // 8, width_px * 7 // 8 - 1, height_px * 7 // 8 - 1)
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    return mask


def write(generation: Generation, path: Path, what: str, took_s: float) -> None:
    """Writes the one image of a call, and says so."""
    image = generation.images[0]
    image.save(path)
    where = path.relative_to(REPOSITORY)
    say(f"{where}  {image.width_px}x{image.height_px}  {took_s:.2f} s  {what}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Sends SIGTERM. Raises DemoError unless the server then ends well, in time."""
    process.send_signal(signal.SIGTERM)
    try:
        exit_code = process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise DemoError(f"the server did not stop in {STOP_TIMEOUT_S:.0f} s") from None
    if exit_code != 0:
        raise DemoError(f"the server stopped with exit code {exit_code}")
    say("the service stopped cleanly")


def show_log(line_count: int = 30) -> None:
    """The end of the server's log."""
    lines = LOG.read_text(errors="replace").splitlines() if LOG.exists() else []
    say(f"the last lines of {LOG.relative_to(REPOSITORY)}:")
    for line in lines[-line_count:]:
        print(f"  | {line}", flush=True)


def say(text: str) -> None:
    """One line of the demo's own."""
    print(f"demo: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
