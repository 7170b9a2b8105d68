"""One stage's instructions to vertexes: a pure walk that carries configuration, environment and arguments."""

import posixpath
import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from gantry.build import history
from gantry.build import instructions as ins
from gantry.build.cache_mounts import CacheMounts
from gantry.build.copy import CopyOp, CopySpec
from gantry.build.errors import DockerfileError
from gantry.build.expand import expand, expand_text, expand_words
from gantry.build.expose import expand_ports
from gantry.build.metadata import MetadataOp
from gantry.build.mount_points import Lent, StepMount, StepMounts
from gantry.build.options import BuildOptions
from gantry.build.run import DEFAULT_PATH, SCRIPT_PATH, Kitchen, RunOp, RunSpec
from gantry.build.run_mounts import parse_mount
from gantry.build.solver import Op, Vertex
from gantry.build.state import BuildState
from gantry.build.variables import Arguments
from gantry.build.workdir import WorkdirOp
from gantry.build.workspace import Definition, Workspace
from gantry.errors import Unsupported
from gantry.model.container import Empty, HealthConfig

BuildVertex = Vertex[BuildState]
Origin = BuildVertex | Path  # what a name after `from` means: a state, or the directory of a named context
_SIGNAL = re.compile(r"(?:SIG)?(RTMIN|RTMAX)([+-][0-9]{1,2})?", re.IGNORECASE)


class Tools(msgspec.Struct, frozen=True):
    """What every stage of a build needs; `scratch` is a directory that goes away with the build.

    `contexts` are the named ones: a directory, or an image's name. `private` is where secrets may lie while a step
    sees them.
    """

    workspace: Workspace
    kitchen: Kitchen
    options: BuildOptions
    arguments: Arguments
    context: Path
    scratch: Path
    escape: str
    contexts: Mapping[str, Path | str]
    caches: CacheMounts
    lent: Lent
    private: Path


class StageBuilder:
    """Call `add` for each instruction in order; `vertex` is the stage's end so far."""

    def __init__(self, tools: Tools, base: BuildVertex, state: BuildState, names: Sequence[str] = ()) -> None:
        """`names` are the stage's: its own and its number."""
        self._tools = tools
        self.vertex = base
        self.config = state.config
        self.author = state.author
        self._args: dict[str, str] = {}
        self._cmd_set = False
        self._fresh = tools.options.no_cache or not set(names).isdisjoint(tools.options.no_cache_stages)
        if "PATH" not in self._environment():
            self._set(env=[*(self.config.env or ()), DEFAULT_PATH])

    # ------------------------------------------------------------------------------------ helpers

    def _environment(self) -> dict[str, str]:
        return {name: value for name, _, value in (item.partition("=") for item in self.config.env or ())}

    def _scope(self) -> dict[str, str]:
        """What words may refer to: ENV hides ARG."""
        return {**self._args, **self._environment()}

    def _word(self, text: str, at: ins.Instruction) -> str:
        return expand(text, self._scope(), self._tools.escape, at.start)

    @property
    def shell(self) -> tuple[str, ...]:
        return tuple(self.config.shell or history.DEFAULT_SHELL)

    def _set(self, **changes: object) -> None:
        self.config = msgspec.structs.replace(self.config, **changes)

    def _definition(self, created_by: str) -> Definition:
        return Definition(self.config, created_by, self.author)

    def _append(self, op: Op[BuildState], name: str, *others: BuildVertex) -> BuildVertex:
        self.vertex = Vertex(op, (self.vertex, *others), name, fresh=self._fresh)
        return self.vertex

    def _metadata(self, text: str, name: str) -> BuildVertex:
        return self._append(MetadataOp(self._tools.workspace, self._definition(history.nop(self.shell, text))), name)

    # ------------------------------------------------------------------------------------ dispatch

    def add(self, instruction: ins.Instruction, name: str, sources: Mapping[str, Origin]) -> BuildVertex:
        """The vertex of one instruction; `sources` are what its `from` names mean. Raises DockerfileError."""
        if isinstance(instruction, ins.Run):
            return self._run(instruction, name, sources)
        if isinstance(instruction, ins.Copy):
            return self._copy(instruction, name, sources.get(instruction.source))
        if isinstance(instruction, ins.Workdir):
            return self._workdir(instruction, name)
        return self._metadata(self._describe(instruction), name)

    def _describe(self, instruction: ins.Instruction) -> str:
        """Change the configuration as the instruction says; returns its line in the history."""
        match instruction:
            case ins.Arg():
                return self._arg(instruction)
            case ins.Env():
                return self._env(instruction)
            case ins.Label():
                return self._label(instruction)
            case ins.Maintainer():
                return self._maintainer(instruction)
            case ins.User():
                return self._user(instruction)
            case ins.Expose():
                return self._expose(instruction)
            case ins.Volume():
                return self._volume(instruction)
            case ins.Cmd():
                return self._cmd(instruction)
            case ins.Entrypoint():
                return self._entrypoint(instruction)
            case ins.Shell():
                return self._shell_words(instruction)
            case ins.StopSignal():
                return self._stop_signal(instruction)
            case ins.Healthcheck():
                return self._healthcheck(instruction)
            case ins.Onbuild():
                return self._onbuild(instruction)
        raise Unsupported(f"{instruction.text.split(None, 1)[0]} is not supported by this builder")

    def _run(self, each: ins.Run, name: str, sources: Mapping[str, Origin]) -> BuildVertex:
        if each.devices:
            raise Unsupported("RUN --device is not supported by this builder")
        if each.security == "insecure":
            raise Unsupported("RUN --security=insecure is not allowed by this builder")
        args, scripts = self._command(each)
        if not args:
            raise DockerfileError("no command specified", line=each.start)
        env = self._environment()
        own = {key: value for key, value in sorted(self._args.items()) if key not in env}
        proxies = {key: value for key, value in self._tools.arguments.proxies().items() if key not in {**own, **env}}
        build_args = tuple(f"{key}={value}" for key, value in own.items())
        spec = RunSpec(
            args=args,
            env=tuple(self.config.env or ()),
            secret_env=tuple(f"{key}={value}" for key, value in proxies.items()),
            build_args=build_args,
            user=self.config.user,
            cwd=self.config.working_dir or "/",
            network=each.network if each.network not in ("", "default") else self._tools.options.network,
            host_config=self._tools.options.host_config,
            scripts=scripts,
        )
        definition = self._definition(history.run(args, build_args))
        tools = self._tools
        mounts = StepMounts(tools.workspace, tools.caches, tools.lent, self._mounts(each, sources), tools.private)
        op = RunOp(tools.workspace, tools.kitchen, spec, definition, mounts)
        return self._append(op, name, *(origin for origin in sources.values() if isinstance(origin, Vertex)))

    def _mounts(self, each: ins.Run, sources: Mapping[str, Origin]) -> list[StepMount]:
        """What `--mount` asks for; the step's inputs are the state before it and those of `sources` that are states."""
        found = []
        inputs = [name for name, origin in sources.items() if isinstance(origin, Vertex)]
        for text in each.mounts:
            request = parse_mount(text, lambda word: self._word(word, each), each.start)
            if request.target and not request.target.startswith("/"):
                target = posixpath.join("/", self.config.working_dir, request.target)
                request = msgspec.structs.replace(request, target=target)
            if request.origin and request.origin not in sources:
                raise DockerfileError(
                    "'from' doesn't support variable expansion, define alias stage instead",
                    line=each.start,
                    numbered=False,
                )
            origin = sources.get(request.origin)
            context = origin if isinstance(origin, Path) else None
            if not request.origin and request.kind == "bind":
                context = self._tools.context
            number = inputs.index(request.origin) + 1 if request.origin in inputs else -1
            found.append(StepMount(request, context, number))
        return found

    def _command(self, each: ins.Run) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
        """The words to execute; here-documents are the script itself, or the shell's own."""
        if not each.command.interpreted:
            return each.command.words, ()
        text = each.command.words[0] if each.command.words else ""
        if not each.documents:
            return (*self.shell, text) if text else self.shell, ()
        first = each.documents[0]
        if len(each.documents) == 1 and re.fullmatch(r"<<-?(['\"]?)" + re.escape(first.name) + r"\1", text):
            if first.content.startswith("#!"):
                return (*self.shell, SCRIPT_PATH + first.name), ((first.name, first.content),)
            return (*self.shell, first.content), ()
        bodies = "".join(f"\n{document.content}{document.name}" for document in each.documents)
        return (*self.shell, text + bodies), ()

    def _copy(self, each: ins.Copy, name: str, source: Origin | None) -> BuildVertex:
        is_add = isinstance(each, ins.Add)
        scope, escape = self._scope(), self._tools.escape
        destination = self._word(each.destination, each)
        if not destination.startswith("/"):
            joined = posixpath.join("/", self.config.working_dir, destination)
            trailing = destination.endswith(("/", "/.")) or destination in ("", ".")
            destination = posixpath.normpath(joined) + ("/" if trailing else "")
        documents = tuple(
            (each_document.name, expand_text(each_document.content, scope, escape, each.start)
             if each_document.expand else each_document.content)
            for each_document in each.documents
        )  # fmt: skip
        checksum = self._word(each.checksum, each) if isinstance(each, ins.Add) else ""
        spec = CopySpec(
            "ADD" if is_add else "COPY",
            tuple(self._word(word, each) for word in each.sources),
            destination,
            documents,
            self._word(each.chown, each),
            self._word(each.chmod, each),
            tuple(self._word(word, each) for word in each.exclude),
            checksum,
            isinstance(each, ins.Add) and each.keep_git_dir,
            each.parents,
            each.unpack if isinstance(each, ins.Add) else None,
        )
        return self._append_copy(spec, name, self._tools.context if source is None else source)

    def _append_copy(self, spec: CopySpec, name: str, source: Origin) -> BuildVertex:
        context = source if isinstance(source, Path) else None
        op = CopyOp(self._tools.workspace, spec, self._definition(" ".join(self.shell)), context, self._tools.scratch)
        return self._append(op, name, *([source] if isinstance(source, Vertex) else ()))

    def add_tree(self, context: Path, name: str) -> BuildVertex:
        """A stage that begins with a named context's files."""
        return self._append_copy(CopySpec("COPY", ("/",), "/"), name, context)

    def _workdir(self, each: ins.Workdir, name: str) -> BuildVertex:
        path = self._word(each.path, each)
        if not path:
            raise DockerfileError("cannot normalize nothing", line=each.start, numbered=False)
        path = posixpath.normpath(posixpath.join("/", self.config.working_dir, path))
        path = "/" + path.lstrip("/")
        self._set(working_dir=path)
        made = f"{' '.join(self.shell)} #(nop) WORKDIR {path}"
        return self._append(WorkdirOp(self._tools.workspace, path, self._definition(made)), name)

    # ---------------------------------------------------------------- metadata: each returns its history text

    def _arg(self, each: ins.Arg) -> str:
        words = []
        for key, default in each.pairs:
            key = self._word(key, each)
            value = None if default is None else self._word(default, each)
            words.append(key if value is None else f"{key}={value}")
            chosen = self._tools.arguments.declared(key, value)
            if chosen is not None:
                self._args[key] = chosen
        return "ARG " + " ".join(words)

    def _env(self, each: ins.Env) -> str:
        scope = self._scope()
        pairs = [tuple(expand(word, scope, self._tools.escape, each.start) for word in pair) for pair in each.pairs]
        env = list(self.config.env or ())
        for key, value in pairs:
            place = next((i for i, item in enumerate(env) if item.partition("=")[0] == key), len(env))
            env[place : place + 1] = [f"{key}={value}"]
        self._set(env=env)
        return "ENV " + history.pairs((key, value) for key, value in pairs)

    def _label(self, each: ins.Label) -> str:
        pairs = list(each.pairs)
        if each.expand:
            pairs = [(self._word(key, each), self._word(value, each)) for key, value in pairs]
        self._set(labels={**(self.config.labels or {}), **dict(pairs)})
        return "LABEL " + history.pairs(pairs)

    def _maintainer(self, each: ins.Maintainer) -> str:
        self.author = each.name
        return f"MAINTAINER {each.name}"

    def _user(self, each: ins.User) -> str:
        self._set(user=self._word(each.user, each))
        return f"USER {self.config.user}"

    def _expose(self, each: ins.Expose) -> str:
        scope = self._scope()
        words = [word for port in each.ports for word in expand_words(port, scope, self._tools.escape, each.start)]
        exposed: dict[str, Empty] = {port: {} for word in words for port in expand_ports(word, each.start)}
        self._set(exposed_ports={**(self.config.exposed_ports or {}), **exposed})
        return "EXPOSE " + " ".join(sorted(words))

    def _volume(self, each: ins.Volume) -> str:
        paths = [self._word(path, each).strip() for path in each.paths]
        if not all(paths):
            raise DockerfileError("VOLUME specified can not be an empty string", line=each.start)
        self._set(volumes={**(self.config.volumes or {}), **{path: {} for path in paths}})
        return "VOLUME " + history.plain(paths)

    def _words(self, command: ins.Command) -> list[str]:
        return [*self.shell, *command.words] if command.interpreted and command.words else list(command.words)

    def _cmd(self, each: ins.Cmd) -> str:
        words = self._words(each.command)
        self._set(cmd=words, args_escaped=False)
        self._cmd_set = True
        return "CMD " + history.quoted(words)

    def _entrypoint(self, each: ins.Entrypoint) -> str:
        words = self._words(each.command)
        self._set(entrypoint=words or None)
        if not self._cmd_set:
            self._set(cmd=None)
        return "ENTRYPOINT " + history.quoted(words)

    def _shell_words(self, each: ins.Shell) -> str:
        self._set(shell=list(each.words))
        return "SHELL " + history.plain(each.words)

    def _stop_signal(self, each: ins.StopSignal) -> str:
        text = self._word(each.signal, each)
        if not _is_signal(text):
            raise DockerfileError(f"invalid signal: {text}", line=each.start, numbered=False)
        self._set(stop_signal=text)
        return f"STOPSIGNAL {text}"

    def _healthcheck(self, each: ins.Healthcheck) -> str:
        self._set(
            healthcheck=HealthConfig(
                list(each.test), each.interval, each.timeout, each.start_period, each.start_interval, each.retries
            )
        )
        return history.healthcheck(each)

    def _onbuild(self, each: ins.Onbuild) -> str:
        self._set(on_build=[*(self.config.on_build or ()), each.trigger])
        return f"ONBUILD {each.trigger}"

    def take_triggers(self) -> Sequence[str]:
        """What the base left for this build; the image that is built does not have it any more."""
        triggers = tuple(self.config.on_build or ())
        if triggers:
            self._set(on_build=None)
        return triggers


def _is_signal(text: str) -> bool:
    if text.isascii() and text.isdigit():
        return 0 < int(text[:4]) <= 64
    name = text.upper().removeprefix("SIG")
    return f"SIG{name}" in signal.Signals.__members__ or _SIGNAL.fullmatch(text) is not None
