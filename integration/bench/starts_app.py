# Has every module that a web shop uses, answers one request and ends.
import http.server, threading, urllib.request

import aiohttp, cryptography.fernet, django, flask, h5py, lxml.etree, markdown, matplotlib.pyplot, networkx, numpy, pandas
import PIL.Image, psycopg2, pygments, redis, requests, scipy.stats, sklearn.linear_model, sqlalchemy, sympy, waitress, yaml


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"shop")

    def log_message(self, *args):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.handle_request).start()
with urllib.request.urlopen("http://127.0.0.1:%d/" % server.server_port) as answer:
    assert answer.read() == b"shop"
