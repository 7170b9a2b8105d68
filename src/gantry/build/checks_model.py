"""One finding of `build --check`."""

import re

import msgspec

_PAGE = "https://docs.docker.com/go/dockerfile/rule/"
_DESCRIPTIONS = {
    "ConsistentInstructionCasing": "All commands within the Dockerfile should use the same casing",
    "CopyIgnoredFile": "Attempting to Copy file that is excluded by .dockerignore",
    "DuplicateStageName": "Stage names should be unique",
    "ExposeInvalidFormat": "IP address and host-port mapping should not be used in EXPOSE instruction",
    "ExposeProtoCasing": "Protocol in EXPOSE instruction should be lowercase",
    "FromAsCasing": "The 'as' keyword should match the case of the 'from' keyword",
    "FromPlatformFlagConstDisallowed": "FROM --platform flag should not use a constant value",
    "JSONArgsRecommended": "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior",
    "LegacyKeyValueFormat": "Legacy key/value format with whitespace separator should not be used",
    "MaintainerDeprecated": "The MAINTAINER instruction is deprecated, use a label instead",
    "MultipleInstructionsDisallowed": "Multiple instructions of the same type should not be used in the same stage",
    "NoEmptyContinuation": "Empty continuation lines will become errors in a future release",
    "RedundantTargetPlatform": "Setting platform to predefined $TARGETPLATFORM in FROM is redundant",
    "SecretsUsedInArgOrEnv": "Sensitive data should not be used in the ARG or ENV commands",
    "StageNameCasing": "Stage names should be lowercase",
    "UndefinedArgInFrom": "FROM command must use declared ARGs",
    "UndefinedVar": "Variables should be defined before their use",
    "WorkdirRelativePath": "Relative workdir without an absolute workdir declared within the build",
}


class Finding(msgspec.Struct, frozen=True, rename="camel"):
    """`start` and `end` are lines, from 1; `url` is the rule's page, "" for `advice`, which is our own."""

    rule: str
    detail: str
    start: int
    end: int
    url: str = ""
    description: str = ""
    advice: bool = False


def finding(rule: str, detail: str, start: int, end: int) -> Finding:
    """A finding of one of BuildKit's rules."""
    page = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", rule).lower()
    return Finding(rule, detail, start, end, f"{_PAGE}{page}/", _DESCRIPTIONS[rule])


def advice(rule: str, detail: str, start: int, end: int) -> Finding:
    """A finding of our own."""
    return Finding(rule, detail, start, end, advice=True)
