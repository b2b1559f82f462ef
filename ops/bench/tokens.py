"""Valid and invalid tokens for the gateway and the other servers."""

import base64
import hmac
import json
import secrets
import time

HEADER = '{"typ":"JWT","alg":"HS256"}'
IDENTITY = "user01"


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Mint:
    """Creates tokens with one secret."""

    def __init__(self, secret):
        self.secret = secret.encode()

    def token(self, lifetime=3600, age=0):
        """A token that was issued `age` seconds ago for `lifetime` seconds."""
        issued = int(time.time()) - age
        claims = {"exp": issued + lifetime, "iat": issued, "nbf": issued, "identity": IDENTITY, "jti": secrets.token_hex(16)}
        signed = f"{encode(HEADER.encode())}.{encode(json.dumps(claims, separators=(',', ':')).encode())}"
        return f"{signed}.{encode(hmac.digest(self.secret, signed.encode(), 'sha256'))}"

    def expired(self):
        """An expired token."""
        return self.token(lifetime=300, age=600)

    def forged(self):
        """A token whose signature is wrong by one bit."""
        signed, _, signature = self.token().rpartition(".")
        wrong = bytearray(base64.urlsafe_b64decode(signature + "="))
        wrong[0] ^= 1
        return f"{signed}.{encode(wrong)}"
