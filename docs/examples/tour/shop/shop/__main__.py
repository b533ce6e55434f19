"""Serve the shop at HOST:PORT: python3 -m shop HOST:PORT."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from shop import __version__
from shop.till import price


class Shop(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"shop {__version__}: a cup of tea is {price()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    host, port = sys.argv[1].split(":")
    ThreadingHTTPServer((host, int(port)), Shop).serve_forever()
