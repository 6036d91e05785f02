"""Whether a pattern is a STIX pattern: held against the OASIS grammar itself, and its hashes against their lengths.

Most patterns are plain comparisons, which need no grammar (`plain_patterns`).
"""

from __future__ import annotations

import re
from typing import Any

import antlr4
from antlr4.error.Errors import ParseCancellationException, RecognitionException
from antlr4.error.ErrorStrategy import BailErrorStrategy
from stix2patterns.exceptions import ParserErrorListener
from stix2patterns.inspector import INDEX_STAR
from stix2patterns.v20.grammars.STIXPatternLexer import STIXPatternLexer as Lexer20
from stix2patterns.v20.grammars.STIXPatternParser import STIXPatternParser as Parser20
from stix2patterns.v20.inspector import InspectionListener as Inspection20
from stix2patterns.v21.grammars.STIXPatternLexer import STIXPatternLexer as Lexer21
from stix2patterns.v21.grammars.STIXPatternParser import STIXPatternParser as Parser21
from stix2patterns.v21.inspector import InspectionListener as Inspection21
from stix2patterns.v21.validator import DuplicateQualifierTypeError
from stix2patterns.v21.validator import ValidationListener as Qualifiers21

from taxii_server.domain.stix_objects import Form, Refused
from taxii_server.domain.words import quoted, short
from taxii_server.operations.plain_patterns import is_plain

_HASHES = {
    name.replace("-", ""): re.compile(f"[0-9a-fA-F]{{{digits}}}")
    for name, digits in {
        "MD5": 32,
        "RIPEMD-160": 40,
        "SHA-1": 40,
        "SHA-224": 56,
        "SHA-256": 64,
        "SHA-384": 96,
        "SHA-512": 128,
        "SHA3-224": 56,
        "SHA3-256": 64,
        "SHA3-384": 96,
        "SHA3-512": 128,
        "WHIRLPOOL": 128,
    }.items()
}


def check_pattern(pattern: str, form: Form) -> None:
    """Hold a pattern against the grammar of the given form, and its hashes against their lengths.

    Raises:
        Refused: with the line and column of the first error.
    """
    if not is_plain(pattern):
        check_by_grammar(pattern, form)


def check_by_grammar(pattern: str, form: Form) -> None:
    """Do the same for a pattern of any shape.

    Raises:
        Refused: with the line and column of the first error.
    """
    tree = _tree(pattern, form)
    inspection = Inspection20() if form is Form.STIX_2_0 else Inspection21()
    try:
        _walk(tree, [inspection] if form is Form.STIX_2_0 else [inspection, Qualifiers21()])
    except DuplicateQualifierTypeError as twice:
        raise Refused(f"pattern has the qualifier {twice.qual_type.name} twice on one observation") from None
    for comparisons in inspection.pattern_data().comparisons.values():
        for path, operator, literal in comparisons:
            _pattern_hash(path, operator, literal)


def _tree(pattern: str, form: Form) -> Any:
    lexer_class, parser_class = (Lexer20, Parser20) if form is Form.STIX_2_0 else (Lexer21, Parser21)
    lexer = lexer_class(antlr4.InputStream(pattern))
    lexer.removeErrorListeners()
    parser = parser_class(antlr4.CommonTokenStream(lexer))
    parser.removeErrorListeners()
    heard = ParserErrorListener()
    parser.addErrorListener(heard)
    parser._errHandler = BailErrorStrategy()  # noqa: SLF001 - the runtime offers no other way to stop at the first error
    try:
        return parser.pattern()
    except RecursionError:
        raise Refused("pattern nests its parentheses too deeply") from None
    except ParseCancellationException as cancelled:
        cause = cancelled.args[0] if cancelled.args else None
        if isinstance(cause, RecognitionException):
            parser._errHandler.reportError(parser, cause)  # noqa: SLF001
        raise Refused(_pattern_words(getattr(heard, "error_message", ""))) from None


def _pattern_words(message: str) -> str:
    place, _, said = message.partition(": ")
    line, _, column = place.partition(":")
    if not said or not column.isdecimal():
        return "pattern is not a STIX pattern"
    return f"pattern, line {line}, column {int(column) + 1}: {short(said, 200)}"


def _walk(tree: Any, listeners: list[Any]) -> None:
    """Walk the parse tree without recursion: a thousand alternatives make a tree a thousand levels deep."""
    stack = [(tree, False)]
    while stack:
        node, left = stack.pop()
        if not isinstance(node, antlr4.ParserRuleContext):
            continue
        if left:
            for listener in listeners:
                node.exitRule(listener)
            continue
        for listener in listeners:
            node.enterRule(listener)
        stack.append((node, True))
        stack.extend((child, False) for child in reversed(list(node.getChildren())))


def _pattern_hash(path: list[Any], operator: str, literal: str) -> None:
    if operator.removeprefix("NOT ") not in {"=", "!="} or "hashes" not in path[:-1] or path[-1] is INDEX_STAR:
        return
    name = str(path[-1])
    expected = _HASHES.get(name.upper().replace("-", ""))
    if expected is not None and literal.startswith("'") and not expected.fullmatch(literal[1:-1]):
        raise Refused(f"pattern compares {quoted(name)} with something that is no such hash")
