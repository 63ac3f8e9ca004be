"""Makes requests one after another on one connection: requests.py URL COUNT HEADERS STATUS."""
import socket, ssl, sys, urllib.parse

url, count, headers, status = urllib.parse.urlsplit(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
head = f"GET {url.path or '/'} HTTP/1.1\r\nHost: {url.netloc}\r\n{headers}\r\n".encode()
connection = socket.create_connection((url.hostname, url.port))
if url.scheme == "https":
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = context.wrap_socket(connection)
reader = connection.makefile("rb")
for _ in range(count):
    connection.sendall(head)
    line, length = reader.readline(), 0
    assert line.split()[1].decode() == status, line
    while (field := reader.readline().strip()) != b"":
        if field.lower().startswith(b"content-length:"):
            length = int(field.split(b":")[1])
    reader.read(length)
