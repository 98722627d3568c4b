"""A stand-in for Deadline's Worker: runs the tasks of a submitted job through the plug-in's real file.

What comes in: a repository folder that `deadlinecommand.py` wrote into. What goes out: each task's status, errors,
progress and environment, in the job's JSON. Tasks run on as many threads as the job allows, each with a plug-in of its
own; a task that fails is tried again until the job's own limit.
"""

from __future__ import annotations

import configparser
import importlib.util
import json
import os
import queue
import subprocess
import threading
from pathlib import Path

from Deadline.Plugins import RenderFailed  # type: ignore[import-not-found]

from tests.fakes import nuke_graph, nuke_script


def split(text: str) -> list[str]:
    """Arguments as a .NET process splits them on Windows: double quotes group, backslashes before one are halved."""
    words, word, quoted, started, index = [], "", False, False, 0
    while index < len(text):
        slashes = len(text[index:]) - len(text[index:].lstrip("\\"))
        after = text[index + slashes : index + slashes + 1]
        if slashes and after == '"':
            word += "\\" * (slashes // 2)
            index += slashes
            if slashes % 2:
                word += '"'
                index += 1
        elif text[index] == '"':
            quoted, started, index = not quoted, True, index + 1
        elif text[index] == " " and not quoted:
            words += [word] if word or started else []
            word, started, index = "", False, index + 1
        else:
            word, index = word + text[index], index + 1
    assert not quoted, f"a quote is left open in {text}"
    return words + ([word] if word or started else [])


class Worker:
    def __init__(self, repository: Path, config: dict[str, str], gpus: tuple[int, ...] = ()) -> None:
        self._repository, self._config, self._gpus = repository, config, gpus
        self._lock = threading.Lock()

    def job(self, identity: str) -> dict:
        return json.loads((self._repository / f"{identity}.json").read_text())

    def pending(self, identity: str) -> list[str]:
        """Jobs that this one waits for."""
        names = filter(None, self.job(identity)["job"].get("JobDependencies", "").split(","))
        return [n for n in names if any(task["status"] != "Completed" for task in self.job(n)["tasks"])]

    def requeue(self, identity: str) -> None:
        """What a person does in the Monitor with a failed job."""
        record = self.job(identity)
        for task in record["tasks"]:
            if task["status"] == "Failed":
                task.update(status="Queued", errors=[])
        self._keep(identity, record)

    def run(self, identity: str) -> list[dict]:
        """Run every queued task; returns all tasks."""
        assert not self.pending(identity), "the job waits for another"
        record = self.job(identity)
        assert record["job"].get("InitialStatus", "Active") == "Active", "the job is suspended"
        waiting: queue.SimpleQueue = queue.SimpleQueue()
        for task in record["tasks"]:
            if task["status"] == "Queued":
                waiting.put(task)
        threads = int(record["job"].get("ConcurrentTasks", "1"))
        if threads > 1:
            assert record["job"]["Plugin"] != "Nuke" and self._param(record)["ConcurrentTasks"] == "True", (
                "the plug-in does not allow concurrent tasks"
            )
        failures: list[BaseException] = []
        workers = [threading.Thread(target=self._work, args=(record, waiting, n, failures)) for n in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if failures:
            raise failures[0]
        self._keep(identity, record)
        return record["tasks"]

    def _work(self, record: dict, waiting: queue.SimpleQueue, thread: int, failures: list[BaseException]) -> None:
        try:
            while True:
                task = waiting.get_nowait()
                self._render(record, task, thread)
                if task["status"] == "Queued":
                    waiting.put(task)
        except queue.Empty:
            return
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            failures.append(error)

    def _render(self, record: dict, task: dict, thread: int) -> None:
        name = record["job"]["Plugin"]
        if name == "Nuke":
            self._render_in_nuke(record, task)
            return
        spec = importlib.util.spec_from_file_location(name, f"{record['folder']}/{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        plugin = module.GetDeadlinePlugin()
        data = next(iter(record["auxiliary"]), "")
        plugin.begin(
            task["frames"], record["plugin"], {**self._param(record), **self._config}, self._gpus, thread, data
        )
        try:
            plugin.InitializeProcessCallback()
            self._process(record, plugin, task)
            task["status"] = "Completed"
        except RenderFailed as error:
            task["errors"].append(str(error))
            limit = int(record["job"]["FailureDetectionTaskErrors"])
            task["status"] = "Failed" if len(task["errors"]) >= limit else "Queued"
        finally:
            module.CleanupDeadlinePlugin(plugin)
        assert plugin.left_behind() == [], f"callbacks left behind: {plugin.left_behind()}"
        task.update(thread=thread, **plugin.seen)

    def _render_in_nuke(self, record: dict, task: dict) -> None:
        """What Deadline's own plug-in has Nuke do: load the script, render one Write, in one view, without a window."""
        info = record["plugin"]
        try:
            node = nuke_script.parse(Path(info["SceneFile"]).read_text(encoding="utf-8"))
            for part in info["WriteNode"].split("."):
                node = node.child(part)
            for frame in task["frames"]:
                nuke_graph.write_frame(node, frame, False, info["SceneFile"], info["Views"])
            task["status"] = "Completed"
        except RuntimeError as error:  # a missing file among them, which OpenEXR says so
            task.update(status="Failed", errors=[str(error)])

    def _process(self, record: dict, plugin, task: dict) -> None:
        assert plugin.SingleFramesOnly is False
        assert plugin.StdoutHandling is True
        assert plugin.UseProcessTree is True
        words = [plugin.RenderExecutableCallback(), *split(plugin.RenderArgumentCallback())]
        task["words"] = words
        pairs = [v.split("=", 1) for k, v in record["job"].items() if k.startswith("EnvironmentKeyValue")]
        environment = {**os.environ, **dict(pairs), **plugin.seen["environment"]}
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    plugin.heard(line.rstrip("\n"))
            except RenderFailed:
                process.kill()
                raise
        plugin.CheckExitCodeCallback(process.returncode)

    def _param(self, record: dict) -> dict[str, str]:
        name = record["job"]["Plugin"]
        parser = configparser.RawConfigParser(interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read(f"{record['folder']}/{name}.param", "utf-8")
        return {section: parser[section].get("Default", "") for section in parser.sections()}

    def _keep(self, identity: str, record: dict) -> None:
        with self._lock:
            (self._repository / f"{identity}.json").write_text(json.dumps(record))
