"""The Dockerfile language on the real kernel, through `gantry` and, where it has the feature, the official client."""

import io
import json
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.daemon import Client

pytestmark = pytest.mark.usefixtures("builder")
CLASSIC = {"DOCKER_BUILDKIT": "0"}


def write(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def layers(client: Client, image: str, tmp_path: Path) -> list[list[str]]:
    """The names in each layer of an image, as `save` writes them."""
    archive = tmp_path / "saved.tar"
    client.run("save", "-o", str(archive), image)
    with tarfile.open(archive) as saved:
        manifest = json.load(saved.extractfile("manifest.json"))  # type: ignore[arg-type]
        found = []
        for layer in manifest[0]["Layers"]:
            data = saved.extractfile(layer)
            assert data is not None
            with tarfile.open(fileobj=io.BytesIO(data.read())) as tar:
                found.append(tar.getnames())
    return found


def test_mounts_of_a_step(client: Client, tmp_path: Path) -> None:
    directory = write(tmp_path / "context", {
        "f": "from the context\n",
        "Dockerfile": "FROM busybox AS one\n"
        "RUN mkdir /made && echo from a stage > /made/f\n"
        "FROM busybox\n"
        "RUN --mount=target=/ctx cat /ctx/f && ! touch /ctx/new 2>/dev/null\n"
        "RUN --mount=target=/ctx,rw touch /ctx/new && test -e /ctx/new\n"
        "RUN --mount=target=/ctx test ! -e /ctx/new\n"
        "RUN --mount=from=one,source=/made,target=/deep/er cat /deep/er/f\n"
        f"RUN --mount=type=cache,target=/root/.cache,id={tmp_path.name} "
        "echo more >> /root/.cache/n && wc -l < /root/.cache/n\n"
        "RUN --mount=type=tmpfs,target=/t,size=1m df -k /t | tail -1 && echo x > /t/x\n"
        "RUN test ! -e /deep && test ! -e /t && test ! -e /ctx && test ! -e /root/.cache && echo kept > /kept\n",
    })  # fmt: skip
    image = f"mounts-{client.program.rpartition('/')[2]}"
    said = client.out("build", "-t", image, str(directory), **CLASSIC)
    assert "from the context\n" in said
    assert "from a stage\n" in said
    names = layers(client, image, tmp_path)
    assert names[-1] == ["kept"]
    assert not {"ctx", "deep", "deep/er", "t", "root/.cache"} & {name for layer in names[1:] for name in layer}
    write(directory, {"f": "changed\n"})
    assert "\n2\n" in client.out("build", "--no-cache", "-t", image, str(directory), **CLASSIC), "the cache was kept"
    client.run("rmi", image)


def test_a_wrong_mount(client: Client, tmp_path: Path) -> None:
    for line, message in (
        ("--mount=type=foo,target=/x", 'unsupported mount type "foo"'),
        ("--mount=source=nope,target=/x", '"/nope": not found'),
        ("--mount=type=secret,id=tok,required", "secret tok: not found"),
    ):
        done = client.run(
            "build", str(write(tmp_path, {"Dockerfile": f"FROM busybox\nRUN {line} true\n"})), check=False, **CLASSIC
        )
        assert done.returncode == 1
        assert message in done.stderr


def test_secrets_and_named_contexts(gantry: Client, tmp_path: Path) -> None:
    directory = write(tmp_path / "main", {
        "Dockerfile": "FROM busybox\n"
        "RUN --mount=type=secret,id=tok cat /run/secrets/tok && stat -c mode=%a /run/secrets/tok\n"
        "RUN --mount=type=secret,id=var,env=VALUE echo value=$VALUE\n"
        "COPY --from=other o /o\n"
        "RUN --mount=from=other,target=/other cat /other/o\n",
    })  # fmt: skip
    write(
        tmp_path,
        {"other/o": "named\n", "other/ignored": "x", "other/.dockerignore": "ignored\n", "tok": "t0k-of-mine\n"},
    )
    arguments = (
        "build", "-t", "lent", "--secret", f"id=tok,src={tmp_path / 'tok'}", "--secret", "id=var,env=MINE",
        "--build-context", f"other={tmp_path / 'other'}", str(directory),
    )  # fmt: skip
    said = gantry.out(*arguments, MINE="from-env")
    assert "t0k-of-mine\nmode=400\n" in said
    assert "value=from-env\n" in said
    assert "named\n" in said
    gantry.run("save", "-o", str(tmp_path / "lent.tar"), "lent")
    assert b"t0k-of-mine" not in (tmp_path / "lent.tar").read_bytes()
    names = layers(gantry, "lent", tmp_path)
    assert not [name for layer in names[1:] for name in layer if "secret" in name or name == "other"]
    gantry.run("rmi", "lent")


def test_parents_and_excludes(client: Client, tmp_path: Path) -> None:
    directory = write(tmp_path / "context", {
        "a/x/1.txt": "1", "a/x/2.md": "2", "a/y/3.txt": "3",
        "Dockerfile": "FROM busybox\nCOPY --parents a/*/*.txt /p/\nCOPY --parents a/./x /q/\n"
        "COPY --exclude=*.md --chmod=u=rw,go=r a/x /r/\nRUN find /p /q /r -type f | sort\n",
    })  # fmt: skip
    said = client.out("build", "--no-cache", str(directory), **CLASSIC)
    assert "/p/a/x/1.txt\n/p/a/y/3.txt\n/q/x/1.txt\n/q/x/2.md\n/r/1.txt\n" in said


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[str]:
    """A git repository that a git daemon serves; its URL."""
    program = shutil.which("git")
    if (
        program is None
        or not (Path(subprocess.check_output(["git", "--exec-path"], text=True).strip()) / "git-daemon").exists()
    ):
        pytest.skip("git and its daemon are not installed here")
    work = write(
        tmp_path / "repo",
        {"top": "1", "sub/f": "from git\n", "sub/Dockerfile": "FROM busybox\nCOPY f /f\nRUN cat /f\n"},
    )
    identity = ("-c", "user.name=a", "-c", "user.email=a@localhost")
    for arguments in (("init", "-q"), ("add", "-A"), (*identity, "commit", "-qm", "x"), ("tag", "v1")):
        subprocess.run([program, "-C", str(work), *arguments], check=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    served = subprocess.Popen(
        [program, "daemon", f"--base-path={tmp_path}", "--export-all", "--listen=127.0.0.1", f"--port={port}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as connection:
            if connection.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield f"git://127.0.0.1:{port}/repo"
    subprocess.run(["pkill", "-g", str(served.pid)], check=False)
    served.wait(10)


def test_git_as_context_and_source(client: Client, repository: str, tmp_path: Path) -> None:
    assert "from git\n" in client.out("build", "--no-cache", f"{repository}#v1:sub", **CLASSIC)
    directory = write(tmp_path / "context", {
        "Dockerfile": f"FROM busybox\nADD {repository}#v1:sub /s\nADD --keep-git-dir=true {repository}#v1 /whole/\n"
        "RUN cat /s/f && test -d /whole/.git && ! test -e /s/.git\n",
    })  # fmt: skip
    assert "from git\n" in client.out("build", "--no-cache", str(directory), **CLASSIC)
    outside = client.run("build", f"{repository}#v1:../..", check=False, **CLASSIC)
    assert outside.returncode == 1


def test_outputs(gantry: Client, tmp_path: Path) -> None:
    directory = write(tmp_path / "context", {"f": "kept\n", "Dockerfile": "FROM scratch\nCOPY f /d/\n"})
    gantry.run("build", "-q", "-o", str(tmp_path / "local"), str(directory))
    assert (tmp_path / "local/d/f").read_text() == "kept\n"
    gantry.run("build", "-q", "-o", f"type=tar,dest={tmp_path / 'out.tar'}", str(directory))
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert "d/f" in archive.getnames()
    metadata = tmp_path / "metadata.json"
    archive_path = tmp_path / "oci.tar"
    image = gantry.out(
        "build", "-q", "-t", "exported", "-o", f"type=oci,dest={archive_path}", "--metadata-file", str(metadata),
        str(directory),
    )  # fmt: skip
    told = json.loads(metadata.read_text())
    assert (told["containerimage.digest"], told["image.name"]) == (image, "docker.io/library/exported:latest")
    with tarfile.open(archive_path) as archive:
        assert "index.json" in archive.getnames()
    assert gantry.out("ps", "-aq") == ""
    gantry.run("rmi", "exported")
    for wanted, message in (
        ("type=foo", 'exporter "foo" could not be found'),
        ("dest=x", "type is required for output"),
        ("type=local", "dest is required for local exporter"),
    ):
        refused = gantry.run("build", "-o", wanted, str(directory), check=False)
        assert (refused.returncode, refused.stderr.strip()) == (1, message)


def test_checks(gantry: Client, tmp_path: Path) -> None:
    write(tmp_path, {"Dockerfile": 'FROM busybox:1\nUSER 1\nWORKDIR x\nCMD ["a"]\n'})
    done = gantry.run("build", "--check", str(tmp_path), check=False)
    assert done.returncode == 1
    assert done.stdout == (
        "Check complete, 1 warning has been found!\n\n"
        "WARNING: WorkdirRelativePath - https://docs.docker.com/go/dockerfile/rule/workdir-relative-path/\n"
        'Relative workdir "x" can have unexpected results if the base image changes\nDockerfile:3\n'
        "--------------------\n   1 |     FROM busybox:1\n   2 |     USER 1\n   3 | >>> WORKDIR x\n"
        '   4 |     CMD ["a"]\n   5 |     \n--------------------\n'
    )
    write(tmp_path, {"Dockerfile": "FROM busybox:1\nUSER 1\n"})
    assert gantry.out("build", "--check", str(tmp_path)) == "Check complete, no warnings found."
    assert json.loads(gantry.out("build", "--call=check,format=json", str(tmp_path)))["warnings"] == []


def test_stages_without_cache(gantry: Client, tmp_path: Path) -> None:
    write(tmp_path, {"Dockerfile": "FROM busybox AS one\nRUN echo a > /a\nFROM busybox\nRUN echo b\n"
                                   "COPY --from=one /a /a\n"})  # fmt: skip
    gantry.run("build", str(tmp_path))
    said = gantry.out("build", "--no-cache-filter", "one", str(tmp_path))
    ran = [step.splitlines()[0] for step in said.split("Step ") if "Running in" in step]
    assert ran == ["2/5 : RUN echo a > /a"]


def test_a_failed_step_is_explained(gantry: Client, tmp_path: Path) -> None:
    write(tmp_path, {"Dockerfile": "FROM busybox\nRUN echo made > /made\nRUN echo said && exit 5\n"})
    done = gantry.run("build", str(tmp_path), check=False)
    assert done.returncode == 5
    assert "> 3 | RUN echo said && exit 5" in done.stderr
    command = done.stderr.partition("before this step: gantry ")[2].splitlines()[0].split()
    command = [word for word in command if word != "-it"]
    assert gantry.out(*command, "-c", "cat /made") == "made"
