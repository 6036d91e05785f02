"""nginx with the configuration of deploy/nginx, as a process of the test's own."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.check.certificates import Authority, certified
from tests.parts import need

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONFIGURATION = Path(__file__).parents[2] / "deploy/nginx/taxii-server.conf"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

# All that nginx keeps stays in the test's folder; the rest is the configuration that is handed out.
_AROUND = """
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    include {folder}/taxii-server.conf;
}}
"""


def _in_place(text: str, pattern: str, value: str) -> str:
    """Put the test's own in the place of an example; the line must be there, once."""
    changed, times = re.subn(pattern, value, text)
    assert times == 1, pattern
    return changed


@asynccontextmanager
async def nginx(folder: Path, upstream: int) -> AsyncIterator[tuple[str, Authority]]:
    """Run nginx in front of a port of this machine; give its URL, and who signed its certificate."""
    need(NGINX, "nginx")
    authority = Authority(folder)
    chain, key = authority.files(certified("proxy", authority.root))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
    text = CONFIGURATION.read_text("utf-8")
    text = _in_place(text, r"server 127\.0\.0\.1:8000;", f"server 127.0.0.1:{upstream};")
    text = _in_place(text, r"listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;")
    text = _in_place(text, r"ssl_certificate +\S+;", f"ssl_certificate {chain};")
    text = _in_place(text, r"ssl_certificate_key +\S+;", f"ssl_certificate_key {key};")
    (folder / "taxii-server.conf").write_text(text)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(_AROUND.format(folder=folder, user=user))
    with (folder / "stderr").open("wb") as said:
        process = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
            [str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
    try:
        await _answers(process, port, folder)
        yield f"https://127.0.0.1:{port}", authority
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)


async def _answers(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    async with asyncio.timeout(20):
        while True:
            assert process.poll() is None, (folder / "stderr").read_text()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return
