"""A small OpenAI-compatible server for the tests: does what a message's text asks for, and counts.

The last message (or the prompt) is JSON, such as {"chunks": 5, "usage": {...}, "break_after": 2, "delay": 0.05, "linger": 1,
"status": 500, "text": "comes first"}.
Anything else gets two chunks and a usage of 3 + 2 tokens.
"""

import asyncio
import json
import threading

MODEL = "test-backend"
DEFAULT_USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


class Backend:
    def __init__(self):
        self.running = 0
        self.finished = 0
        self.gone = 0
        # Usage of the answers that were written to the end, by the `id` their order named.
        self.completed = {}
        self.healthy = True
        self.requests = []
        ready = threading.Event()
        threading.Thread(target=self._run, args=(ready,), daemon=True).start()
        assert ready.wait(10)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def _run(self, ready):
        async def main():
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            await server.serve_forever()

        asyncio.run(main())

    async def _serve(self, reader, writer):
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _one(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if not self.healthy:
            await self._reply(writer, 503, {"error": {"message": "out of order"}})
        elif method == "GET" and path == "/v1/models":
            await self._reply(writer, 200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        elif method == "POST":
            request = json.loads(body)
            self.requests.append(request)
            return await self._answer(reader, writer, request, path.endswith("/chat/completions"))
        else:
            await self._reply(writer, 404, {"error": {"message": "no such path"}})
        return True

    async def _reply(self, writer, status, value):
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    async def _answer(self, reader, writer, request, chat):
        text = request["messages"][-1]["content"] if chat else request["prompt"]
        try:
            order = json.loads(text)
        except ValueError:
            order = {}
        if not isinstance(order, dict):
            order = {}
        usage = {**DEFAULT_USAGE, **order.get("usage", {})}
        if "status" in order:
            await self._reply(writer, order["status"], {"error": {"message": "as ordered", "type": "test"}})
            return True
        self.running += 1
        try:
            whole = await self._generate(reader, writer, request, order, usage, chat)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone += 1
            return False
        finally:
            self.running -= 1
        if whole:
            self.finished += 1
            self.completed[order.get("id")] = usage
        return whole

    async def _generate(self, reader, writer, request, order, usage, chat):
        chunks, delay = order.get("chunks", 2), order.get("delay", 0)
        break_after = order.get("break_after")
        kind = "chat.completion" if chat else "text_completion"
        common = {"id": "x", "created": 1, "model": MODEL}
        if not request.get("stream"):
            for at in range(chunks):
                await self._pause(reader, delay)
                if at == break_after:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
                    await writer.drain()
                    writer.transport.abort()
                    return False
            text = order.get("text", "") + "word " * chunks
            choice = {"index": 0, "finish_reason": "stop", "logprobs": None}
            choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
            await self._reply(writer, 200, {**common, "object": kind, "choices": [choice], "usage": usage})
            return True
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head)
        for at in range(chunks):
            await self._pause(reader, delay)
            if at == break_after:
                await writer.drain()
                writer.transport.abort()
                return False
            choice = {"index": 0, "finish_reason": "stop" if at + 1 == chunks else None}
            word = (order.get("text", "") if at == 0 else "") + "word "
            choice |= {"delta": {"role": "assistant", "content": word}} if chat else {"text": word}
            await self._event(writer, {**common, "object": kind + ".chunk" if chat else kind, "choices": [choice]})
        if (request.get("stream_options") or {}).get("include_usage"):
            await self._event(writer, {**common, "object": kind + ".chunk" if chat else kind, "choices": [], "usage": usage})
        if "linger" in order:
            await self._pause(reader, order["linger"])
        await self._event(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _pause(self, reader, delay):
        """Waits, and notices a caller who leaves: he sends nothing more, so all that can come is the end."""
        try:
            await asyncio.wait_for(reader.read(1), delay if delay else 0.001)
        except TimeoutError:
            return
        raise ConnectionError("the caller has left")

    async def _event(self, writer, value):
        data = b"data: " + (value if isinstance(value, str) else json.dumps(value)).encode() + b"\n\n"
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await writer.drain()
