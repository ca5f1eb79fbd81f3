# SPDX-License-Identifier: Apache-2.0
"""C-core's client calls "faultline serve": client.py PORT [CA]. It prints what went wrong, and at last "all well"."""
import sys
import time

import grpc

SERVICE = "/grpc.testing.TestService/"
wrong = 0


def check(what, ok, got=None):
    global wrong
    if not ok:
        wrong += 1
        print(f"{what}: {got}")


# A little of protobuf's wire format, so that no generated code is needed.
def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(message):
    at, out = 0, {}

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(message):
        tag = number()
        if tag & 7 == 0:
            out[tag >> 3] = number()
        else:
            size = number()
            out[tag >> 3], at = message[at : at + size], at + size
    return out


def body(message):
    """The size of the payload in a response."""
    return len(fields(fields(message).get(1, b"")).get(2, b""))


def size(n, wait=0):
    """A ResponseParameters, as a field of the request."""
    return field(2, field(1, n) + field(2, wait))


def status(call):
    try:
        call()
        return 0, ""
    except grpc.RpcError as e:
        return e.code().value[0], e.details()


def main(port, ca=None):
    def channel(*options, **more):
        options += (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
        if ca is None:
            return grpc.insecure_channel(f"127.0.0.1:{port}", options, **more)
        return grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(open(ca, "rb").read()), options, **more)

    def payload(n):
        return field(3, field(2, b"x" * n))

    c = channel()
    unary, out = c.unary_unary(SERVICE + "UnaryCall"), c.unary_stream(SERVICE + "StreamingOutputCall")
    for n in (0, 1, 16384, 65536, 1 << 20, 3_900_000):
        check(f"{n} bytes there and back", body(unary(field(2, n) + payload(n))) == n)
    for code in range(1, 17):
        text = f"wörds % \n {code}"
        got = status(lambda: unary(field(7, field(1, code) + field(2, text.encode()))))
        check(f"status {code}", got == (code, text), got)
    check("a message too large", status(lambda: unary(payload(5 << 20)))[0] == 8)
    check("300 calls at once", [body(f.result()) for f in [unary.future(field(2, i)) for i in range(300)]] == list(range(300)))
    check("a stream of answers", [body(m) for m in out(b"".join(size(i) for i in range(200)))] == list(range(200)))
    total = c.stream_unary(SERVICE + "StreamingInputCall")(iter([field(1, field(2, b"y" * 3000))] * 500))
    check("a stream of requests", fields(total)[1] == 1_500_000)
    both = c.stream_stream(SERVICE + "FullDuplexCall")(iter([size(i) for i in range(100)]))
    check("both ways", [body(m) for m in both] == list(range(100)))
    began = time.monotonic()
    got = status(lambda: list(out(size(1, 3_000_000), timeout=0.3)))
    check("a deadline", got[0] == 4 and time.monotonic() - began < 2, got)
    call = out(size(1) + size(1, 3_000_000))
    next(call)
    call.cancel()
    got = status(lambda: next(call))
    check("canceled", got[0] == 1, got)
    gzip = channel(compression=grpc.Compression.Gzip).unary_unary(SERVICE + "UnaryCall")
    check("gzip", body(gzip(field(2, 100_000) + payload(100_000))) == 100_000)
    deflate = channel(compression=grpc.Compression.Deflate).unary_unary(SERVICE + "UnaryCall")
    got = status(lambda: deflate(payload(1000)))
    check("a compression that the server lacks", got[0] == 12, got)
    eager = channel(("grpc.keepalive_time_ms", 100), ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0))
    got = status(lambda: list(eager.unary_stream(SERVICE + "StreamingOutputCall")(size(1) + size(1, 1_500_000))))
    check("too many pings", got[0] in (0, 14), got)
    got = status(lambda: c.unary_unary(SERVICE + "Nope")(b""))
    check("a method that is not there", got[0] == 12, got)
    got = status(lambda: unary(b"", metadata=[("x-large", "v" * 70_000)]))
    check("metadata too large", got[0] in (8, 13, 14), got)
    check("and the next call", status(lambda: unary(b"")) == (0, ""))
    print("all well" if wrong == 0 else f"{wrong} wrong")


main(*sys.argv[1:])
