"""Holds idle connections: idle.py URL COUNT HEADERS. Each makes one request, a few at a time, so that the upstream's connections do not
count; then it says `ready` and waits for standard input to close."""
import asyncio, sys, urllib.parse
url, count, headers = urllib.parse.urlsplit(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
head = f"GET / HTTP/1.1\r\nHost: {url.netloc}\r\n{headers}\r\n".encode()
async def one(turn):
    async with turn:
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(head)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in answer.split(b"\r\n")[0], answer
        await reader.readexactly(int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
        return reader, writer
async def main():
    turn = asyncio.Semaphore(8)
    held = await asyncio.gather(*(one(turn) for _ in range(count)))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    assert not any(reader.at_eof() for reader, _ in held), "the server closed an idle connection"
asyncio.run(main())
