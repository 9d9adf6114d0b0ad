"""An application for uvicorn, which takes its socket by descriptor:

    mcluster start uvicorn --interpreter none --listen 127.0.0.1:3000 -- --fd 3 asgi:app

(where this file is, or with `--cwd examples/programs`).
"""

import os


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = f"Handled by process {os.getpid()}\n".encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
