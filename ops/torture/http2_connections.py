"""Client connections for counting.py over HTTP/2."""

import frames
from connections import Connection, Crossed, Lost

WINDOW = 2**31 - 1
REFUSED_STREAM = 7
# The first GOAWAY of two names this stream (RFC 9113, section 6.8).
ANNOUNCED = 2**31 - 1
# Codes of the digits (RFC 7541, appendix B).
DIGITS = ["00000", "00001", "00010", "011001", "011010", "011011", "011100", "011101", "011110", "011111"]
STATUSES = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}  # appendix A


def huffman(status):
    bits = "".join(DIGITS[int(digit)] for digit in str(status))
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


CODED = {**{huffman(status): status for status in range(100, 1000)}, **{b"%d" % each: each for each in range(100, 1000)}}


class Http2(Connection):
    """HTTP/2 with concurrent requests."""

    alpn = "h2"

    def opened(self):
        self.buffer = b""
        self.exchanges = {}  # by stream
        self.uploads = {}  # by stream: [bytes to send, its window, whether the body ends after them]
        self.next = 1
        self.window, self.initial = 65535, 65535  # of the connection, and of new streams
        self.consumed = 0
        self.goaways = []  # their last stream ids
        # Without a dynamic table, each header block can be read for itself.
        start = frames.settings(window=WINDOW, table=0) + window_update(0, WINDOW - 65535)
        self.write(frames.PREFACE + start)

    def request(self, block, exchange, has_body=False):
        """Returns the number of the stream."""
        stream, self.next = self.next, self.next + 2
        self.exchanges[stream] = exchange
        flags = frames.END_HEADERS | (0 if has_body else frames.END_STREAM)
        if has_body:
            self.uploads[stream] = [b"", self.initial, False]
        self.write(frames.frame(frames.HEADERS, flags, stream, block))
        return stream

    def send_body(self, stream, piece, last):
        """Sends a piece of the body within the windows of the server."""
        if upload := self.uploads.get(stream):
            upload[0], upload[2] = upload[0] + piece, last
            self.send_uploads()

    def send_uploads(self):
        for stream, upload in list(self.uploads.items()):
            while upload[0] and (count := min(len(upload[0]), upload[1], self.window, 16384)) > 0:
                piece, upload[0] = upload[0][:count], upload[0][count:]
                upload[1] -= count
                self.window -= count
                is_last = upload[2] and not upload[0]
                self.write(frames.frame(frames.DATA, frames.END_STREAM if is_last else 0, stream, piece))
                if is_last:
                    self.uploads.pop(stream, None)

    def received(self, data):
        complete, self.buffer = frames.parse(self.buffer + data)
        for kind, flags, stream, payload in complete:
            if self.end is not None:
                return
            self.on_frame(kind, flags, stream, payload)
        if self.goaways and not self.exchanges:
            self.close()

    def on_frame(self, kind, flags, stream, payload):
        exchange = self.exchanges.get(stream)
        if kind == frames.HEADERS and exchange:
            exchange.begun = True
            if not exchange.status and (status := status_of(payload)) >= 200:
                exchange.head(status)
            if flags & frames.END_STREAM:
                self.finish(stream)
        elif kind == frames.DATA:
            self.consumed += len(payload)
            if self.consumed > 2**20:
                self.write(window_update(0, self.consumed))
                self.consumed = 0
            if exchange:
                exchange.data(payload)
                if flags & frames.END_STREAM:
                    self.finish(stream)
        elif kind == frames.RST_STREAM and exchange:
            code = int.from_bytes(payload, "big")
            self.exchanges.pop(stream)
            self.uploads.pop(stream, None)
            was_announced = code == REFUSED_STREAM and self.goaways and not exchange.begun
            exchange.fail(Crossed() if was_announced else Lost(f"reset of the stream: {code}"))
        elif kind == frames.SETTINGS and not flags & frames.ACK:
            self.on_settings(payload)
        elif kind == frames.PING and not flags & frames.ACK:
            self.write(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.WINDOW_UPDATE:
            increment = int.from_bytes(payload, "big")
            if stream == 0:
                self.window += increment
            elif stream in self.uploads:
                self.uploads[stream][1] += increment
            self.send_uploads()
        elif kind == frames.GOAWAY:
            self.on_goaway(int.from_bytes(payload[:4], "big") & 0x7FFFFFFF)

    def on_settings(self, payload):
        for at in range(0, len(payload), 6):
            name, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
            if name == frames.INITIAL_WINDOW_SIZE:
                for upload in self.uploads.values():
                    upload[1] += value - self.initial
                self.initial = value
        self.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self.send_uploads()

    def on_goaway(self, last):
        self.usable = False
        self.goaways.append(last)
        for stream in [stream for stream in self.exchanges if stream > last]:
            self.uploads.pop(stream, None)
            exchange = self.exchanges.pop(stream)
            exchange.fail(Lost("partial response to a stream above that of the GOAWAY") if exchange.begun else Crossed())

    def finish(self, stream):
        self.uploads.pop(stream, None)
        self.exchanges.pop(stream).finish()

    def cancel(self, stream):
        """Gives up a request."""
        if self.exchanges.pop(stream, None):
            self.uploads.pop(stream, None)
            self.write(frames.frame(frames.RST_STREAM, 0, stream, (8).to_bytes(4, "big")))

    def closed(self):
        exchanges, self.exchanges = self.exchanges, {}
        for exchange in exchanges.values():
            what = "partial response" if exchange.begun else "no response"
            exchange.fail(Lost(f"{what}: {self.end}"))


def window_update(stream, increment):
    return frames.frame(frames.WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def status_of(block):
    """The status in the first field of a header block without a dynamic table (RFC 7541, section 6), after an update of the
    table's size."""
    while block[0] & 0xE0 == 0x20:
        block = block[1:]  # a size below 31
    if status := STATUSES.get(block[0]):
        return status
    if block[0] not in (0x08, 0x18, 0x48):
        return 0  # trailers
    return CODED[block[2 : 2 + (block[1] & 0x7F)]]
