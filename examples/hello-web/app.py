"""A page that greets whoever the environment names."""

import os

from flask import Flask
from waitress import serve

app = Flask(__name__)


@app.get("/")
def hello() -> str:
    return f"Hello {os.environ.get('WHO', 'World')}. Wish you were here.\n"


if __name__ == "__main__":
    serve(app, host="0.0.0.0", port=8080)  # noqa: S104 - the container's own network
