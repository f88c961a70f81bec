"""The command line: ``python tools/book sync``, and so on."""

import argparse
import sys
from pathlib import Path

if not __package__:  # started as a folder: `python tools/book`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import book
from book.checks import CHECKS
from book.claims import try_claims
from book.execute import execute
from book.form import form
from book.pages import ROOT, Refused, pages
from book.reproduce import reproduce
from book.sync import set_address, sync


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(prog="book", description=book.__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("sync", help=".md to .ipynb, times, claims and equations to their places")
    commands.add_parser("address", help="change the repository's address").add_argument("url")
    for name, text in (
        ("execute", "run on MNIST and store the outputs"),
        ("reproduce", "run on MNIST and compare with the stored outputs"),
        ("claims", "run with several seeds on three data sets; store the claims' ranges"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("chapter", nargs="?", help="a page's number or name (default: all)")
    commands.add_parser("check", help="say what is wrong with the notebooks as they are")
    commands.add_parser("form", help="how much of each page is in sight: words, cells, figures")
    args = parser.parse_args(argv)

    try:
        if args.command == "address":
            set_address(root, args.url)
        if args.command in ("address", "sync"):
            for path in sync(root):
                print(f"{path.relative_to(root)}: written")
            return 0
        if args.command == "form":
            print(form(root))
            return 0
        if args.command == "check":
            wrong = [message for check in CHECKS for message in check(root)]
            print("\n".join(wrong) or f"{len(pages(root))} notebooks, nothing wrong")
            return 1 if wrong else 0
        work = {"execute": execute, "reproduce": reproduce, "claims": try_claims}[args.command]
        return 1 if work(root, args.chapter) else 0
    except Refused as error:
        print(f"book {args.command}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
