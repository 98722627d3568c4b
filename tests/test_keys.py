"""Who gets in: the door of a daemon with keys, tried by strangers, wrong keys, revoked keys and other owners."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import uuid

import psutil
import pytest
import zmq
from zmq.utils.monitor import parse_monitor_message

from tests.live_daemon import HOLD, LiveDaemon, make_shot, until
from tests.raw_client import RawClient, junk
from void_server.daemon.config import DaemonConfig
from void_server.daemon.network import keys
from void_server.daemon.network.keys import Doorkeeper, check_bind
from void_server.wire import identity
from void_server.wire.errors import JobNotFoundError, RefusedError, SettingsError, UnreachableError
from void_server.wire.shot import ShotSettings


def make_keys(tmp_path, *clients: str):
    """A daemon's folder, and one folder for each client who is allowed."""
    house = tmp_path / "house"
    keys.new(house, "daemon")
    folders = []
    for name in clients:
        folder = tmp_path / name
        keys.allow(house, str(keys.new(folder)), name)
        shutil.copy(house / "daemon.public", folder)
        folders.append(folder)
    return house, folders


def test_secrets_are_private_and_never_overwritten(tmp_path):
    keys.new(tmp_path / "k")
    assert (tmp_path / "k" / "client.secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o700
    with pytest.raises(SettingsError, match="already"):
        keys.new(tmp_path / "k")


def test_allow_list_and_revoke(tmp_path):
    house, (anna,) = make_keys(tmp_path, "anna")
    public = identity.read_key(anna / "client.public")
    assert keys.allowed(house) == [keys.AllowedClient("anna", public)]
    with pytest.raises(SettingsError, match="secret"):
        keys.allow(house, str(anna / "client.secret"))
    with pytest.raises(SettingsError, match="another key"):
        keys.allow(house, "a" * 40, "anna")
    with pytest.raises(SettingsError):
        keys.allow(house, public, "../../etc/cron.d/x")
    with pytest.raises(RefusedError):
        keys.allow(house, str(tmp_path / "nothing"))
    keys.revoke(house, public)
    assert keys.allowed(house) == []
    with pytest.raises(SettingsError, match="no allowed client"):
        keys.revoke(house, "anna")


def test_the_command_s_words(tmp_path):
    fields, _ = keys.run("new", None, folder=tmp_path / "c", name=None)
    keys.run("new", "daemon", folder=tmp_path / "d", name=None)
    keys.run("allow", fields["public"], folder=tmp_path / "d", name="anna")
    listed, text = keys.run("list", None, folder=tmp_path / "d", name=None)
    (anna,) = listed["allowed"]
    assert (anna["name"], anna["public"], anna["admin"]) == ("anna", fields["public"], False)
    assert text.startswith("anna")
    keys.run("revoke", "anna", folder=tmp_path / "d", name=None)
    assert keys.run("list", None, folder=tmp_path / "d", name=None)[0]["allowed"] == []


@pytest.mark.parametrize("bind", ["tcp://0.0.0.0:5790", "tcp://*:5790", "tcp://10.0.0.5:5790", "tcp://[::]:5790"])
def test_an_open_address_without_keys_is_refused_with_the_remedy(tmp_path, bind):
    with pytest.raises(SettingsError) as caught:
        check_bind(bind, None)
    assert "keys new daemon" in caught.value.hint
    with pytest.raises(RuntimeError, match="strangers"):
        LiveDaemon(tmp_path / "data", bind=bind).start()


def test_keys_without_a_daemon_key_or_without_clients_are_refused_with_the_remedy(tmp_path):
    with pytest.raises(SettingsError, match="no key") as caught:
        Doorkeeper(tmp_path)
    assert "keys new daemon" in caught.value.hint
    keys.new(tmp_path, "daemon")
    with pytest.raises(SettingsError, match="No client") as caught:
        Doorkeeper(tmp_path)
    assert "keys allow" in caught.value.hint
    keys.allow(tmp_path, "a" * 40, "anna")
    (tmp_path / "daemon.secret").chmod(0o644)
    with pytest.raises(SettingsError, match="read by others"):
        Doorkeeper(tmp_path)


def test_config_refuses_what_it_cant_mean(tmp_path):
    for wrong in ({"bind": "5790"}, {"devices": ["gpu"]}, {"devices": ["cpu", "cpu"]}, {"trust": [tmp_path / "no"]}):
        with pytest.raises(SettingsError):
            DaemonConfig.from_flags(**wrong)
    assert DaemonConfig.from_flags(data=tmp_path).bind == "tcp://127.0.0.1:5790"


@pytest.fixture
def guarded(tmp_path):
    house, folders = make_keys(tmp_path, "anna", "bert")
    # An address that is loopback but not the usual one: keys are obeyed wherever they are given.
    with LiveDaemon(tmp_path / "data", keys=str(house), bind="tcp://127.0.0.2:*") as live:
        yield live, house, folders


def test_a_client_sees_and_cancels_its_own_jobs_only(guarded, tmp_path):
    live, _, (anna, bert) = guarded
    files = make_shot(tmp_path / "in")
    with live.client(keys=anna) as a, live.client(keys=bert) as b:
        job = a.submit(files, ShotSettings(), request="same").job
        assert a.watch(job).state == "done"
        for ask_for in (b.status, b.cancel, b.watch, lambda j: b.fetch(j, tmp_path / "out")):
            with pytest.raises(JobNotFoundError):
                ask_for(job)
        assert b.jobs() == []
        sent = []
        other = b.submit(files, ShotSettings(), request="same", on_event=sent.append).job
        assert other != job and sent, "another owner's frames are not offered: having them would tell of them"
        assert b.watch(other).state == "done"


def test_each_way_of_being_refused_is_said_at_once(guarded, tmp_path):
    live, house, (anna, _) = guarded
    stranger = tmp_path / "stranger"
    keys.new(stranger)
    shutil.copy(house / "daemon.public", stranger)
    with live.client(keys=stranger, timeout_s=60.0) as client, pytest.raises(RefusedError, match="does not admit"):
        client.hello()
    with live.client(timeout_s=60.0) as client, pytest.raises(RefusedError, match="asks for a key"):
        client.hello()
    wrong = tmp_path / "wrong"
    shutil.copytree(anna, wrong)
    (wrong / "daemon.public").unlink()
    keys.new(tmp_path / "elsewhere", "daemon")
    with pytest.raises(RefusedError, match=r"lacks daemon\.public"):
        live.client(keys=wrong)
    shutil.copy(tmp_path / "elsewhere" / "daemon.public", wrong)
    with live.client(keys=wrong, timeout_s=60.0) as client, pytest.raises(RefusedError, match="is not the daemon"):
        client.hello()
    with LiveDaemon(tmp_path / "open") as keyless, keyless.client(keys=anna, timeout_s=60.0) as client:  # noqa: SIM117
        with pytest.raises(RefusedError, match=r"runs without keys|is not the daemon"):
            client.hello()


def test_revoking_takes_effect_with_the_next_message(guarded, tmp_path):
    live, house, (anna, bert) = guarded
    with live.client(keys=anna) as a, live.client(keys=bert) as b:
        a.hello()
        b.hello()
        keys.revoke(house, "anna")
        with pytest.raises(RefusedError):
            a.hello()
        with pytest.raises(RefusedError):
            a.jobs()
        b.hello()
        keys.allow(house, str(anna / "client.public"), "anna")
        a.hello()


def test_thirty_strangers_are_kept_out_and_an_honest_client_notices_nothing(guarded):
    live, house, (anna, _) = guarded
    server_key = (house / "daemon.public").read_bytes().strip()
    events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    seen = []
    with live.client(keys=anna) as honest:
        for _ in range(30):
            stranger = zmq.Context.instance().socket(zmq.DEALER)
            stranger.setsockopt(zmq.LINGER, 0)
            stranger.curve_publickey, stranger.curve_secretkey = zmq.curve_keypair()
            stranger.curve_serverkey = server_key
            # The name that a socket gives itself must not matter.
            stranger.setsockopt(zmq.ROUTING_ID, identity.read_key(anna / "client.public").encode())
            monitor = stranger.get_monitor_socket(events)
            stranger.connect(live.address)
            assert monitor.poll(10_000)
            seen.append(parse_monitor_message(monitor.recv_multipart())["event"])
            stranger.disable_monitor()
            monitor.close(0)
            stranger.close(0)
            honest.hello()
    assert set(seen) == {zmq.EVENT_HANDSHAKE_FAILED_AUTH}


@pytest.fixture
def machine():
    """Another machine, as far as the network can tell: a namespace with an address of its own."""
    name = f"void{uuid.uuid4().hex[:6]}"
    here, there = f"{name}a", f"{name}b"
    net = f"10.{uuid.uuid4().int % 200 + 20}.{uuid.uuid4().int % 200 + 20}"
    steps = [
        f"ip netns add {name}",
        f"ip link add {here} type veth peer name {there} netns {name}",
        f"ip addr add {net}.1/24 dev {here}",
        f"ip link set {here} up",
        f"ip netns exec {name} ip addr add {net}.2/24 dev {there}",
        f"ip netns exec {name} ip link set {there} up",
        f"ip netns exec {name} ip link set lo up",
    ]
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("making network namespaces needs root and iproute2; the 127.0.0.2 tests stand in")
    try:
        for step in steps:
            done = subprocess.run(step.split(), capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"this machine makes no network namespaces ({done.stderr.strip()}); 127.0.0.2 stands in")
        yield name, f"{net}.2"
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def test_a_daemon_on_another_machine_serves_its_clients_and_nobody_else(machine, tmp_path):
    name, host = machine
    house, (anna,) = make_keys(tmp_path, "anna")
    live = LiveDaemon(tmp_path / "data", keys=str(house), bind=f"tcp://{host}:*")
    live.start(prefix=("ip", "netns", "exec", name))
    try:
        with live.client(keys=anna) as client:
            job = client.submit(make_shot(tmp_path / "in"), ShotSettings()).job
            assert client.watch(job).state == "done"
            assert len(client.fetch(job, tmp_path / "out")) == 8
        stranger = tmp_path / "stranger"
        keys.new(stranger)
        shutil.copy(house / "daemon.public", stranger)
        with live.client(keys=stranger) as client, pytest.raises(RefusedError):
            client.hello()
        port = live.address.rpartition(":")[2]
        live.stop()
        live.address = f"tcp://{host}:{port}"
        with live.client(keys=anna) as client, pytest.raises(UnreachableError):
            client.hello()
    finally:
        live.stop()


def half_open(address: str, count: int) -> list[socket.socket]:
    """Connections that begin a handshake and never go on."""
    port, lines = int(address.rpartition(":")[2]), []
    for _ in range(count):
        line = socket.socket()
        lines.append(line)
        line.settimeout(2)
        with contextlib.suppress(OSError):
            line.connect(("127.0.0.2", port))
            line.send(b"\xff" + bytes(7))
    return lines


def test_strangers_who_never_finish_a_handshake_blind_nobody(tmp_path):
    """With 1024 descriptors, as most shells give, 1,100 of them used to lock everybody out and end the daemon."""
    house, (anna,) = make_keys(tmp_path, "anna")
    live = LiveDaemon(tmp_path / "data", keys=str(house), bind="tcp://127.0.0.2:*")
    live.start(prefix=("prlimit", "--nofile=1024:1024"))
    strangers = []
    try:
        with live.client(keys=anna) as client:
            job = client.submit(make_shot(tmp_path / "in"), ShotSettings()).job
            assert client.watch(job).state == "done"
            strangers = half_open(live.address, 1100)
            process = psutil.Process(live.process.pid)
            until(lambda: process.num_fds() < 600)
            assert client.status(job).state == "done"
            (worker,) = process.children()
            worker.kill()
            with live.client(keys=anna) as newcomer:
                again = newcomer.submit(make_shot(tmp_path / "in2"), ShotSettings()).job
                assert newcomer.watch(again).state == "done"
                assert len(newcomer.fetch(job, tmp_path / "out")) == 8
        for line in strangers:
            line.close()
        until(lambda: process.num_fds() < 100)
    finally:
        for line in strangers:
            line.close()
        live.stop()


def test_a_list_that_cant_be_read_is_the_last_one_that_could(tmp_path, monkeypatch):
    house, (anna,) = make_keys(tmp_path, "anna")
    public = identity.read_key(anna / "client.public")
    door = Doorkeeper(house)

    def no_descriptor(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "scandir", no_descriptor)
    assert door.client(public).name == "anna"
    monkeypatch.undo()
    keys.revoke(house, "anna")
    assert door.client(public) is None


def test_a_key_has_one_name_and_revoking_it_leaves_no_other(tmp_path):
    house, (anna,) = make_keys(tmp_path, "anna")
    public = identity.read_key(anna / "client.public")
    with pytest.raises(SettingsError, match="as 'anna'"):
        keys.allow(house, public, "anna-laptop")
    # Folders of earlier versions may hold a key twice.
    shutil.copy(house / "allowed" / "anna.public", house / "allowed" / "anna-laptop.public")
    keys.revoke(house, "anna")
    assert keys.allowed(house) == []


def test_a_revoked_watcher_hears_nothing_more(guarded, tmp_path):
    live, house, (anna, _) = guarded
    gate = tmp_path / "gate"
    own = tuple((anna / name).read_bytes().strip() for name in ("client.public", "client.secret", "daemon.public"))
    with RawClient(live.address, keys=own) as raw:
        job = raw.upload(junk(3), options={"gate": str(gate)})
        raw.call("watch", {"job": job, "after": 0})
        until(lambda: raw.call("status", {"job": job})["job"]["frames_done"] == 1)
        keys.revoke(house, "anna")
        assert raw.call("jobs")["code"] == "refused"
        while raw.receive(0.2):
            pass
        gate.touch()
        until((live.data / "jobs" / job / "result").exists)
        assert raw.receive(0.5) is None


def test_an_administrator_sees_and_ends_everybody_s_jobs_but_fetches_none(guarded, tmp_path):
    live, house, (anna, bert) = guarded
    keys.revoke(house, "bert")
    keys.allow(house, str(bert / "client.public"), "bert", admin=True)
    with live.client(keys=anna) as a, live.client(keys=bert) as b:
        done = a.submit(make_shot(tmp_path / "in"), ShotSettings(), name="hers").job
        a.watch(done)
        held = a.submit(make_shot(tmp_path / "in2"), ShotSettings(**HOLD)).job
        assert b.jobs() == [] and {job.job for job in b.jobs(everybody=True)} == {done, held}
        with pytest.raises(RefusedError, match="administrators"):
            a.jobs(everybody=True)
        assert b.status(done).name == "hers"
        with pytest.raises(JobNotFoundError):
            b.fetch(done, tmp_path / "out")
        assert b.cancel(held).state == "cancelled"
        assert b.drop(done).state == "done"
        with pytest.raises(JobNotFoundError):
            a.status(done)


def test_a_key_can_be_replaced_while_the_daemon_runs_and_its_jobs_stay_its_owner_s(guarded, tmp_path):
    live, house, (anna, _) = guarded
    with live.client(keys=anna) as client:
        job = client.submit(make_shot(tmp_path / "in"), ShotSettings()).job
        client.watch(job)
    fresh = tmp_path / "anna-new"
    keys.rotate(house, "anna", str(keys.new(fresh)))
    shutil.copy(house / "daemon.public", fresh)
    with live.client(keys=fresh) as client:
        assert [found.job for found in client.jobs()] == [job]
    with live.client(keys=anna) as client, pytest.raises(RefusedError):
        client.hello()


def test_the_daemon_s_own_key_can_be_replaced_while_it_runs(guarded, tmp_path):
    live, house, (anna, bert) = guarded
    with live.client(keys=anna) as before:
        before.hello()
        keys.rotate(house, "daemon", None)
        shutil.copy(house / "daemon.public", bert)

        def knows_the_new_key():
            with live.client(keys=bert) as client, contextlib.suppress(RefusedError, UnreachableError):
                return client.hello()

        until(knows_the_new_key)
    with live.client(keys=anna) as client, pytest.raises(RefusedError, match="is not the daemon"):
        client.hello()


def test_everything_that_was_let_in_or_kept_out_has_its_line(guarded, tmp_path):
    live, house, (anna, _) = guarded
    stranger = tmp_path / "stranger"
    keys.new(stranger)
    shutil.copy(house / "daemon.public", stranger)
    with live.client(keys=stranger) as client, pytest.raises(RefusedError):
        client.hello()
    with live.client(keys=anna) as client:
        job = client.submit(make_shot(tmp_path / "in"), ShotSettings(), name="sh010").job
        client.watch(job)
        client.fetch(job, tmp_path / "out")
        client.cancel(job)
    audit = live.data / "audit.log"

    def lines():
        return [json.loads(line) for line in audit.read_text().splitlines()] if audit.exists() else []

    until(lambda: {"admit", "refuse", "submit", "fetch", "cancel"} <= {line["what"] for line in lines()})
    (submitted,) = [line for line in lines() if line["what"] == "submit"]
    assert (submitted["who"], submitted["job"], submitted["from"]) == ("anna", job, "127.0.0.1")
    assert any(line["what"] == "refuse" and line["why"] == "unknown key" for line in lines())
    assert audit.stat().st_mode & 0o077 == 0


def test_another_user_of_the_machine_is_kept_out_of_a_daemon_without_keys(tmp_path):
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("becoming another user needs root and setpriv")
    with LiveDaemon(tmp_path / "data") as live, live.client() as client:
        job = client.submit(make_shot(tmp_path / "in"), ShotSettings(), name="secret").job
        client.watch(job)
        script = f"""
import sys
sys.path[:0] = {[p for p in sys.path if p]!r}
from void_server.wire.client import Client
from void_server.wire.errors import RefusedError
try:
    print(Client({live.address!r}).jobs())
except RefusedError as error:
    print("refused:", error)
"""
        other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", script]
        said = subprocess.run(other, capture_output=True, text=True, check=False)
        assert "refused: This daemon serves only the user who started it." in said.stdout, said.stderr
        assert client.status(job).state == "done"
