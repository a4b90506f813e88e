"""The official OpenAI package for Python, unmodified, against the embedded engine: what developers do all day."""

import json
import socket

import openai
import pytest
from billing import check_costs
from net import http, wait_until

QUESTION = [{"role": "user", "content": "What is 7 + 8?"}]


def chat(client, network, **options):
    options = {"messages": QUESTION, "max_tokens": 24, "temperature": 0, "model": network.model, **options}
    return client.chat.completions.create(**options)


def check_usage(usage, network):
    """Real counts, and costs by the formula."""
    usage = usage.model_dump()
    assert usage["prompt_tokens"] > 0 and usage["completion_tokens"] > 0, usage
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"], usage
    assert check_costs(usage, network.info) > 0
    return usage


def test_models(tiny, client_of):
    models = client_of(tiny).models.list().data
    assert [m.id for m in models] == [tiny.model]
    assert models[0].object == "model"
    assert models[0].workers[0]["coefficient"] == tiny.info["worker"]["coefficient"]
    assert client_of(tiny).models.retrieve(tiny.model).id == tiny.model


def test_chat(tiny, client_of):
    answer = chat(client_of(tiny), tiny)
    assert answer.object == "chat.completion" and answer.model
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content.strip()
    assert answer.choices[0].finish_reason in ("stop", "length")
    check_usage(answer.usage, tiny)


def test_the_answer_is_generated_by_the_model(tiny, client_of):
    """Not canned: greedy is repeatable, and the answer follows the question."""
    client = client_of(tiny)
    ask = lambda text: chat(client, tiny, messages=[{"role": "user", "content": text}]).choices[0].message.content
    first = ask("What is 7 + 8?")
    assert ask("What is 7 + 8?") == first
    assert ask("Who are you?") != first


def test_chat_stream(tiny, client_of):
    """Without include_usage there is no chunk without choices, which would break many programs."""
    chunks = list(chat(client_of(tiny), tiny, stream=True))
    assert len(chunks) > 2, "the answer came in one piece"
    assert all(chunk.choices for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == chat(client_of(tiny), tiny).choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks][-1] in ("stop", "length")


def test_chat_stream_with_usage(tiny, client_of):
    chunks = list(chat(client_of(tiny), tiny, stream=True, stream_options={"include_usage": True}))
    *others, last = chunks
    assert last.choices == []
    usage = check_usage(last.usage, tiny)
    assert all(chunk.usage is None for chunk in others)
    plain = chat(client_of(tiny), tiny).usage.model_dump()
    assert {k: usage[k] for k in ("prompt_tokens", "completion_tokens", "total_cost")} == {
        k: plain[k] for k in ("prompt_tokens", "completion_tokens", "total_cost")
    }


def test_stream_ends_with_done(tiny):
    body = {"model": tiny.model, "messages": QUESTION, "max_tokens": 5, "stream": True}
    answer = tiny.post("/v1/chat/completions", body)
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/event-stream")
    events = [line for line in answer.body.decode().split("\n") if line]
    assert all(event.startswith("data: ") for event in events), events
    assert events[-1] == "data: [DONE]" and events.count("data: [DONE]") == 1


def test_completions(tiny, client_of):
    options = {"model": tiny.model, "prompt": "7 + 8 =", "max_tokens": 8, "temperature": 0}
    answer = client_of(tiny).completions.create(**options)
    assert answer.object == "text_completion" and answer.choices[0].text
    check_usage(answer.usage, tiny)
    chunks = list(client_of(tiny).completions.create(**options, stream=True))
    assert all(chunk.choices for chunk in chunks)
    assert "".join(chunk.choices[0].text for chunk in chunks) == answer.choices[0].text


def test_max_tokens_is_kept(tiny, client_of):
    answer = chat(client_of(tiny), tiny, max_tokens=1)
    assert answer.usage.completion_tokens == 1
    assert answer.choices[0].finish_reason == "length"


def test_async_client_in_parallel(tiny):
    import asyncio

    async def main():
        async with openai.AsyncOpenAI(base_url=tiny.base_url, api_key="unused", max_retries=0) as client:
            return await asyncio.gather(*(chat(client, tiny) for _ in range(8)))

    answers = asyncio.run(main())
    assert len({a.choices[0].message.content for a in answers}) == 1, "greedy answers depend on the company they keep"


@pytest.mark.parametrize(
    ("options", "error", "status", "code"),
    [
        ({"model": "no-such-model"}, openai.NotFoundError, 404, "model_not_found"),
        ({"messages": "a text"}, openai.BadRequestError, 400, None),
        ({"temperature": "hot"}, openai.BadRequestError, 400, None),
        ({"max_tokens": -1}, openai.BadRequestError, 400, None),
        ({"max_tokens": "many"}, openai.BadRequestError, 400, None),
        ({"extra_body": {"stream": "yes"}}, openai.BadRequestError, 400, None),
        ({"extra_body": {"no_such_option": 1}}, openai.BadRequestError, 400, None),
        ({"extra_body": {"timeout": "soon"}}, openai.BadRequestError, 400, None),
        ({"extra_body": {"max_coefficient": 1}}, openai.APIStatusError, 402, "price_above_limit"),
        ({"max_tokens": 9_000_000}, openai.APIStatusError, 402, "insufficient_balance"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
def test_errors(tiny, client_of, options, error, status, code):
    with pytest.raises(error) as caught:
        chat(client_of(tiny), tiny, **options)
    assert caught.value.status_code == status
    # An OpenAI error object: message, type, code (and param) are there, and the message says something.
    assert len(caught.value.message) > 10 and caught.value.type, caught.value.body
    assert set(caught.value.body) == {"message", "type", "param", "code"}
    if code:
        assert caught.value.code == code
    # The endpoint goes on as if nothing had happened.
    assert chat(client_of(tiny), tiny, max_tokens=1).choices


@pytest.mark.parametrize("body", [b"{", b"", b"[1]", b"null", b'{"model": }', b"\xff\xfe", b'{"model":"x"', b"[" * 100_000])
def test_bad_json(tiny, body):
    answer = tiny.post("/v1/chat/completions", body)
    assert answer.status == 400, answer.body
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.json()["error"]["message"]


def test_wrong_paths_and_methods(tiny):
    url = tiny.info["client"]["url"]
    for path, status in [("/v1/embeddings", 404), ("/nothing", 404)]:
        answer = http(url + path, {"model": tiny.model})
        assert (answer.status, answer.json()["error"]["code"]) == (status, "unknown_url")
    assert http(url + "/v1/chat/completions").status == 405


def test_garbage_instead_of_http(tiny):
    for data in [b"\0" * 1000, b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01" + b"x" * 500, b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n"]:
        for port in (tiny.info[part]["port"] for part in ("client", "proxy", "worker", "chain")):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as stream:
                stream.settimeout(5)
                try:
                    stream.sendall(data)
                    stream.shutdown(socket.SHUT_WR)
                    while stream.recv(4096):
                        pass
                except (ConnectionError, OSError) as error:
                    assert not isinstance(error, TimeoutError), f"port {port} holds on to nonsense"
    assert tiny.alive() and http(tiny.info["client"]["url"] + "/health").status == 200


def test_a_caller_who_leaves_stops_the_generation(priced, backend, client_of):
    before = backend.gone
    order = json.dumps({"chunks": 600, "delay": 0.1})
    client = client_of(priced)
    options = {"messages": [{"role": "user", "content": order}], "extra_body": {"max_coefficient": 5000}}
    stream = chat(client, priced, stream=True, **options)
    for _, _chunk in zip(range(3), stream):
        pass
    assert priced.stats("worker")["running"] == 1
    assert backend.running == 1
    stream.close()
    wait_until("the worker runs nothing", lambda: priced.stats("worker")["running"] == 0, timeout=5)
    wait_until("the engine was told to stop", lambda: backend.running == 0 and backend.gone == before + 1, timeout=5)
    wait_until("the proxy has closed the books", lambda: priced.stats("proxy")["status"]["running_queries"] == 0, timeout=5)


def test_a_caller_who_leaves_the_embedded_engine(tiny, client_of):
    stream = chat(client_of(tiny), tiny, max_tokens=900, temperature=2, stream=True)
    next(iter(stream))
    stream.close()
    wait_until("the worker runs nothing", lambda: tiny.stats("worker")["running"] == 0, timeout=5)
