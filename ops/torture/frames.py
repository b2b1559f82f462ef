"""HTTP/2 frames as bytes (RFC 9113 section 4.1), to send what client libraries do not allow."""

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE = 1, 4


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(**values):
    """A SETTINGS frame; `window` is SETTINGS_INITIAL_WINDOW_SIZE."""
    names = {"window": INITIAL_WINDOW_SIZE, "table": HEADER_TABLE_SIZE}
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", names[name], value) for name, value in values.items()))


def literal(name, value):
    """A header field, neither indexed nor Huffman-coded (RFC 7541 section 6.2.2)."""
    return b"\x00" + string(name) + string(value)


def string(text):
    """A string literal (RFC 7541 section 5.2)."""
    data = text.encode()
    return integer(len(data), 7) + data


def integer(value, bits):
    """An integer with a prefix of `bits` bits (RFC 7541 section 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([value])
    out, value = bytearray([most]), value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    out.append(value)
    return bytes(out)


def request(path, *fields, method="GET", authority="localhost"):
    """The header block of a request."""
    block = ((":method", method), (":scheme", "https"), (":authority", authority), (":path", path), *fields)
    return b"".join(literal(name, value) for name, value in block)


def parse(data):
    """The complete frames at the start of `data` as (kind, flags, stream, payload), and the remaining bytes."""
    frames = []
    while len(data) >= 9:
        length = int.from_bytes(data[:3], "big")
        if len(data) < 9 + length:
            break
        frames.append((data[3], data[4], int.from_bytes(data[5:9], "big") & 0x7FFFFFFF, data[9 : 9 + length]))
        data = data[9 + length :]
    return frames, data
