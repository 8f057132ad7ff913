"""Shows the notes beside this file: Markdown with a YAML head, code in colour."""
import os
import pathlib
import sys

import flask
import markdown
import yaml

FOLDER = pathlib.Path(__file__).resolve().parent / "notes"
app = flask.Flask(__name__)


def note(name):
    """Gives a note's head and its text as HTML."""
    _, head, text = (FOLDER / f"{name}.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), markdown.markdown(text, extensions=["fenced_code", "codehilite"])


def names():
    return sorted(path.stem for path in FOLDER.glob("*.md"))


@app.get("/")
def index():
    links = "".join(f'<li><a href="/{name}">{note(name)[0]["title"]}</a></li>' for name in names())
    return f"<!DOCTYPE html><title>Notes</title><h1>Notes</h1><ul>{links}</ul>"


@app.get("/<name>")
def show(name):
    if name not in names():
        flask.abort(404)
    head, html = note(name)
    return f'<!DOCTYPE html><title>{head["title"]}</title><h1>{head["title"]}</h1>{html}'


@app.get("/about")
def about():
    return {"python": sys.version.split()[0], "prefix": sys.prefix, "pid": os.getpid()}


if __name__ == "__main__":
    for listed in names():
        print(listed, "-", note(listed)[0]["title"])
