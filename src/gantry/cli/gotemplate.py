"""Go's text/template as Docker's --format uses it.

    Template("{{.Names}}").execute(Record({"Names": "web"}, "*formatter.ContainerContext"))

Import this module only where a template is needed: a plain list does not need it.
"""

from __future__ import annotations

from gantry.cli.gotemplate_exec import ExecError, Executor
from gantry.cli.gotemplate_functions import FUNCTIONS, HEADER_FUNCTIONS
from gantry.cli.gotemplate_parse import ParseError, Parser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_LENGTH = 1 << 20


class TemplateError(Exception):
    """The template is malformed (`parsing`) or failed on a value; the text is Docker's."""

    def __init__(self, message: str, *, parsing: bool) -> None:
        super().__init__(f"template parsing error: {message}")
        self.message = str(self)
        self.detail = message
        self.parsing = parsing


class Template:
    """A parsed template; `name` stands in error messages. Raises TemplateError."""

    def __init__(self, text: str, name: str = "") -> None:
        self.text = text
        self._name = name
        if len(text) > _MAX_LENGTH:
            raise TemplateError("template: :1: template is too long", parsing=True)
        try:
            self._templates = Parser(text, FUNCTIONS, name).parse()
        except ParseError as error:
            raise TemplateError(str(error), parsing=True) from None
        except RecursionError:
            raise TemplateError("template: :1: template is nested too deeply", parsing=True) from None

    def execute(self, data: Any, *, strict: bool = False, header: bool = False) -> str:
        """The text for `data`; `strict` refuses keys that maps have not, `header` leaves column names as they are."""
        functions = HEADER_FUNCTIONS if header else FUNCTIONS
        try:
            return Executor(self.text, self._templates, functions, self._name, strict=strict).run(data)
        except ExecError as error:
            raise TemplateError(str(error), parsing=False) from None
        except RecursionError:
            raise TemplateError('template: :1:0: executing "": template is nested too deeply', parsing=False) from None
