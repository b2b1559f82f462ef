//! The messages between the two processes.

use serde::{Deserialize, Serialize};

use crate::listening::Address;

/// The version of the messages. A program with another version is not upgraded to; it must be restarted.
pub(crate) const VERSION: u32 = 1;

/// A listening socket in [`Message::Sockets`].
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Tag {
    pub(crate) name: String,
    pub(crate) address: Address,
}

/// One message. Each is sent as one packet.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Message {
    /// To the new process: the descriptors that come with it are those of `listeners`, then the channels to the processes in
    /// `draining`, then [`Host::channel`](crate::Host::channel) if `has_channel`.
    Sockets {
        version: u32,
        listeners: Vec<Tag>,
        draining: Vec<u32>,
        #[serde(default)]
        has_channel: bool,
    },
    /// To the new process: what it requested is released.
    Released,
    /// To the new process: accept connections.
    Go,
    /// From the new process: it needs what only one process can have open.
    Release,
    /// From the new process: why it is not ready yet.
    Waiting(String),
    /// From the new process: why it exits.
    Failed(String),
    /// From the new process: it can accept connections.
    Ready,
    /// From the new process: it accepts connections.
    Taken,
}
