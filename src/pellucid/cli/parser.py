"""The commands and their options, with help that teaches."""

import argparse
import importlib
import itertools
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ..core.errors import UsageError, nearest
from . import counterfactual_options, effects_options
from .table_options import about_tables
from .words import number_or_name, plan, value

TOP = """\
examples:
  pellucid explain sample:coffee --model efficientnet-lite0
  pellucid explain cat.jpg dog.jpg --model my.module:make_net --weights net.safetensors --out why
  pellucid effects rows.csv --model my.module:pipeline --columns age,income
  pellucid list methods
  pellucid show integrated-gradients
  pellucid doctor

exit codes:
  0  done, and the gate passed
  1  a gate failed
  2  a usage error, or the work could not be completed
"""
EXPLAIN = """\
examples:
  a photo that comes with the demo extra, and the model's own answer:
    pellucid explain sample:coffee --model efficientnet-lite0
  your photo, another class, a method with its parameters:
    pellucid explain cat.jpg --model efficientnet-lite0 --target "tiger cat" --method integrated-gradients --set steps=50
  why this class rather than that one:
    pellucid explain cat.jpg --model efficientnet-lite0 --target "Egyptian cat" --against "tiger cat"
  inside the network, with all the evidence:
    pellucid explain cat.jpg --model efficientnet-lite0 --at _blocks.10 --evidence full
  a text, and a pipeline of scikit-learn's (mymod.py holds it as `pipeline`):
    pellucid explain "not bad at all" --model mymod:pipeline
  a row of a table, and a function on its numbers or, with words in it, on a DataFrame:
    pellucid explain data.csv --row 3 --model mymod:predict --background train.csv --budget 500 --tol 0.01
  a picture, and a function on bytes (rows x height x width x 3):
    pellucid explain cat.jpg --model mymod:predict --masker slic:50 --budget 500
  your own model, in a script that needs the answer:
    pellucid explain scan.png --model my.module:make_net --weights net.safetensors --json --gate supported

OUT holds a picture of every input, report.html (one file, works offline) and results.json with the numbers.
`pellucid list methods` names the methods, `pellucid show NAME` their parameters and when they mislead.
"""

LEARN = """\
examples:
  a tree of depth 3 in the place of a model, with its fidelity on held-out rows:
    pellucid learn rows.csv --model mymod:pipeline --drop answer --method tree-surrogate --set depth=3
  the same as rules, for one class:
    pellucid learn rows.csv --model mymod:pipeline --target yes --method rule-surrogate
  six rows that stand for all:
    pellucid learn rows.csv --model mymod:pipeline --method proto-dash --set count=6 --json

OUT holds the picture, report.html (one file, works offline) and the numbers as JSON.
"""


class Parser(argparse.ArgumentParser):
    """An argparse parser whose complaints are one sentence, with the nearest word that would do."""

    def error(self, message: str) -> NoReturn:
        """One sentence on stderr, exit code 2."""
        raise UsageError(f"{_offer(message, self)} `{self.prog} --help` shows how it goes.")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Speaks of an unknown option before it speaks of one that is missing: the first is mostly the cause of the second."""
        words = list(sys.argv[1:] if args is None else args)
        if self._subparsers is None:
            for word in itertools.takewhile("--".__ne__, words):
                if word.startswith("--") and not any(o.startswith(word.partition("=")[0]) for o in self._options()):
                    self.error(f"unrecognized arguments: {word}")
        return super().parse_known_args(words, namespace)

    def _options(self) -> list[str]:
        return [o for action in self._actions for o in action.option_strings if o.startswith("--")]


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line as a namespace whose `command` does the work."""
    return _parser().parse_args(argv)


def _parser() -> Parser:
    parser = Parser(prog="pellucid", description="See through a model, and check what you see.", epilog=TOP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and stop")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for name, line, fill, epilog in COMMANDS:
        sub = commands.add_parser(name, help=line, description=f"{line[0].upper()}{line[1:]}.", epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter)
        fill(sub)
        sub.set_defaults(command=_later(MODULES.get(name, name)))
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        print(f"pellucid {importlib.import_module('pellucid').__version__}")
        parser.exit()


def _explain(sub: argparse.ArgumentParser) -> None:
    what, how = _question(sub), sub.add_argument_group("how it is answered")
    what.add_argument("--against", metavar="T", type=number_or_name, help="explain --target rather than this class")
    how.add_argument("--method", metavar="NAME", default="auto", help="a method's name (default: auto, which picks one and says why)")
    _drawn(how)
    _asked(how)
    how.add_argument("--evidence", choices=("none", "basic", "full"), default="basic", help="how much is checked (default: basic)")
    out = sub.add_argument_group("what comes out")
    out.add_argument("--out", metavar="DIR", default="out", help="where the picture, the report and the results go (default: out)")
    out.add_argument("--gate", choices=("supported", "doubtful"), help="exit with 1 unless the verdict is at least this good")
    out.add_argument("--json", action="store_true", help="print JSON alone on standard output")


def _question(sub: argparse.ArgumentParser) -> Any:
    """The options that say what is asked, of which inputs and which model; gives their group."""
    sub.add_argument("inputs", nargs="+", metavar="INPUT", help="a picture's path, sample:NAME (coffee, chelsea, rocket, astronaut, china, flower), a text in quotes or @FILE, or a table FILE.csv")
    what = sub.add_argument_group("what is asked")
    what.add_argument("--model", required=True, metavar="SPEC", help="a built-in name (`pellucid list models`), your own pkg.mod:name (a model, a pipeline, a function), FILE.onnx, or http://host/predict")
    what.add_argument("--takes", choices=("tensor", "array", "images", "texts", "frame"), help="what your function is called with (default: what INPUT is)")
    what.add_argument("--endpoint", metavar="K=V", nargs="+", action="extend", default=[], help="how an address is asked: batch_size, timeout, retries, max_calls, send, read, token_env=VARIABLE")
    what.add_argument("--text", action="store_true", help="every INPUT is a text, whatever it looks like")
    what.add_argument("--row", type=int, nargs="+", default=[], metavar="N", help="which rows of a table; 0 is the first below the names")
    what.add_argument("--background", metavar="FILE", help="a table of rows that absent cells are taken from (default: the table's other rows)")
    what.add_argument("--drop", nargs="+", default=[], metavar="COLUMN", help="columns of a table that the model does not take, such as the answer")
    what.add_argument("--weights", metavar="FILE", help="weights for your factory, .safetensors preferred")
    what.add_argument("--trust", action="store_true", help="allow a model file that can run code; the report says so")
    what.add_argument("--fold", action="store_true", help="fold BatchNorm into the layers before it: a little faster, gradients move slightly; the report says so")
    what.add_argument("--target", metavar="T", type=number_or_name, help="a class number or name (default: the model's own answer)")
    what.add_argument("--at", metavar="LAYER", help='explain at a layer, e.g. "_blocks.10" or "_blocks.10 (input)" (default: the input)')
    what.add_argument("--baseline", metavar="B", type=value, help='what "nothing" looks like: a number, blur, mean or noise')
    return what


def _drawn(how: Any) -> None:
    """What comes and goes, and what is drawn at random."""
    how.add_argument("--masker", metavar="M", help="what comes and goes: slic:50, grid:8, pixels, columns; word, sentence of a text")
    how.add_argument("--seed", type=int, default=0, help="for methods that draw at random (default: 0)")


def _asked(how: Any) -> None:
    """How much the model is asked, and a method's own parameters."""
    how.add_argument("--budget", metavar="N", type=int, help="coalitions that a row may ask the model about")
    how.add_argument("--tol", metavar="E", type=float, help="stop at this error, as a share of the change that is explained")
    how.add_argument("--set", metavar="K=V", nargs="+", action="extend", default=[], dest="parameters", help="parameters of the method, e.g. steps=50")
    how.add_argument("--batch-size", metavar="N", type=plan, help="rows at a time, or the plan of an earlier run to repeat it to the bit (default: measured)")


def _learn(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("table", metavar="TABLE", help="rows to learn from, FILE.csv or FILE.tsv with a line of names")
    sub.add_argument("--model", required=True, metavar="SPEC", help="your own pkg.mod:name (a model, a pipeline, a function), a file of a model, or http://host/predict")
    learnt = "what is learnt: tree-surrogate, rule-surrogate, linear-surrogate, proto-dash ... (`pellucid list surrogates`, `list examples`, `list effects`)"
    sub.add_argument("--method", required=True, metavar="NAME", help=learnt)
    sub.add_argument("--set", metavar="K=V", nargs="+", action="extend", default=[], dest="parameters", help="parameters of the method, e.g. depth=3")
    sub.add_argument("--target", metavar="T", type=number_or_name, help="a class number or name (default: the model's own answer)")
    about_tables(sub)
    sub.add_argument("--seed", type=int, default=0, help="for methods that draw at random (default: 0)")
    sub.add_argument("--out", metavar="DIR", default="out", help="where the picture, the report and the numbers go (default: out)")
    sub.add_argument("--json", action="store_true", help="print JSON alone on standard output")


COMPARE = """\
examples:
  pellucid compare sample:coffee sample:rocket --model efficientnet-lite0 --methods integrated-gradients,grad-cam,saliency
  pellucid compare photos/*.jpg --model my.module:make_net --methods grad-cam,lrp,rise --metrics mask-fidelity,deletion --out ranked --resume

OUT holds comparison.html (one file, works offline), comparison.png and comparison.json, and finished chunks, from which --resume goes on.
"""


def _compare(sub: argparse.ArgumentParser) -> None:
    _question(sub)
    what = sub.add_argument_group("what is compared")
    what.add_argument("--methods", metavar="A,B,C", required=True, help="names of methods with commas between them")
    what.add_argument("--metrics", metavar="A,B", default="mask-fidelity,class-dependence", help="what they are tested by (default: mask-fidelity,class-dependence)")
    how = sub.add_argument_group("how it is answered")
    _drawn(how)
    _asked(how)
    how.add_argument("--chunk", type=int, default=4, metavar="N", help="rows held at a time (default: 4)")
    out = sub.add_argument_group("what comes out")
    out.add_argument("--out", metavar="DIR", default="compared", help="where the page, the picture and the numbers go (default: compared)")
    out.add_argument("--resume", action="store_true", help="go on from the chunks that an earlier run left in OUT")
    out.add_argument("--json", action="store_true", help="print JSON alone on standard output")


def _advise(sub: argparse.ArgumentParser) -> None:
    _question(sub)
    what = sub.add_argument_group("what is wanted")
    what.add_argument("--question", choices=("decision", "representation", "model"), default="decision", help="why this answer, what is inside, or what matters over all inputs (default: decision)")
    what.add_argument("--cost", choices=("fast", "moderate", "any"), default="any", help="a pass or two a row, some hundred, or any number (default: any)")
    what.add_argument("--tune", metavar="METRIC", help="try parameters of the first method on a few rows, by this metric")
    _drawn(sub.add_argument_group("how it is answered"))
    sub.add_argument("--json", action="store_true", help="print JSON alone on standard output")


def _list(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("kind", choices=("methods", "metrics", "effects", "counterfactuals", "surrogates", "examples", "models"), help="what to list")
    sub.add_argument("--by", choices=("taxonomy",), help="group by what is given (examples, attribution, hidden semantics, rules), how far it holds, and for which models")
    sub.add_argument("--json", action="store_true", help="print JSON")


def _show(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("name", metavar="NAME", help="a method's, a metric's or a model's name")
    sub.add_argument("--json", action="store_true", help="print JSON")


def _doctor(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("package", metavar="PACKAGE", nargs="?", help="a package that adds methods or metrics: check that each can be made and keeps its word")
    sub.add_argument("--json", action="store_true", help="print JSON")


COMMANDS: tuple[tuple[str, str, Callable[[argparse.ArgumentParser], None], str | None], ...] = (
    ("explain", "say which parts of an input made the model answer as it did, with evidence", _explain, EXPLAIN),
    ("learn", "learn something from a model and a table: a tree or rules in its place, prototypes, effects", _learn, LEARN),
    ("effects", "show how answers depend on the columns of a table, with intervals and counts", effects_options.fill, effects_options.EFFECTS),
    ("compare", "put several methods side by side on the same inputs: scores, costs, pictures, where they disagree", _compare, COMPARE),
    ("counterfactual", "say what would have had to be different for another answer", counterfactual_options.fill, counterfactual_options.COUNTERFACTUAL),
    ("advise", "say which method fits an input and a model, why, and what it cannot show", _advise, None),
    ("list", "list the methods, the metrics, the other procedures or the models", _list, None),
    ("show", "show what a method or metric does, its parameters, and when it misleads", _show, None),
    ("doctor", "check this installation, or a package that extends it", _doctor, None),
)

MODULES = {"list": "listing"}
"""The module of a command, where it bears another name."""


def _later(module: str) -> Callable[[argparse.Namespace, Sequence[str]], int]:
    """The command of a module that is imported when it is run."""

    def command(args: argparse.Namespace, argv: Sequence[str]) -> int:
        done: int = importlib.import_module(f"{__package__}.{module}").run(args, argv)
        return done

    return command


def _offer(message: str, parser: Parser) -> str:
    """argparse's message as a sentence, with the nearest known word."""
    wrong = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
    if wrong:
        known = [w.strip(" '") for w in wrong[2].split(",")]
        near = nearest(wrong[1], known)
        return f"There is no {wrong[1]!r} here.{f' Did you mean {near[0]!r}?' if near else ''} It takes {', '.join(known)}."
    unknown = re.search(r"unrecognized arguments: (\S+)", message)
    if unknown:
        near = nearest(unknown[1].partition("=")[0], parser._options())
        return f"There is no option {unknown[1]!r} here.{f' Did you mean {near[0]!r}?' if near else ''}"
    return f"{message[:1].upper()}{message[1:]}."


def interactive() -> bool:
    """Whether a person watches standard error."""
    return sys.stderr.isatty()
