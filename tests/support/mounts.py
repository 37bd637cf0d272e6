"""Disks that are full, and folders that cannot be written, also for root."""

import os
import subprocess
from contextlib import contextmanager

import pytest


def _mount(*words):
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


def _unmount(folder):
    subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def small_disk(folder, megabytes):
    """A disk of its own at a folder; yields a function that gives it another size in MB."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder)
    try:
        yield lambda size: _mount("-o", f"remount,size={size}m", folder)
    finally:
        _unmount(folder)


@contextmanager
def read_only(folder):
    """A folder where nothing can be written, by a mount for root and by permissions for others."""
    if os.geteuid() != 0:
        mode = folder.stat().st_mode
        folder.chmod(0o555)
        yield
        folder.chmod(mode)
        return
    _mount("--bind", folder, folder)
    try:
        _mount("-o", "remount,bind,ro", folder)
        yield
    finally:
        _unmount(folder)
