"""Reads the chain through its HTTP interface alone: get-methods, transactions, all coins. Nothing of our own counters."""

import base64
import urllib.parse

from net import http

# Operations of the contracts (spec/contracts.md section 3).
PAYOUT = 0xC59A7CD3
TOP_UP = 0xF172E6C2
SECRET_AND_TOP_UP = 0x8473B408
WORKER_REQUEST = 0x4D725D2C
SIGNED_CHARGE = 0xBB63FF93
SIGNED_PAYOUT = 0xA040AD28


class Bits:
    """Reads the bits of one cell."""

    def __init__(self, data, length):
        self.value, self.left = int.from_bytes(data, "big") >> (len(data) * 8 - length), length

    def uint(self, bits):
        assert bits <= self.left, "the cell is too short"
        self.left -= bits
        return (self.value >> self.left) & ((1 << bits) - 1)

    def coins(self):
        return self.uint(8 * self.uint(4))

    def address(self):
        kind = self.uint(2)
        if kind == 0:
            return None
        assert kind == 2 and self.uint(1) == 0, "not a standard address"
        workchain = self.uint(8)
        return f"{workchain - 256 if workchain > 127 else workchain}:{self.uint(256):064x}"


def root_bits(boc):
    """The bits of a BOC's root cell; its references are not needed here."""
    data = base64.b64decode(boc)
    assert data[:4] == bytes.fromhex("b5ee9c72"), "not a BOC"
    has_index, size = data[4] >> 7, data[4] & 7
    offset = data[5]
    take = lambda at, n: int.from_bytes(data[at : at + n], "big")
    cells, roots = take(6, size), take(6 + size, size)
    at = 6 + 3 * size + offset
    assert take(at, size) == 0, "the root is expected first"
    at += roots * size + (cells * offset if has_index else 0)
    assert data[at] & 7 <= 4 and not data[at] & 8, "an ordinary cell is expected"
    half_bytes = data[at + 1]
    content = data[at + 2 : at + 2 + (half_bytes + 1) // 2]
    length = half_bytes // 2 * 8
    if half_bytes % 2:
        last = content[-1]
        length += 7 - ((last & -last).bit_length() - 1)
    return Bits(content, length)


def raw_address(text):
    """Raw form of an address in the text form with checksum."""
    if ":" in text:
        return text
    data = base64.urlsafe_b64decode(text.replace("+", "-").replace("/", "_"))
    workchain = data[1] - 256 if data[1] > 127 else data[1]
    return f"{workchain}:{data[2:34].hex()}"


class Message:
    def __init__(self, json):
        self.source = raw_address(json["source"]) if json["source"] else None
        self.destination = raw_address(json["destination"]) if json["destination"] else None
        self.value = int(json["value"])
        self.bounced = json["bounced"]
        self.boc = json["msg_data"]["body"]

    def body(self):
        return root_bits(self.boc)

    def op(self):
        bits = self.body()
        return bits.uint(32) if bits.left >= 32 else None


class Transaction:
    def __init__(self, json):
        self.lt = int(json["transaction_id"]["lt"])
        self.hash = json["transaction_id"]["hash"]
        self.aborted = json["aborted"]
        self.exit_code = json["compute_exit_code"]
        self.in_msg = Message(json["in_msg"]) if json["in_msg"] else None
        self.out_msgs = [Message(m) for m in json["out_msgs"]]


class Chain:
    def __init__(self, network):
        self.url = network.info["chain"]["url"]
        self.info = network.info

    def get(self, method, **parameters):
        answer = http(f"{self.url}/api/v2/{method}?{urllib.parse.urlencode(parameters)}")
        assert answer.status == 200, answer.body
        return answer.json()["result"]

    def run(self, address, method):
        """Runs a get-method; numbers come back as integers, addresses in raw form."""
        answer = http(f"{self.url}/api/v2/runGetMethod", {"address": address, "method": method, "stack": []})
        assert answer.status == 200, answer.body
        result = answer.json()["result"]
        assert result["exit_code"] == 0, result
        values = []
        for kind, value in result["stack"]:
            values.append(int(value, 16) if kind == "num" else root_bits(value["bytes"]).address())
        return values

    def balance(self, address):
        return int(self.get("getAddressBalance", address=address))

    def transactions(self, address):
        """All transactions of an account, newest first."""
        found, page = [], self.get("getTransactions", address=address, limit=100)
        while page:
            found += [Transaction(t) for t in page]
            last = page[-1]["previous_transaction_id"]
            if int(last["lt"]) == 0:
                break
            page = self.get("getTransactions", address=address, limit=100, lt=last["lt"], hash=last["hash"])
        lts = [t.lt for t in found]
        assert lts == sorted(set(lts), reverse=True), "transactions are not in order"
        return found

    def client(self):
        names = ["owner", "proxy", "public_key", "state", "balance", "stake", "used", "unlock", "secret"]
        return dict(zip(names, self.run(self.info["client"]["contract"], "get_cocoon_client_data"), strict=True))

    def worker(self):
        names = ["owner", "proxy", "public_key", "state", "paid"]
        # It is deployed together with its first payout.
        if self.get("getAddressState", address=self.info["worker"]["contract"]) == "uninitialized":
            return {**dict.fromkeys(names), "paid": 0}
        return dict(zip(names, self.run(self.info["worker"]["contract"], "get_cocoon_worker_data"), strict=True))

    def proxy(self):
        names = ["owner", "public_key", "root", "state", "balance", "stake", "unlock", "price", "fee", "min_proxy_stake"]
        names += ["min_client_stake", "params_version"]
        return dict(zip(names, self.run(self.info["proxy"]["contract"], "get_cocoon_proxy_data"), strict=True))

    def payouts(self, receiver):
        """Coins that the proxy contract has paid to somebody, by the messages in the receiver's transactions."""
        return sum(
            t.in_msg.value
            for t in self.transactions(receiver)
            if t.in_msg and t.in_msg.source == self.info["proxy"]["contract"] and t.in_msg.op() == PAYOUT
        )

    def revenue(self):
        """What the proxy earned in all: still in its contract, and already paid to its owner."""
        assert self.info["proxy"]["owner"] != self.info["worker"]["owner"]
        return self.proxy()["balance"] + self.payouts(self.info["proxy"]["owner"])

    def deposits(self):
        """What the client's owner has put into his account, by the messages that the client contract accepted."""
        total = 0
        for transaction in self.transactions(self.info["client"]["contract"]):
            message = transaction.in_msg
            if message and not transaction.aborted and message.op() in (TOP_UP, SECRET_AND_TOP_UP):
                bits = message.body()
                bits.uint(32 + 64)
                total += bits.coins()
        return total

    def supply(self):
        answer = http(f"{self.url}/admin/supply")
        assert answer.status == 200, answer.body
        return {k: int(v) if isinstance(v, str) else v for k, v in answer.json()["result"].items()}

    def check_supply(self):
        """All coins of the beginning are in accounts, under way or burned as fees."""
        supply = self.supply()
        parts = supply["accounts"] + supply["in_queues"] + supply["burned_fees"]
        assert parts == supply["genesis"] and supply["conserved"] is True, supply
        return supply
