"""Strict stand-in for Deadline.Scripting: what the manual's scripting reference lists, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path


class RepositoryUtils:
    mappings: tuple[tuple[str, str], ...] = ()
    """(prefix on the submitting machine, prefix here): one way only, prefixes end with a separator."""

    @staticmethod
    def CheckPathMapping(path):
        for source, target in RepositoryUtils.mappings:
            assert source.endswith(("/", "\\")), "the manual: end paths with a separator"
            if path.lower().startswith(source.lower()):
                return target + path[len(source) :]
        return path


class FileUtils:
    @staticmethod
    def SearchFileList(listed):
        names = [name.strip() for name in listed.replace("\n", ";").split(";")]
        return next((name for name in names if name and Path(name).is_file()), "")


class SystemUtils:
    @staticmethod
    def IsRunningOnWindows():
        return sys.platform == "win32"


class ClientUtils:
    command = ""
    """Whole path of the stand-in for deadlinecommand."""

    @staticmethod
    def GetDeadlineTempPath():
        return tempfile.mkdtemp(prefix="deadline-temp-")

    @staticmethod
    def ExecuteCommandAndGetOutput(arguments):
        assert isinstance(arguments, tuple), "Python.NET takes a tuple for a string array"
        assert all(isinstance(word, str) for word in arguments)
        return subprocess.run([ClientUtils.command, *arguments], capture_output=True, text=True, check=False).stdout
