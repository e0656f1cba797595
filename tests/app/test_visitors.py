import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from jamendo_mood.app.network_sharing import SETTINGS_VARIABLE
from jamendo_mood.app.web import TOKEN_VARIABLE, Kernels, OwnPython

PRINT_ENVIRONMENT = (
    "import json, os, sys, tempfile; print(json.dumps([dict(os.environ), tempfile.gettempdir(), sys.executable]))"
)


@pytest.fixture
def make_kernels(tmp_path):
    """A manager of real kernels, for as long as a coroutine runs."""

    def run(coroutine, **options):
        async def whole():
            kernels = Kernels(
                folder=str(tmp_path),
                settings="/private/settings.json",
                connection_dir=str(tmp_path),
                kernel_spec_manager=OwnPython(),
                **options,
            )
            try:
                return await coroutine(kernels)
            finally:
                await kernels.shutdown_all(now=True)

        return asyncio.run(whole())

    return run


async def come(kernels, **env):
    """What the page does for a visitor who finds no warm kernel."""
    kernels.coming += 1
    return await kernels.start_kernel(kernel_name="python3", env={**os.environ, "VOILA_PREHEAT": "False", **env})


async def execute(kernels, kernel_id, source):
    """Run a line in a kernel, and return what it prints."""
    client = kernels.get_kernel(kernel_id).client()
    client.start_channels()
    try:
        printed = []

        def keep(message):
            if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
                printed.append(message["content"]["text"])

        await client.wait_for_ready(timeout=30)
        await client.execute_interactive(source, output_hook=keep, timeout=30)
        return "".join(printed)
    finally:
        client.stop_channels()


def folders(tmp_path):
    return [path for path in tmp_path.iterdir() if path.name.startswith("visitor-")]


def test_a_kernel_has_a_folder_of_its_own_that_goes_with_it_and_no_token(make_kernels, tmp_path):
    async def visit(kernels):
        first = await come(kernels, **{TOKEN_VARIABLE: "sesame"})
        seen, temporary, python = json.loads(await execute(kernels, first, PRINT_ENVIRONMENT))
        (folder,) = folders(tmp_path)
        assert Path(temporary) == folder
        assert folder.stat().st_mode & 0o777 == 0o700
        assert seen[SETTINGS_VARIABLE] == "/private/settings.json"
        assert Path(seen["IPYTHONDIR"]) == folder
        assert "sesame" not in str(seen)
        assert python == sys.executable
        (folder / "upload.mp3").write_bytes(b"a song")
        await kernels.shutdown_kernel(first, now=True)
        assert folders(tmp_path) == []

    make_kernels(visit)


def test_a_place_is_taken_from_the_first_moment_to_the_end_of_the_kernel(make_kernels):
    async def visit(kernels):
        assert not kernels.full
        kernels.coming += 1  # on the way to the second place
        kernel_id = await come(kernels)
        assert kernels.full
        assert kernels.has_visitor(kernel_id)
        kernels.coming -= 1
        assert not kernels.full
        await kernels.shutdown_kernel(kernel_id, now=True)
        assert not kernels.has_visitor(kernel_id)

    make_kernels(visit, places=2)


def test_a_warm_kernel_takes_no_place_until_its_visitor_comes(make_kernels):
    async def visit(kernels):
        warm = await kernels.start_kernel(kernel_name="python3", env={**os.environ, "VOILA_PREHEAT": "True"})
        assert not kernels.has_visitor(warm)
        await kernels.cull_kernel_if_idle(warm)
        assert warm in kernels
        kernels.coming += 1
        kernels.admit(warm)
        assert kernels.has_visitor(warm)
        assert kernels.full

    make_kernels(visit, places=1, cull_idle_timeout=0, grace_s=0.0)


def test_a_kernel_outlives_its_visitor_by_a_moment_of_grace_only(make_kernels):
    async def visit(kernels):
        kernel_id = await come(kernels)
        kernels.notify_connect(kernel_id)
        await kernels.cull_kernel_if_idle(kernel_id)
        assert kernel_id in kernels
        kernels.notify_connect(kernel_id)  # in a second window
        kernels.notify_disconnect(kernel_id)
        await kernels.cull_kernel_if_idle(kernel_id)
        assert kernel_id in kernels
        kernels.notify_disconnect(kernel_id)
        kernels.grace_s = 60.0
        await kernels.cull_kernel_if_idle(kernel_id)
        assert kernel_id in kernels
        kernels.grace_s = 0.0
        await kernels.cull_kernel_if_idle(kernel_id)
        assert kernel_id not in kernels

    make_kernels(visit, cull_idle_timeout=3600, grace_s=0.0)


def test_a_visitor_who_listens_keeps_the_place_and_an_idle_one_loses_it(make_kernels):
    async def visit(kernels):
        kernel_id = await come(kernels)
        kernels.notify_connect(kernel_id)
        kernel = kernels.get_kernel(kernel_id)
        kernel.last_activity = kernel.last_activity.replace(year=2001)
        kernels.touch(kernel_id)
        await kernels.cull_kernel_if_idle(kernel_id)
        assert kernel_id in kernels
        kernel.last_activity = kernel.last_activity.replace(year=2001)
        await kernels.cull_kernel_if_idle(kernel_id)
        assert kernel_id not in kernels

    make_kernels(visit, cull_idle_timeout=3600)


def test_a_kernel_that_died_leaves_its_place(make_kernels, tmp_path):
    async def visit(kernels):
        kernel_id = await come(kernels)
        kernels.notify_connect(kernel_id)
        process = kernels.get_kernel(kernel_id).provisioner.process
        process.kill()
        process.wait()
        await kernels.cull_kernel_if_idle(kernel_id)
        assert not kernels.has_visitor(kernel_id)
        assert folders(tmp_path) == []

    make_kernels(visit, cull_idle_timeout=3600)


def test_a_kernel_that_cannot_start_leaves_nothing(make_kernels, tmp_path):
    async def visit(kernels):
        with pytest.raises(Exception, match="No such kernel named nonsense"):
            await kernels.start_kernel(kernel_name="nonsense", env={})
        kernels._pending_kernels.clear()  # it is kept as one that is still starting
        assert folders(tmp_path) == []

    make_kernels(visit)
