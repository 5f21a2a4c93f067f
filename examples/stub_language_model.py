"""A language model small enough to know exactly: an OpenAI-compatible server with a tiny tokenizer and a softmax over 300 tokens.

    python examples/stub_language_model.py --port 8000      # serves http://127.0.0.1:8000/v1

It answers as vLLM does with `return_token_ids` and `prompt_logprobs`. Logits depend on the tokens before, by a hash; the same function
gives the log-prob of a token that is sampled and of one that is read, so on-policy ratios are exactly 1. It says `go` or `wait`, sometimes
in pieces (`g`, `o`), which a tokenizer would never produce: text that is tokenized again becomes other tokens.
"""

import argparse
import hashlib
import json
import math
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from marlstone.cost.idempotency import Served

SPECIAL = ["<system>", "<user>", "<assistant>", "<end>"]
PIECES = ["wait", "go", "wa", "it", "g", "o", "w", "a", "i", "t", " ", ".", "left", "right", "car", "cars", "here", "across"]
VOCABULARY = [*SPECIAL, *PIECES, *(f"<byte {b}>" for b in range(256))]
FIRST_BYTE = len(SPECIAL) + len(PIECES)
END = SPECIAL.index("<end>")
LIKED = {"wait": 5.0, "go": 5.5, "g": 3.5, "wa": 3.0, ".": 1.0}
NEXT = {"g": "o", "wa": "it"}


def tokenize(text: str) -> list[int]:
    """The longest piece that fits, again and again; bytes where none does."""
    ids, data = [], text.encode()
    pieces = sorted(((p.encode(), len(SPECIAL) + k) for k, p in enumerate(PIECES)), key=lambda x: -len(x[0]))
    while data:
        piece, id = next(((p, k) for p, k in pieces if data.startswith(p)), (data[:1], FIRST_BYTE + data[0]))
        ids.append(id)
        data = data[len(piece) :]
    return ids


def decode(ids: list[int]) -> str:
    """The text of ids; special ones have none."""
    data = b"".join(bytes([i - FIRST_BYTE]) if i >= FIRST_BYTE else VOCABULARY[i].encode() for i in ids if i >= len(SPECIAL))
    return data.decode("utf-8", "replace")


def rendered(messages: list[dict[str, str]]) -> list[int]:
    """The chat template."""
    ids = []
    for m in messages:
        ids += [SPECIAL.index(f"<{m['role']}>"), *tokenize(m["content"]), *([END] if m["role"] == "assistant" else [])]
    return [*ids, SPECIAL.index("<assistant>")]


class Model:
    """Logits by a hash of what came before; `weights` is all there is to train."""

    def __init__(self, weights: int = 0) -> None:
        self.weights = weights

    def log_probs(self, before: list[int]) -> list[float]:
        """Of every token, given those before."""
        noise = random.Random(hashlib.sha256(json.dumps([self.weights, before[-64:]]).encode()).digest())
        last = VOCABULARY[before[-1]] if before else ""
        begun = last != "<assistant>"
        logits = []
        for k, token in enumerate(VOCABULARY):
            liked = 8.0 if NEXT.get(last) == token else 6.0 if begun and k == END and last not in NEXT else LIKED.get(token, -6.0)
            logits.append(liked - 4.0 * (begun and k != END and NEXT.get(last) != token) + noise.uniform(-1, 1))
        most = max(logits)
        total = most + math.log(math.fsum(math.exp(x - most) for x in logits))
        return [x - total for x in logits]

    def sample(self, prompt: list[int], most: int, seed: int) -> tuple[list[int], list[float], str]:
        """Ids, their log-probs, and why it ended."""
        draw, ids, taken = random.Random(seed), list[int](), list[float]()
        while len(ids) < most:
            log_probs = self.log_probs([*prompt, *ids])
            ids += draw.choices(range(len(VOCABULARY)), [math.exp(x) for x in log_probs])
            taken.append(log_probs[ids[-1]])
            if ids[-1] == END:
                return ids, taken, "stop"
        return ids, taken, "length"


class Stub:
    """The server: `with Stub() as stub: ... stub.url`.

    `key`: that requests must carry; `failing`: requests that are answered 503 before one succeeds; `gives_ids`: many servers give none.
    """

    def __init__(self, port: int = 0, key: str = "", failing: int = 0, gives_ids: bool = True, weights: int = 0) -> None:
        self.key, self.failing, self.gives_ids, self.model = key, failing, gives_ids, Model(weights)
        self.asked, self.sampled, self.lock, self.served = 0, 0, threading.Lock(), Served()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = stub.answer(self.path, self.headers, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                if status == 503:
                    self.send_header("Retry-After", "0")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def answer(self, path: str, headers: Any, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and JSON of a request."""
        with self.lock:
            self.asked += 1
            if self.failing > 0:
                self.failing -= 1
                return 503, {"error": {"message": "overloaded"}}
        if self.key and headers.get("Authorization") != f"Bearer {self.key}":
            return 401, {"error": {"message": f"no such key: {headers.get('Authorization')}"}}
        work = {"/v1/chat/completions": self.chat, "/v1/completions": self.read}.get(path)
        if work is None:
            return 404, {"error": {"message": f"no {path}"}}
        if key := headers.get("Idempotency-Key"):
            return 200, self.served.once(f"{path} {key}", lambda: work(body), json.dumps(body))[0]
        return 200, work(body)

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        """`/chat/completions`."""
        with self.lock:
            self.sampled += 1
            number = self.sampled
        prompt = rendered(body["messages"])
        ids, log_probs, why = self.model.sample(prompt, body.get("max_tokens", 16), body.get("seed", number))
        content = [{"token": VOCABULARY[i], "logprob": x, "top_logprobs": []} for i, x in zip(ids, log_probs)]
        choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": decode(ids)}, "finish_reason": why}
        choice["logprobs"] = {"content": content} if body.get("logprobs") else None
        answer = {"id": f"chatcmpl-{number}", "object": "chat.completion", "model": body["model"], "choices": [choice]}
        answer["usage"] = {"prompt_tokens": len(prompt), "completion_tokens": len(ids), "total_tokens": len(prompt) + len(ids)}
        if self.gives_ids and body.get("return_token_ids"):
            answer["prompt_token_ids"], choice["token_ids"] = prompt, ids
        return answer

    def read(self, body: dict[str, Any]) -> dict[str, Any]:
        """`/completions` of token ids, with the log-prob of each."""
        ids = body["prompt"]
        by_token: list[Any] = [None]
        for k in range(1, len(ids)):
            by_token.append({str(ids[k]): {"logprob": self.model.log_probs(ids[:k])[ids[k]], "decoded_token": VOCABULARY[ids[k]]}})
        choice = {
            "index": 0,
            "text": "",
            "finish_reason": "length",
            "prompt_logprobs": by_token,
            "prompt_token_ids": ids,
            "token_ids": [END],
        }
        return {"id": "cmpl-1", "object": "text_completion", "model": body["model"], "choices": [choice]}

    def __enter__(self) -> "Stub":
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    stub = Stub(parser.parse_args().port)
    print(f"serving on {stub.url}", flush=True)
    stub.server.serve_forever()
