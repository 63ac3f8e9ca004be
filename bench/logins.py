"""Signs in again and again on one connection: logins.py URL COUNT. Prints the seconds that it took."""
import http.client, sys, time, urllib.parse
url, count = urllib.parse.urlsplit(sys.argv[1]), int(sys.argv[2])
gateway = http.client.HTTPConnection(url.netloc)
def ask(path, headers):
    gateway.request("GET", path, headers=headers)
    answer = gateway.getresponse()
    answer.read()
    assert answer.status == 302, (path, answer.status)
    return answer
begun = time.monotonic()
for _ in range(count):
    sent = ask("/", {"Accept": "text/html"})
    asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(sent.headers["Location"]).query))
    code = urllib.parse.urlencode({"code": asked["nonce"], "state": asked["state"]})  # as /authorize would answer
    flow = sent.headers["Set-Cookie"].split(";")[0]
    done = ask(f"/oauth2/callback?{code}", {"Accept": "text/html", "Cookie": flow})
    assert any(c.startswith("doorward=") for c in done.headers.get_all("Set-Cookie")), done.headers
print(time.monotonic() - begun)
