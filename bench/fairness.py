"""What bench/fairness.sh runs beside wrk: fairness.py probe | slow | repeat, each with arguments of its own."""
import asyncio, gc, random, re, signal, socket, subprocess, sys, threading, time, urllib.parse

# Of a small request and its answer, one every 5 to 10 ms on one connection: p50, p99 and the longest, in milliseconds.
# The probe is another client than the flood: it comes from an address of its own.
def probe(url, samples, headers):
    url = urllib.parse.urlsplit(url)
    head = f"GET / HTTP/1.1\r\nHost: {url.netloc}\r\n{headers}\r\n".encode()
    connection = socket.create_connection((url.hostname, url.port), timeout=60, source_address=("127.0.0.9", 0))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    took = []
    gc.disable()
    for _ in range(int(samples)):
        time.sleep(random.uniform(0.005, 0.010))
        begun = time.perf_counter()
        connection.sendall(head)
        answer = b""
        while not answer.endswith(b"hello from the app\n"):
            piece = connection.recv(65536)
            assert piece, f"the probe was cut after {answer}"
            answer += piece
            assert answer.startswith(b"HTTP/1.1 200 "[:len(answer)]), answer
        took.append((time.perf_counter() - begun) * 1e3)
    took.sort()
    print(f"{took[len(took) // 2]:.2f} {took[min(len(took) - 1, len(took) * 99 // 100)]:.2f} {took[-1]:.2f}")

# Readers that take 4 KB a second each. Prints how many bytes a second all of them took.
def slow(url, count, headers):
    url, taken = urllib.parse.urlsplit(url), [0]
    head = f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\n{headers}\r\n".encode()
    async def one():
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, (url.hostname, url.port))
        await loop.sock_sendall(connection, head)
        first = True
        while True:
            piece = await loop.sock_recv(connection, 1024)
            assert piece and (not first or b" 200 " in piece.split(b"\r\n")[0]), piece
            first, taken[0] = False, taken[0] + len(piece)
            await asyncio.sleep(0.25)
    async def all_of_them():
        begun, ended = time.monotonic(), asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, ended.set)
        readers = asyncio.gather(*(one() for _ in range(int(count))))
        done, _ = await asyncio.wait([readers, asyncio.create_task(ended.wait())], return_when=asyncio.FIRST_COMPLETED)
        if readers in done:
            readers.result()
        print(f"rate {taken[0] / (time.monotonic() - begun):.0f}", flush=True)
        readers.cancel()
    asyncio.run(all_of_them())

# Runs a command again and again, COUNT at a time, until it is interrupted. `what` is how many things a run does, or the
# pattern that finds it in the output.
def repeat(what, count, *command):
    done, running, ending, lock = [0.0], set(), threading.Event(), threading.Lock()
    begun = time.monotonic()
    def turns():
        while not ending.is_set():
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            with lock:
                running.add(process)
            out = process.communicate()[0]
            found = [what, what] if what.isdigit() else re.search(what, out)
            with lock:
                running.discard(process)
                if process.returncode == 0 and found:
                    done[0] += float(found[1])
                elif not ending.is_set():
                    print(f"failed: {out[-2000:]}", flush=True)
                    return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    threads = [threading.Thread(target=turns) for _ in range(int(count))]
    for thread in threads:
        thread.start()
    while signal.sigtimedwait({signal.SIGINT}, 0.2) is None:
        if not all(thread.is_alive() for thread in threads):
            break
    took = time.monotonic() - begun
    ending.set()
    with lock:
        for process in running:
            process.kill()
    for thread in threads:
        thread.join()
    print(f"rate {done[0] / took:.0f}", flush=True)

{"probe": probe, "slow": slow, "repeat": repeat}[sys.argv[1]](*sys.argv[2:])
