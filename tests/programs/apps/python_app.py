"""The same answer for gunicorn (`wsgi`) and for uvicorn (`asgi`): who is the worker."""
import os


def wsgi(environ, start_response):
    """Of gunicorn the worker is the parent of who answers."""
    body = str(os.getppid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    body = str(os.getpid()).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
