"""The instructions of a Dockerfile, typed. Words are as written: variables are expanded when a step is made."""

import msgspec

Pair = tuple[str, str]


class Heredoc(msgspec.Struct, frozen=True):
    """A here-document: `expand` is false where its name was quoted."""

    name: str
    content: str
    expand: bool = True


class Command(msgspec.Struct, frozen=True):
    """`words` of the JSON form; in the shell form (`interpreted`), one word for a shell, none where it is empty."""

    words: tuple[str, ...]
    interpreted: bool


class Instruction(msgspec.Struct, frozen=True, kw_only=True):
    """`start` and `end` are the first and last line, `text` is the instruction on one line, as it was written."""

    text: str = ""
    start: int = 0
    end: int = 0


class From(Instruction, frozen=True, kw_only=True):
    image: str
    name: str = ""
    platform: str = ""


class Arg(Instruction, frozen=True, kw_only=True):
    """`pairs` are (name, default), the default None where there is none."""

    pairs: tuple[tuple[str, str | None], ...]


class Env(Instruction, frozen=True, kw_only=True):
    pairs: tuple[Pair, ...]


class Label(Instruction, frozen=True, kw_only=True):
    pairs: tuple[Pair, ...]
    expand: bool = True


class Maintainer(Instruction, frozen=True, kw_only=True):
    name: str


class Copy(Instruction, frozen=True, kw_only=True):
    """COPY. `source` is `--from`: a stage's name or number, or an image; "" for the context."""

    sources: tuple[str, ...]
    destination: str
    documents: tuple[Heredoc, ...] = ()
    source: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()


class Add(Copy, frozen=True, kw_only=True):
    """ADD. `unpack` is None where it was not said: archives of the context are unpacked, downloads are not."""

    checksum: str = ""
    keep_git_dir: bool = False
    unpack: bool | None = None


class Run(Instruction, frozen=True, kw_only=True):
    command: Command
    documents: tuple[Heredoc, ...] = ()
    mounts: tuple[str, ...] = ()
    network: str = ""
    security: str = ""
    devices: tuple[str, ...] = ()


class Cmd(Instruction, frozen=True, kw_only=True):
    command: Command


class Entrypoint(Instruction, frozen=True, kw_only=True):
    command: Command


class Shell(Instruction, frozen=True, kw_only=True):
    words: tuple[str, ...]


class User(Instruction, frozen=True, kw_only=True):
    user: str


class Workdir(Instruction, frozen=True, kw_only=True):
    path: str


class Expose(Instruction, frozen=True, kw_only=True):
    ports: tuple[str, ...]


class Volume(Instruction, frozen=True, kw_only=True):
    paths: tuple[str, ...]


class StopSignal(Instruction, frozen=True, kw_only=True):
    signal: str


class Healthcheck(Instruction, frozen=True, kw_only=True):
    """`test` is ("NONE",), ("CMD", …) or ("CMD-SHELL", command); durations are nanoseconds, 0 for the default."""

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class Onbuild(Instruction, frozen=True, kw_only=True):
    """`trigger` is the instruction's text, kept in the image for the builds on top of it."""

    trigger: str


class Dockerfile(msgspec.Struct, frozen=True):
    """A parsed file: `directives` are the parser directives, `source` is the text that was parsed."""

    instructions: tuple[Instruction, ...]
    directives: dict[str, str]
    source: str
    name: str = "Dockerfile"
    escape: str = "\\"
    warnings: tuple[str, ...] = ()
