#!/usr/bin/env python3
"""Shows a page in a frame as wide as a phone: no window of a browser is that narrow.

    tests/e2e/phone.py URL WIDTH HEIGHT

Prints its own address and serves until it is ended. `/frame` holds `/` of URL and says in an
element `fits` whether it needs no scrolling to the side; everything else is passed on, but for the
rule that nobody may frame the page.
"""

import http.server
import sys
import urllib.error
import urllib.request

FRAME = """<!doctype html><meta charset="utf-8"><title>phone</title>
<body style="margin:0"><iframe src="/" style="border:0;width:{width}px;height:{height}px"></iframe>
<p id="fits">waiting</p>
<script>
const frame = document.querySelector("iframe");
const look = setInterval(() => {{
  const page = frame.contentDocument;
  if (!page.body || !page.body.dataset.drawn) return;
  clearInterval(look);
  const needed = page.documentElement.scrollWidth;
  const wide = [...page.querySelectorAll("body *")].filter((it) =>
    it.getBoundingClientRect().right > {width} + 0.5).map((it) => it.className || it.tagName);
  document.getElementById("fits").textContent =
    needed <= {width} && wide.length === 0 ? "yes" : `${{needed}} px: ${{wide.slice(0, 5)}}`;
}}, 50);
</script>
"""


class Passer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url, width, height = sys.argv[1:]
        headers = {"content-type": "text/html"}
        if self.path == "/frame":
            status, body = 200, FRAME.format(width=width, height=height).encode()
        else:
            try:
                with urllib.request.urlopen(url + self.path, timeout=20) as answer:
                    status, body, headers = answer.status, answer.read(), answer.headers
            except urllib.error.HTTPError as error:
                status, body, headers = error.code, error.read(), error.headers
        self.send_response(status)
        self.send_header("content-type", headers["content-type"])
        if policy := headers.get("content-security-policy"):
            framed = policy.replace("frame-ancestors 'none'", "")
            self.send_header("content-security-policy", framed)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Passer)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


main()
