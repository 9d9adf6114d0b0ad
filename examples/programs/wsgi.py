"""An application for gunicorn, which finds its socket by LISTEN_FDS:

    mcluster start gunicorn --interpreter none --listen 127.0.0.1:3000 -- wsgi:app

(where this file is, or with `--cwd examples/programs`). Without `--bind fd://3`: it would take the
same descriptor twice.
"""

import os


def app(environ, start_response):
    body = f"Handled by process {os.getpid()}\n".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
