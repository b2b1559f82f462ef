//! WebSocket connections (RFC 6455) over HTTP/1.1: the handshake, and the tunnel that follows it.
//!
//! The gateway checks the handshake of the client and the 101 of the service itself. Then it copies bytes and reads no
//! frames, so extensions and subprotocols work unchanged. It cannot send a Close frame either: a tunnel that the gateway
//! ends is seen as status 1006.

mod accept;
mod handshake;
mod offers;
mod origin;
mod tunnel;

pub use accept::{InvalidSwitch, check_switch};
pub use handshake::{Handshake, HandshakeError, is_requested};
pub use offers::{Offers, OffersError, PROTOCOL};
pub use origin::may_connect;
pub use tunnel::{Direction, Ended, Limits, carry};
