"""Container commands against a scripted daemon: what is asked, what is printed, what the exit code is."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lib.fake_api import FakeAPI, Request, Taken, frame, respond, upgrade

ID = "ab" * 32
ANY = "0.0.0.0"


class Line:
    """Runs `gantry` words against the scripted daemon."""

    def __init__(self, api: FakeAPI, directory: Path) -> None:
        self.api = api
        source = Path(__file__).resolve().parents[3] / "src"
        self.environ = {"DOCKER_HOST": api.url, "DOCKER_CONFIG": str(directory), "PYTHONPATH": str(source), "TZ": "UTC"}
        self.environ |= {"PATH": os.environ["PATH"]}

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-c", "import sys; from gantry.cli.main import main; sys.exit(main())", *words],
            env=self.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def __call__(self, *words: str, stdin: bytes = b"") -> tuple[int, str, str]:
        process = self.start(*words)
        out, err = process.communicate(stdin, timeout=30)
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[FakeAPI]:
    made = FakeAPI(tmp_path)
    yield made
    made.close()


@pytest.fixture
def line(api: FakeAPI, tmp_path: Path) -> Line:
    return Line(api, tmp_path)


def container(**changes: Any) -> dict[str, Any]:
    made = {
        "Id": ID, "Names": ["/web", "/other/link"], "Image": "busybox", "ImageID": "sha256:" + "cd" * 32,
        "Command": "sh -c 'a long command line'", "Created": int(time.time()) - 3 * 3600, "State": "running",
        "Status": "Up 3 hours", "Ports": [], "Labels": {"b": "2", "a": "1"},
    }  # fmt: skip
    return made | changes


class TestPs:
    def test_table(self, line: Line) -> None:
        ports = [
            {"PrivatePort": 80, "PublicPort": 8080, "Type": "tcp", "IP": "0.0.0.0"},
            {"PrivatePort": 80, "PublicPort": 8080, "Type": "tcp", "IP": "::"},
            {"PrivatePort": 53, "Type": "udp"},
        ]
        line.api.on(
            "GET /containers/json", [container(Ports=ports), container(Names=["/x"], Image="sha256:" + "cd" * 32)]
        )
        shown = "53/udp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
        command = '"sh -c \'a long comma\u2026"'
        expected = [
            ("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"),
            ("abababababab", "busybox", command, "3 hours ago", "Up 3 hours", shown, "web"),
            ("abababababab", "cdcdcdcdcdcd", command, "3 hours ago", "Up 3 hours", "", "x"),
        ]
        widths = [max(len(row[place]) for row in expected) + 3 for place in range(6)] + [0]
        lines = ["".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in expected]
        assert line("ps") == (0, "\n".join(lines) + "\n", "")

    def test_query(self, line: Line) -> None:
        line.api.on("GET /containers/json", [])
        assert line("ps", "-asn2", "-f", "name=x", "--filter", "NAME=y", "--filter", "status=exited")[0] == 0
        assert line.api.requests[-1].query == {
            "all": "1", "limit": "2", "size": "1",
            "filters": '{"name":{"x":true,"y":true},"status":{"exited":true}}',
        }  # fmt: skip
        line("ps", "-l")
        assert line.api.requests[-1].query == {"limit": "1"}

    def test_quiet_and_formats(self, line: Line) -> None:
        line.api.on("GET /containers/json", [container()])
        assert line("ps", "-q")[1] == "abababababab\n"
        assert line("ps", "-q", "--no-trunc")[1] == ID + "\n"
        assert line("ps", "--format", "{{.Names}}: {{.Labels}}")[1] == "web: a=1,b=2\n"
        assert line("ps", "--no-trunc", "--format", "{{.Names}} {{.Command}}")[1] == (
            "web,other/link \"sh -c 'a long command line'\"\n"
        )


class TestPorts:
    @pytest.mark.parametrize(
        ("ports", "shown"),
        [
            ([(70, 70, ANY), (71, 71, ANY), (73, 73, ANY)], "0.0.0.0:70-71->70-71/tcp, 0.0.0.0:73->73/tcp"),
            ([(80, 0, ""), (81, 0, "")], "80-81/tcp"),
            ([(80, 8080, "::1")], "[::1]:8080->80/tcp"),
            ([(80, 80, ""), (80, 80, "")], "80/tcp"),
        ],
    )
    def test_ranges(self, ports: list[tuple[int, int, str]], shown: str) -> None:
        from gantry.cli.ps import ports as display

        entries = [
            {"PrivatePort": private, "PublicPort": public, "Type": "tcp", "IP": address}
            for private, public, address in ports
        ]
        assert display(entries) == shown


def starts(api: FakeAPI, *, output: bytes = b"", status: int = 0, hold: float = 0) -> list[str]:
    """Script a whole `run`; returns the order in which things were asked."""
    order: list[str] = []

    def note(what: str, answer: Any) -> Any:
        def handler(request: Request) -> Any:
            order.append(what)
            return answer(request) if callable(answer) else answer

        return handler

    def attach(request: Request) -> None:
        connection = upgrade(request)
        received = b""
        if request.query.get("stdin"):
            while block := connection.recv(65536):
                received += block
        time.sleep(hold)
        connection.sendall(output + (frame(1, received) if received else b""))
        raise Taken

    def wait(request: Request) -> None:
        request.connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        time.sleep(0.1 + hold)
        body = b'{"StatusCode":%d}' % status
        request.connection.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        raise Taken

    api.on("POST /containers/create", note("create", (201, {"Id": ID, "Warnings": ["careful"]})))
    api.on(f"POST /containers/{ID}/attach", note("attach", attach))
    api.on(f"POST /containers/{ID}/wait", note("wait", wait))
    api.on(f"POST /containers/{ID}/start", note("start", (204, None)))
    api.on(f"POST /containers/{ID}/kill", note("kill", (204, None)))
    return order


class TestRun:
    def test_order_output_and_status(self, line: Line) -> None:
        order = starts(line.api, output=frame(1, b"out") + frame(2, b"err"), status=3)
        assert line("run", "--rm", "busybox", "false") == (3, "out", "WARNING: careful\nerr")
        assert order == ["create", "attach", "wait", "start"]
        assert [request.query for request in line.api.requests if request.path.endswith("wait")] == [
            {"condition": "removed"}
        ]

    def test_standard_input_is_passed_and_closed(self, line: Line) -> None:
        starts(line.api)
        data = os.urandom(300_000)
        process = line.start("run", "-i", "busybox", "cat")
        out, _ = process.communicate(data, timeout=30)
        assert (process.returncode, out) == (0, data)

    def test_detached_prints_the_id(self, line: Line) -> None:
        order = starts(line.api)
        assert line("run", "-d", "busybox") == (0, ID + "\n", "WARNING: careful\n")
        assert order == ["create", "start"]

    @pytest.mark.parametrize(
        ("message", "status"),
        [
            ('exec: "x": executable file not found in $PATH', 127),
            ("exec: permission denied", 126),
            ("something else", 125),
        ],
    )
    def test_start_failures(self, line: Line, message: str, status: int) -> None:
        starts(line.api)
        line.api.on(f"POST /containers/{ID}/start", (400, {"message": message}))
        code, out, err = line("run", "busybox", "x")
        assert (code, out) == (status, "")
        assert err.endswith(
            f"gantry: Error response from daemon: {message}\n\nRun 'gantry run --help' for more information\n"
        )

    def test_missing_image_is_pulled(self, line: Line) -> None:
        starts(line.api)
        answers = iter([(404, {"message": "No such image: busybox:latest"}), (201, {"Id": ID})])
        line.api.on("POST /containers/create", lambda _: next(answers))
        progress = b'{"status":"Pulling from library/busybox","id":"latest"}\n{"status":"Status: Downloaded"}\n'

        def pull(request: Request) -> None:
            respond(request.connection, 200, progress, request)
            raise Taken

        line.api.on("POST /images/create", pull)
        assert line("run", "-d", "busybox") == (
            0,
            ID + "\n",
            "Unable to find image 'busybox:latest' locally\nlatest: Pulling from library/busybox\nStatus: Downloaded\n",
        )
        pulled = next(request for request in line.api.requests if request.path == "/images/create")
        assert pulled.query == {"fromImage": "busybox", "tag": "latest"}

    def test_never_pull(self, line: Line) -> None:
        line.api.on("POST /containers/create", (404, {"message": "No such image: x:latest"}))
        status, _, err = line("run", "--pull", "never", "x")
        assert (status, err.splitlines()[0]) == (125, "gantry: Error response from daemon: No such image: x:latest")
        assert "POST /images/create" not in line.api.paths()

    def test_signals_are_forwarded(self, line: Line) -> None:
        order = starts(line.api, hold=1.0)
        process = line.start("run", "busybox")
        deadline = time.monotonic() + 10
        while "start" not in order and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
        assert process.returncode == 0
        killed = [request.query for request in line.api.requests if request.path.endswith("/kill")]
        assert killed == [{"signal": "TERM"}]

    def test_a_terminal_is_wanted(self, line: Line) -> None:
        assert line("run", "-it", "busybox") == (1, "", "the input device is not a TTY\n")
        assert line.api.paths() == []

    def test_cidfile(self, line: Line, tmp_path: Path) -> None:
        starts(line.api)
        file = tmp_path / "cid"
        assert line("run", "-d", "--cidfile", str(file), "busybox")[0] == 0
        assert file.read_text() == ID
        status, _, err = line("run", "-d", "--cidfile", str(file), "busybox")
        assert status == 125
        assert "container ID file found, make sure the other container isn't running or delete" in err
        line.api.on("POST /containers/create", (409, {"message": "taken"}))
        assert line("create", "--cidfile", str(tmp_path / "new"), "busybox")[0] == 1
        assert not (tmp_path / "new").exists()

    def test_no_daemon(self, line: Line, tmp_path: Path) -> None:
        status, _, err = line("-H", f"unix://{tmp_path}/none", "run", "busybox")
        assert status == 125
        assert err.startswith("gantry: Cannot connect to the Gantry daemon at unix://")

    def test_bad_reference(self, line: Line) -> None:
        status, _, err = line("run", "FOO")
        assert (status, "must be lowercase" in err, line.api.paths()) == (125, True, [])


class TestExec:
    def test_status_and_body(self, line: Line) -> None:
        line.api.on("POST /containers/web/exec", (201, {"Id": "e1"}))

        def start(request: Request) -> None:
            upgrade(request).sendall(frame(1, b"o") + frame(2, b"e"))
            raise Taken

        line.api.on("POST /exec/e1/start", start)
        line.api.on("GET /exec/e1/json", {"ExitCode": 7, "Running": False})
        assert line("exec", "-e", "A=1", "-u", "me", "-w", "/x", "web", "sh", "-c", "-x") == (7, "o", "e")
        body = next(request.json for request in line.api.requests if request.path == "/containers/web/exec")
        assert (body["Cmd"], body["Env"], body["User"], body["WorkingDir"]) == (["sh", "-c", "-x"], ["A=1"], "me", "/x")
        assert (body["AttachStdin"], body["AttachStdout"], body["Tty"]) == (False, True, False)

    def test_detached(self, line: Line) -> None:
        line.api.on("POST /containers/web/exec", (201, {"Id": "e1"}))
        line.api.on("POST /exec/e1/start", (200, None))
        assert line("exec", "-d", "web", "sleep", "1") == (0, "", "")
        assert line.api.requests[-1].json == {"Detach": True, "Tty": False}


class TestMany:
    def test_errors_are_told_and_the_others_done(self, line: Line) -> None:
        line.api.on("POST /containers/a/stop", (204, None))
        line.api.on("POST /containers/c/stop", (204, None))
        line.api.on("POST /containers/b/stop", (404, {"message": "No such container: b"}))
        assert line("stop", "-t", "3", "a", "b", "c") == (
            1,
            "a\nc\n",
            "Error response from daemon: No such container: b\n",
        )
        assert {request.query["t"] for request in line.api.requests if request.path.endswith("stop")} == {"3"}

    def test_forced_removal_of_what_is_not_there(self, line: Line) -> None:
        line.api.on("DELETE /containers/a", (404, {"message": "No such container: a"}))
        assert line("rm", "-f", "a")[0] == 0
        assert line("rm", "a")[0] == 1
        assert line.api.requests[-1].query == {}

    def test_start_names_what_failed(self, line: Line) -> None:
        line.api.on("POST /containers/a/start", (204, None))
        line.api.on("POST /containers/b/start", (404, {"message": "No such container: b"}))
        assert line("start", "b", "a") == (
            1,
            "a\n",
            "Error response from daemon: No such container: b\nError: failed to start containers: b\n",
        )


class TestLogs:
    def test_streams_are_told_apart(self, line: Line) -> None:
        def logs(request: Request) -> None:
            kind = {"Content-Type": "application/vnd.docker.multiplexed-stream"}
            respond(request.connection, 200, frame(1, b"o\n") + frame(2, b"e\n"), request, kind)
            raise Taken

        line.api.on("GET /containers/web/logs", logs)
        assert line("logs", "--tail", "5", "--since", "2026-01-02T03:04:05Z", "web") == (0, "o\n", "e\n")
        assert line.api.requests[-1].query == {
            "stdout": "1", "stderr": "1", "tail": "5", "since": "1767323045.000000000",
        }  # fmt: skip

    def test_a_terminals_log_is_raw(self, line: Line) -> None:
        def logs(request: Request) -> None:
            respond(request.connection, 200, b"\x01raw", request, {"Content-Type": "application/vnd.docker.raw-stream"})
            raise Taken

        line.api.on("GET /containers/web/logs", logs)
        assert line("logs", "web")[1] == "\x01raw"

    def test_bad_time(self, line: Line) -> None:
        assert line("logs", "--since", "foo", "web") == (
            1,
            "",
            'invalid value for "since": failed to parse value as time or duration: "foo"\n',
        )


def test_events(line: Line) -> None:
    event = {
        "Type": "container", "Action": "start", "time": 1, "timeNano": 1_700_000_000_000_000_005,
        "Actor": {"ID": ID, "Attributes": {"name": "web", "image": "busybox"}},
    }  # fmt: skip
    line.api.on("GET /events", event)
    assert line("events")[1] == f"2023-11-14T22:13:20.000000005Z container start {ID} (image=busybox, name=web)\n"


def test_port_and_diff_and_top(line: Line) -> None:
    published = {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
        "9/udp": None,
    }
    line.api.on("GET /containers/web/json", {"NetworkSettings": {"Ports": published}})
    assert line("port", "web")[1] == "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n"
    assert line("port", "web", "80")[1] == "0.0.0.0:8080\n[::]:8080\n"
    assert line("port", "web", "81") == (1, "", "Error: No public port '81' published for web\n")
    line.api.on("GET /containers/web/changes", [{"Kind": 0, "Path": "/etc"}, {"Kind": 1, "Path": "/new"}])
    assert line("diff", "web")[1] == "C /etc\nA /new\n"
    line.api.on("GET /containers/web/top", {"Titles": ["PID", "CMD"], "Processes": [["1", "sleep 1"]]})
    assert line("top", "web", "-o", "pid,cmd")[1] == "PID                 CMD\n1                   sleep 1\n"
    assert line.api.requests[-1].query == {"ps_args": "-o pid,cmd"}
