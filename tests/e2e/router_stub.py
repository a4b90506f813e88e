"""A stand-in for the routers of both sides: SOCKS5 in, a plain connection to the target out, a frame to each end.

It attests nobody and claims fake evidence for both, as routers with the policy fake_tdx would (spec/protocol.md 1.1, 1.2).
"""

import asyncio
import struct
import threading

FAKE_TDX = struct.pack("<ii", 1, 0) + bytes(8 * 48) + bytes(64)


def tl_bytes(data):
    assert len(data) < 254
    out = bytes([len(data)]) + data
    return out + bytes(-len(out) % 4)


def frame(key, attestation=FAKE_TDX):
    ends = 2 * (tl_bytes(b"127.0.0.1") + struct.pack("<i", 1))
    body = attestation + bytes(48) + tl_bytes(bytes([key]) * 32) + ends
    return struct.pack("<i", len(body)) + body


class RouterStub:
    def __init__(self, attestation=FAKE_TDX):
        self.attestation = attestation
        self.connections = 0
        self.writers = set()
        ready = threading.Event()
        threading.Thread(target=self._run, args=(ready,), daemon=True).start()
        assert ready.wait(10)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def _run(self, ready):
        async def main():
            self.loop = asyncio.get_running_loop()
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            await server.serve_forever()

        asyncio.run(main())

    def cut(self):
        """Breaks every connection, as a router that is restarted."""

        def abort():
            for writer in list(self.writers):
                writer.transport.abort()

        self.loop.call_soon_threadsafe(abort)

    async def _serve(self, reader, writer):
        remote = None
        try:
            assert await reader.readexactly(3) == b"\x05\x01\x00"
            writer.write(b"\x05\x00")
            request = await reader.readexactly(10)
            assert request[:2] == b"\x05\x01" and request[3] == 1
            host = ".".join(str(b) for b in request[4:8])
            back, remote = await asyncio.open_connection(host, int.from_bytes(request[8:], "big"))
            self.connections += 1
            self.writers |= {writer, remote}
            remote.write(frame(1, self.attestation))
            # Reply and frame in one piece, as routers send them.
            writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x01" + frame(2, self.attestation))
            await asyncio.gather(self._relay(reader, remote), self._relay(back, writer))
        except (ConnectionError, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for end in (writer, remote):
                if end is not None:
                    self.writers.discard(end)
                    end.close()

    async def _relay(self, reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
